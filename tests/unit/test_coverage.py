"""What counts as read. A wrong answer here loses customers for ever, without a trace."""

import random
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.coverage import Coverage, Mode, Sweep, due_for_sweep, gaps, has_history, has_read
from src.rules.intervals import Spans, clip, subtract, union

HORIZON = 300
SECOND = st.integers(0, HORIZON)
LIMITS = st.fixed_dictionaries({"settle_s": st.integers(0, 20), "overlap_s": st.integers(0, 60)})
Limits = dict[str, int]


@dataclass(frozen=True)
class Reading:
    """One stored answer."""

    mode: Mode
    span: tuple[int, int]
    as_of: int


READINGS = st.lists(
    st.builds(Reading, st.sampled_from(["incremental", "backfill"]), st.tuples(SECOND, SECOND), SECOND), max_size=12
)
STATES = st.builds(
    lambda settled, recent, initial_from: Coverage(
        settled=union(settled), recent=subtract(recent, settled), initial_from=initial_from
    ),
    st.lists(st.tuples(SECOND, SECOND), max_size=5),
    st.lists(st.tuples(SECOND, SECOND), max_size=3),
    st.none() | SECOND,
)


def after(state: Coverage, readings: list[Reading], limits: Limits) -> Coverage:
    for reading in readings:
        state = has_read(state, reading.mode, reading.span, reading.as_of, **limits)
    return state


def holds(outer: Spans, inner: Spans) -> bool:
    return not subtract(inner, outer)


@given(STATES, READINGS, LIMITS)
def test_reading_never_forgets(state: Coverage, readings: list[Reading], limits: Limits) -> None:
    """Whatever is read, nothing that was settled or covered before is lost."""
    states = [after(state, readings[:count], limits) for count in range(len(readings) + 1)]
    for before, later in pairwise(states):
        assert holds(later.settled, before.settled)
        assert holds(later.covered, before.covered)


@given(STATES, READINGS, LIMITS)
def test_a_reading_saved_twice_is_one_saved_once(state: Coverage, readings: list[Reading], limits: Limits) -> None:
    """A pass that dies after saving, or two at once, report the same answers again without harm."""
    once = after(state, readings, limits)
    assert after(once, readings, limits) == once


@given(STATES, READINGS, LIMITS, st.randoms(use_true_random=False))
def test_the_order_of_readings_does_not_matter(
    state: Coverage, readings: list[Reading], limits: Limits, rng: random.Random
) -> None:
    """Passes at the same time save in any order and end in the same state."""
    shuffled = rng.sample(readings, len(readings))
    assert after(state, shuffled, limits) == after(state, readings, limits)


@given(READINGS, LIMITS)
def test_the_newest_seconds_never_count(readings: list[Reading], limits: Limits) -> None:
    """A second is covered only `settle` after it passed, and settled only `settle + overlap` after."""
    state = after(Coverage(), readings, limits)
    newest = max((reading.as_of for reading in readings), default=0)
    assert not clip(state.covered, newest - limits["settle_s"] + 1, HORIZON)
    assert not clip(state.settled, newest - limits["settle_s"] - limits["overlap_s"] + 1, HORIZON)
    assert state.mark is None or 0 <= state.mark <= newest - limits["settle_s"]
    assert not clip(state.settled, -HORIZON, -1)


@given(STATES, SECOND, st.integers(1, 2 * HORIZON))
def test_an_incremental_pass_asks_for_all_that_is_not_settled(state: Coverage, now: int, initial_s: int) -> None:
    """Gaps and settled seconds share no second and leave none out, from where the first pass began to now."""
    start = state.initial_from if state.initial_from is not None else max(now - initial_s, 0)
    found = gaps(state, "incremental", now, initial_s=initial_s)
    assert holds(union(found, state.settled), ((start, now),))
    assert holds(((start, now),), found)
    assert subtract(found, state.settled) == found


@given(STATES, SECOND)
def test_a_backfill_asks_for_all_before_the_first_pass(state: Coverage, now: int) -> None:
    """It reaches down to second 0 and up to where the incremental passes begin, so nothing lies between the two."""
    end = now if state.initial_from is None else state.initial_from - 1
    found = gaps(state, "backfill", now, initial_s=30)
    assert holds(union(found, state.settled), ((0, end),))
    assert holds(((0, end),), found)


@st.composite
def stories(draw: st.DrawFn) -> tuple[Limits, list[tuple[int, int, int]], int, int, random.Random]:
    """Limits, passes as (start, seconds per answer, answers before the crash), a row's stamp, its delay, chance."""
    limits = draw(LIMITS)
    stamp = draw(st.integers(50, 150))
    delay = draw(st.integers(0, limits["settle_s"] + limits["overlap_s"]))
    starts = sorted(draw(st.lists(st.integers(40, 260), max_size=10)))
    passes = [(start, draw(st.integers(0, 5)), draw(st.integers(0, 6))) for start in starts]
    return limits, passes, stamp, delay, draw(st.randoms(use_true_random=False))


def chunks(spans: Spans, rng: random.Random) -> list[tuple[int, int]]:
    """The spans as answers of any size, newest first."""
    out: list[tuple[int, int]] = []
    for low, high in reversed(spans):
        while low <= high:
            start = rng.randint(low, high)
            out.append((start, high))
            high = start - 1
    return out


@given(stories())
def test_a_late_row_is_read_after_it_shows(
    story: tuple[Limits, list[tuple[int, int, int]], int, int, random.Random],
) -> None:
    """Passes start at any time and die anywhere; a row at most settle + overlap late is met by one that can see it."""
    limits, passes, stamp, delay, rng = story
    state = Coverage(initial_from=30)
    met = False
    end = max([start + pause * answers for start, pause, answers in passes], default=0)
    final = max(end, stamp + limits["settle_s"] + limits["overlap_s"])
    for start, pause, answers in [*passes, (final, 0, HORIZON)]:
        todo = chunks(gaps(state, "incremental", start + 1, initial_s=0), rng)
        for number, span in enumerate(todo[:answers]):
            as_of = start + pause * number
            met = met or (span[0] <= stamp <= span[1] and as_of >= stamp + delay)
            state = has_read(state, "incremental", span, as_of, **limits)
    assert met


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(0, 200), st.randoms(use_true_random=False))
def test_a_backfill_that_keeps_dying_ends_complete(crashes: list[int], first: int, rng: random.Random) -> None:
    """Each pass goes on where the last one died, down to second 0, and reads no settled second twice."""
    state = Coverage(initial_from=first)
    state = has_read(state, "incremental", (first, 250), 300, settle_s=5, overlap_s=20)
    for answers in [*crashes, HORIZON]:
        todo = chunks(gaps(state, "backfill", 300, initial_s=0), rng)
        for span in todo[:answers]:
            assert subtract([span], state.settled) == (span,)
            state = has_read(state, "backfill", span, 300, settle_s=5, overlap_s=20)
    assert has_history(state)
    assert gaps(state, "backfill", 300, initial_s=0) == ()
    assert state.settled == ((0, 250),)


def test_nothing_read_is_no_history() -> None:
    """An empty state is not taken for one whose history happens to be empty."""
    assert not has_history(Coverage())
    assert not has_history(Coverage(initial_from=100, settled=((100, 200),)))
    assert has_history(Coverage(initial_from=100, settled=((0, 99),)))


@given(STATES, st.lists(st.tuples(SECOND, SECOND), max_size=5), SECOND)
def test_a_sweep_reads_everything_again_and_leaves_the_rest_alone(
    state: Coverage, spans: list[tuple[int, int]], until: int
) -> None:
    """It keeps its own account: what other passes settled is not skipped, and what it reads settles nothing."""
    sweeping = replace(state, sweep=Sweep(started_at=0.0, until=until))
    assert gaps(sweeping, "sweep", 0, initial_s=0) == ((0, until),)
    for span in spans:
        sweeping = has_read(sweeping, "sweep", span, HORIZON, settle_s=0, overlap_s=0)
    assert replace(sweeping, sweep=None) == state
    assert gaps(sweeping, "sweep", 0, initial_s=0) == subtract([(0, until)], spans)


@pytest.mark.parametrize("sweep", [None, Sweep(0.0, 50, finished_at=1.0)], ids=["none", "finished"])
def test_without_an_open_sweep_there_is_nothing_to_sweep(sweep: Sweep | None) -> None:
    """A sweep that was read to its end, or never begun, asks for no call."""
    assert gaps(Coverage(sweep=sweep), "sweep", 100, initial_s=0) == ()
    without = Coverage(settled=((0, 9),))
    assert has_read(without, "sweep", (10, 20), 100, settle_s=0, overlap_s=0) == without


COMPLETE = Coverage(settled=((0, 99),), initial_from=50, swept_at=1000.0)


@pytest.mark.parametrize(
    ("state", "now", "every_s", "due"),
    [
        (COMPLETE, 1100.0, 100.0, True),
        (COMPLETE, 1099.0, 100.0, False),
        (COMPLETE, 9999.0, 0.0, False),
        (replace(COMPLETE, swept_at=None), 9999.0, 100.0, False),
        (replace(COMPLETE, settled=((1, 99),)), 9999.0, 100.0, False),
        (replace(COMPLETE, sweep=Sweep(1000.0, 50)), 9999.0, 100.0, False),
    ],
    ids=["long ago", "not long ago", "switched off", "nothing to count from", "history incomplete", "already begun"],
)
def test_when_a_sweep_is_due(state: Coverage, now: float, every_s: float, due: bool) -> None:
    """A full re-read begins once the last one is long enough ago, and not while history or another sweep is open."""
    assert due_for_sweep(state, now, every_s) is due
