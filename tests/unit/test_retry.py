"""How long to wait: never all at once, never before the other side said, never for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.retry import BASE_S, CAP_S, JITTER_SPAN, wait_s

ATTEMPT = st.integers(1, 10_000)
CHANCE = st.floats(0, 1, exclude_max=True)
SECONDS = st.floats(0.001, 10_000)


@given(ATTEMPT, CHANCE, SECONDS, SECONDS)
def test_backoff_stays_within_its_bounds(attempt: int, chance: float, base_s: float, cap_s: float) -> None:
    """From 0 to the base doubled per attempt, and never above the cap, at any number of attempts."""
    wait = wait_s(attempt, lambda: chance, base_s=base_s, cap_s=cap_s)
    assert 0 <= wait <= cap_s
    assert wait <= base_s * 2.0 ** min(attempt, 1000)


@given(ATTEMPT, CHANCE, SECONDS, SECONDS)
def test_a_later_attempt_never_has_a_shorter_reach(attempt: int, chance: float, base_s: float, cap_s: float) -> None:
    """With the same luck, waiting only gets longer."""
    first = wait_s(attempt, lambda: chance, base_s=base_s, cap_s=cap_s)
    assert wait_s(attempt + 1, lambda: chance, base_s=base_s, cap_s=cap_s) >= first


@pytest.mark.parametrize(
    ("attempt", "chance", "wait"),
    [(1, 0.0, 0.0), (1, 0.5, BASE_S), (2, 0.5, 2 * BASE_S), (4, 0.25, 4 * BASE_S), (99, 0.5, CAP_S / 2)],
    ids=["full jitter", "first", "second", "fourth", "at the cap"],
)
def test_the_reach_doubles_with_each_attempt(attempt: int, chance: float, wait: float) -> None:
    """Full jitter: the wait is that part of the doubled base which chance says."""
    assert wait_s(attempt, lambda: chance) == wait


@given(ATTEMPT, CHANCE, st.floats(0, CAP_S))
def test_a_hint_is_never_undercut(attempt: int, chance: float, hint_s: float) -> None:
    """The other side's own number is waited out, with up to a fifth more so that not all come back at once."""
    wait = wait_s(attempt, lambda: chance, hint_s=hint_s)
    assert hint_s <= wait <= hint_s * (1 + JITTER_SPAN)


def test_a_hint_beyond_our_cap_is_not_undercut_either() -> None:
    """Our cap is for our own guesses; a side that asks for an hour is not called after ten minutes."""
    assert wait_s(1, lambda: 0.0, hint_s=6 * CAP_S) >= 6 * CAP_S
