"""A few seeds of the harness; `python -m scripts.bench.sync_seeds` runs a hundred."""

import pytest

from tests.conftest import Servers
from tests.harness import StreamName, run_seed

# 140 conversations of each world share a second. Of the two worlds of conversations one has a cursor that works, and
# sweeps that look for deleted rows; in the other the cursor is ignored.
SEEDS: list[tuple[StreamName, int]] = [
    *(("customers", seed) for seed in (1, 2, 3)),
    ("posts", 1),
    *(("conversations", seed) for seed in (8, 2)),
]


@pytest.mark.parametrize(("stream", "seed"), SEEDS)
def test_nothing_is_lost(servers: Servers, stream: StreamName, seed: int) -> None:
    """In a world full of faults, killed at random moments: no row missing, stale, wrongly deleted; bad ones named.

    Of conversations: every message is there too, and each conversation stands as its messages say.
    """
    verdict = run_seed(seed, "ours", servers, stream=stream)
    assert verdict.is_clean, verdict
    assert verdict.kills >= 5


def test_the_naive_algorithm_loses_rows(servers: Servers) -> None:
    """The harness is hard enough: the algorithm of the original guide does not pass it."""
    verdict = run_seed(1, "naive", servers)
    assert verdict.missing + verdict.stale > 0, verdict
    assert not verdict.bugs
