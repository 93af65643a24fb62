"""A few seeds of the harness; `python -m scripts.bench.sync_seeds` runs a hundred."""

import pytest

from tests.conftest import Servers
from tests.harness import run_seed


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost(servers: Servers, seed: int) -> None:
    """In a world full of faults, killed at random moments: no row missing, stale, wrongly deleted; bad ones named."""
    verdict = run_seed(seed, "ours", servers)
    assert verdict.is_clean, verdict
    assert verdict.kills >= 5


def test_the_naive_algorithm_loses_rows(servers: Servers) -> None:
    """The harness is hard enough: the algorithm of the original guide does not pass it."""
    verdict = run_seed(1, "naive", servers)
    assert verdict.missing + verdict.stale > 0, verdict
    assert not verdict.bugs
