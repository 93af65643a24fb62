"""What is trouble of the machine: failures in a row, long runs, late schedules, dead letters; and how many notices."""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.machine import (
    LETTER_S,
    MOST_NOTICES,
    STALE_S,
    Growth,
    Progress,
    Word,
    fails_still,
    failures_in_row,
    grown,
    is_too_old,
    longest_s,
    punctuality,
    to_tell,
)
from src.rules.schedule import Schedule, parse_schedule

NOW = 1_790_042_400.0
ENDS = st.sampled_from(["done", "retry", "dead"])


@dataclass(frozen=True)
class Ran:
    end: str
    at: float = NOW - 5


def ran(*ends: str, ago: float = 5) -> list[Ran]:
    """Runs that ended so, the newest first."""
    return [Ran(end, NOW - ago - place) for place, end in enumerate(ends)]


@given(st.lists(ENDS), st.lists(ENDS))
def test_a_row_ends_with_what_was_done(new: list[str], old: list[str]) -> None:
    """What lies before the last success is history."""
    failed = [end for end in new if end != "done"]
    assert failures_in_row(ran(*failed, "done", *old)) == len(failed)
    assert failures_in_row(ran(*failed)) == len(failed)


@pytest.mark.parametrize(
    ("ends", "ago", "is_scheduled", "is_letter_open", "fails"),
    [
        ("retry", 5, False, None, True),
        ("retry", STALE_S + 5, False, None, False),
        ("retry", 20 * STALE_S, True, None, True),
        ("dead", 5, False, True, True),
        ("dead", 5, False, False, False),
        ("dead", 5, False, None, True),
        ("dead", LETTER_S + 5, False, None, False),
        ("dead", STALE_S + 5, False, True, False),
        ("dead", 20 * STALE_S, True, True, True),
        ("dead", 20 * STALE_S, True, False, False),
        ("done", 5, True, True, False),
        ("", 5, True, True, False),
    ],
    ids=[
        "is tried again",
        "its job is gone from the queue",
        "its schedule starts it once a day",
        "died",
        "replayed",
        "its letter is not written yet",
        "dropped",
        "never runs again",
        "died, and will run tomorrow",
        "the daily one was replayed",
        "was done since",
        "nothing is known",
    ],
)
def test_a_row_of_failures_is_trouble_until_it_is_over(
    ends: str, ago: float, *, is_scheduled: bool, is_letter_open: bool | None, fails: bool
) -> None:
    runs = ran(ends, "retry", "retry", ago=ago) if ends else []
    assert fails_still(runs, NOW, is_scheduled=is_scheduled, is_letter_open=is_letter_open) is fails


@pytest.mark.parametrize(
    ("runs", "p99_s", "timeout_s", "limit_s"),
    [
        (1000, 50.0, 300.0, 150.0),
        (1000, 0.1, 300.0, 60.0),
        (1000, 200.0, 300.0, 270.0),
        (19, 1.0, 300.0, 270.0),
        (0, 0.0, 30.0, 60.0),
    ],
    ids=["three times as long", "short ones", "near its timeout", "hardly known", "its timeout is soon enough"],
)
def test_how_long_a_run_may_take(runs: int, p99_s: float, timeout_s: float, limit_s: float) -> None:
    assert longest_s(runs, p99_s, timeout_s, 60.0) == pytest.approx(limit_s)


@given(st.integers(0, 100), st.floats(0, 1e6), st.floats(0.1, 1e5), st.floats(0.1, 1e4))
def test_a_run_is_told_of_before_its_timeout_or_not_at_all(runs: int, p99: float, timeout: float, least: float) -> None:
    limit = longest_s(runs, p99, timeout, least)
    assert limit >= least
    assert limit < timeout or least >= 0.9 * timeout


MINUTELY = "* * * * *"
DAILY = "0 9 * * *"  # NOW, in Vietnam


def schedule(text: str) -> Schedule:
    found = parse_schedule(text, ZoneInfo("Asia/Ho_Chi_Minh"))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "progress", "after_s", "word"),
    [
        (MINUTELY, Progress(), 500, "on_time"),
        (MINUTELY, Progress(decided=NOW), 59, "on_time"),
        (MINUTELY, Progress(decided=NOW), 61, "unsure"),
        (MINUTELY, Progress(decided=NOW), 60 + 121, "not_fired"),
        (MINUTELY, Progress(decided=NOW - 7200, active_from=NOW), 59, "on_time"),
        (DAILY, Progress(decided=NOW - 86_400), 121, "not_fired"),
        (DAILY, Progress(decided=NOW), 86_399, "on_time"),
        (DAILY, Progress(decided=NOW, waits_since=NOW), 100, "unsure"),
        (DAILY, Progress(decided=NOW, waits_since=NOW), 121, "waits"),
        (DAILY, Progress(decided=NOW - 2 * 86_400, missed=(NOW - 86_400, NOW)), 100, "nobody_there"),
        (DAILY, Progress(decided=NOW - 86_400, missed=(NOW, NOW)), 100, "unsure"),
        (DAILY, Progress(decided=NOW, missed=(NOW, NOW)), 121, "nobody_there"),
        (DAILY, Progress(decided=NOW - 86_400, missed=(NOW, NOW)), 121, "nobody_there"),
        (DAILY, Progress(decided=NOW, missed=(NOW - 86_400, NOW - 86_400)), 121, "on_time"),
        (MINUTELY, Progress(decided=NOW - 7200, missed=(NOW - 7140, NOW)), 50, "unsure"),
    ],
    ids=[
        "is new",
        "ran, and waits for the next",
        "is to be fired this moment",
        "was not fired",
        "was changed, and what was before does not count",
        "a daily one was not fired",
        "a daily one waits all day",
        "is about to start",
        "does not start",
        "nobody was there for two days",
        "nobody was there a moment ago",
        "nobody was there",
        "nobody was there, and that is not noted as its last tick",
        "has run since",
        "runs again in a moment",
    ],
)
def test_a_schedule_runs_when_it_should_or_not(text: str, progress: Progress, after_s: float, word: Word) -> None:
    assert punctuality(schedule(text), progress, NOW + after_s, 120.0).word == word


@given(st.floats(0, 3e5), st.sampled_from([MINUTELY, DAILY, "@every 7s", "0 2 1 * *"]), st.floats(1, 1e4))
def test_who_fires_each_tick_is_never_late(after_s: float, text: str, grace_s: float) -> None:
    """Whenever one looks, and however long it is given."""
    now = NOW + after_s
    found = schedule(text)
    last = found.next_after(datetime.fromtimestamp(now - 40 * 86_400, UTC))
    if text != "@every 7s" and text != MINUTELY:
        while (following := found.next_after(last)).timestamp() <= now:
            last = following
    else:
        last = found.next_after(datetime.fromtimestamp(now - (7 if text != MINUTELY else 60), UTC))
        assert last.timestamp() <= now
    assert punctuality(found, Progress(decided=last.timestamp()), now, grace_s).word == "on_time"


def test_dead_letters_are_told_of_until_they_are_dealt_with() -> None:
    first = grown(None, 7, NOW)
    assert not first.is_trouble, "what was there before anybody looked is no news"
    more = grown(first, 9, NOW + 60)
    assert more.is_trouble
    assert (more.count - more.mark, more.since) == (2, NOW + 60)
    assert grown(more, 8, NOW + 120).is_trouble
    assert not grown(more, 7, NOW + 120).is_trouble


def test_dead_letters_that_stay_are_known_of_after_an_hour() -> None:
    """And the next one is news again. As long as they come, the hour begins anew."""
    more = grown(Growth(0, 0), 3, NOW)
    still = grown(more, 4, NOW + STALE_S - 1)
    assert grown(still, 4, NOW + STALE_S + 1).is_trouble
    over = grown(still, 4, NOW + 2 * STALE_S)
    assert not over.is_trouble
    assert grown(over, 5, NOW + 2 * STALE_S + 15).is_trouble


@given(st.lists(st.integers(0, 50), min_size=1))
def test_the_mark_is_never_above_what_there_is(counts: list[int]) -> None:
    state: Growth | None = None
    for place, count in enumerate(counts):
        state = grown(state, count, NOW + 15 * place)
        assert 0 <= state.mark <= state.count == count


def test_a_lane_is_told_of_until_it_is_well_below_the_limit() -> None:
    """Not at each of the looks between which it is a little above and a little below."""
    assert [is_too_old(age, 600.0, is_told=False) for age in (599, 601)] == [False, True]
    assert [is_too_old(age, 600.0, is_told=True) for age in (599, 301, 299)] == [True, True, False]


NAMES = st.frozensets(st.sampled_from("abcdefghijklmnopqrst"))


@given(NAMES, NAMES, st.booleans())
def test_no_look_tells_of_more_than_so_many(wrong: frozenset[str], told: frozenset[str], summed: bool) -> None:
    """Each that is wrong has a notice then: its own, or the one that stands for many."""
    new, is_many = to_tell(wrong, told, is_summed=summed)
    assert len(new) <= MOST_NOTICES
    assert new <= wrong - told
    assert is_many or new == wrong - told


def test_one_notice_stands_for_many_until_few_are_left() -> None:
    many = [str(number) for number in range(11)]
    assert to_tell(many, [], is_summed=False) == (frozenset(), True)
    assert to_tell(many[:10], [], is_summed=False) == (frozenset(many[:10]), False)
    assert to_tell(many[:6], [], is_summed=True) == (frozenset(), True)
    assert to_tell(many[:5], [], is_summed=True) == (frozenset(many[:5]), False)
    assert to_tell(many, many[:1], is_summed=False) == (frozenset(many[1:]), False)
