"""Which ticks are fired after whatever time nobody looked."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from src.rules.schedule import Schedule, parse_schedule
from src.rules.ticks import GRACE, CatchUp, due, latest_until, shift_s, shortest_gap, usual_catch_up
from tests.harness.walk import EXPRESSIONS, START, YEARS, ZONES, changes, fired, told

NOON = datetime(2026, 5, 14, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TEXTS = ["*/5 * * * *", "@every 20s", "@every 90s", "0 2 * * *", "0 8 * * 1"]


def schedule(text: str, zone: str = "UTC") -> Schedule:
    parsed = parse_schedule(text, ZoneInfo(zone))
    assert parsed is not None
    return parsed


def between(text: str, after: datetime, through: datetime) -> list[datetime]:
    ticks, tick = [], schedule(text).next_after(after)
    while tick <= through:
        ticks.append(tick)
        tick = schedule(text).next_after(tick)
    return ticks


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_clock_that_walks_two_years_fires_what_a_list_of_all_minutes_says(expression: str, zone: str) -> None:
    """The days around each change of the clocks and some others; `scripts/bench/schedules.py` walks every minute."""
    where = ZoneInfo(zone)
    around = changes(where, START, START + YEARS)
    for number, day in enumerate([*around, START + 58 * DAY, START + 364 * DAY]):
        start, end = day - DAY / 4, day + DAY * 5 / 4
        assert list(fired(expression, where, start, end, seed=number)) == list(told(expression, where, start, end))
    assert len(around) == {"Asia/Ho_Chi_Minh": 0, "America/Sao_Paulo": 0}.get(zone, 4)


@hypothesis(deadline=None)
@given(
    st.lists(st.floats(0.1, 9_000), min_size=1, max_size=6),
    st.sampled_from(TEXTS),
    st.sampled_from(["none", "latest", "all"]),
    st.integers(1, 50),
)
def test_every_tick_is_fired_or_missed_once_and_in_order(
    pauses: list[float], text: str, catch_up: CatchUp, most: int
) -> None:
    """Whatever the pauses between two looks: no tick is lost without being counted, none comes early or twice."""
    now, through, took, missed = NOON, NOON, list[datetime](), 0
    for pause in pauses:
        now += timedelta(seconds=pause)
        found = due(schedule(text), through, now, catch_up=catch_up, most=most)
        late = [tick for tick in found.fire if tick < now - GRACE]
        assert len(late) <= {"none": 0, "latest": 1, "all": most}[catch_up]
        assert found.missed is None or found.missed.first <= found.missed.last < now - GRACE
        missed += found.missed.count if found.missed else 0
        took += found.fire
        through = found.through
    ticks = between(text, NOON, now)
    assert took == sorted(set(took))
    assert set(took) <= set(ticks)
    assert len(took) + missed == len(ticks)
    assert [tick for tick in ticks if tick >= now - GRACE] == [tick for tick in took if tick >= now - GRACE]


@pytest.mark.parametrize(
    ("text", "catch_up", "last", "fire", "missed"),
    [
        ("0 2 * * *", "latest", NOON - DAY, [NOON - 10 * HOUR], 0),
        ("0 2 * * *", "latest", NOON - 9 * DAY, [NOON - 10 * HOUR], 8),
        ("0 2 * * *", "none", NOON - DAY, [], 1),
        ("0 2 * * *", "latest", NOON - 10 * HOUR, [], 0),
        ("0 12 * * *", "latest", NOON - DAY, [NOON], 0),
        ("0 * * * *", "all", NOON - 3 * HOUR, [NOON - 2 * HOUR, NOON - HOUR, NOON], 0),
        ("0 * * * *", "latest", NOON - 3 * HOUR, [NOON], 2),
        ("*/5 * * * *", "none", NOON - DAY, [NOON], 287),
    ],
    ids=[
        *("the night's", "of nine the last", "it does not want them", "nothing was missed", "due at this moment"),
        *("all", "the one on time stands for those before", "minutes"),
    ],
)
def test_what_is_made_up(text: str, catch_up: CatchUp, last: datetime, fire: list[datetime], missed: int) -> None:
    """As the schedule says, and no more."""
    found = due(schedule(text), last, NOON, catch_up=catch_up)
    assert list(found.fire) == fire
    assert (found.missed.count if found.missed else 0) == missed


def test_of_all_ticks_the_last_ones_are_made_up() -> None:
    """A bound keeps a long absence from a burst; what falls out of it is told."""
    found = due(schedule("@every 1m"), NOON - DAY, NOON, catch_up="all", most=10)
    assert found.fire == tuple(NOON - number * timedelta(minutes=1) for number in range(10, -1, -1))
    assert found.missed is not None
    assert (found.missed.count, found.missed.last) == (1_429, NOON - timedelta(minutes=11))


def test_a_schedule_of_seconds_that_slept_for_a_year_is_told_of_at_once() -> None:
    """Its ticks are not counted one by one until somebody's patience ends."""
    found = due(schedule("* * * * * *"), NOON - 365 * DAY, NOON, catch_up="latest")
    assert found.through == NOON
    assert len(found.fire) == 31
    assert found.missed is not None
    assert found.missed.last == NOON - timedelta(seconds=31)


def test_a_clock_that_goes_back_fires_nothing_again() -> None:
    """Until it has come as far as it was."""
    found = due(schedule("* * * * *"), NOON, NOON - HOUR, catch_up="all")
    assert (found.fire, found.missed, found.through) == ((), None, NOON)


@pytest.mark.parametrize(
    ("text", "usual"),
    [("0 2 * * *", "latest"), ("@every 12h", "latest"), ("0 */6 * * *", "none"), ("0 6,22 * * *", "none")],
)
def test_daily_ones_are_made_up_where_nothing_is_said(text: str, usual: str) -> None:
    """The others come again by themselves soon enough; all workers say the same, whenever they began."""
    assert {usual_catch_up(schedule(text), NOON + hours * HOUR) for hours in range(24)} == {usual}


@pytest.mark.parametrize(
    ("text", "gap"),
    [("0 8,9,10 * * *", HOUR), ("*/7 * * * *", 4 * MINUTE), ("0 3 * * 1,3", 2 * DAY), ("0 0,1 1 1 *", HOUR)],
)
def test_the_shortest_time_between_ticks_is_found_whatever_time_it_is(text: str, gap: timedelta) -> None:
    """Ticks that are no even time apart must not be judged by the next two."""
    assert {shortest_gap(schedule(text), NOON + hours * HOUR) for hours in range(0, 200, 7)} == {gap}


@hypothesis(deadline=None)
@given(st.sampled_from([*TEXTS, "0 0 1 1 *", "0 0 29 2 *"]), st.integers(0, 2_000 * 86_400))
def test_the_latest_tick_is_the_one_after_which_now_comes_before_the_next(text: str, seconds: int) -> None:
    """All workers of a new shop find the same one."""
    now = NOON + timedelta(seconds=seconds)
    latest = latest_until(schedule(text), now)
    if latest is None:
        assert text == "0 0 29 2 *"
        return
    assert latest <= now < schedule(text).next_after(latest)


@given(st.text(min_size=1), st.integers(0, 2**31), st.floats(0, 86_400))
def test_jitter_is_the_same_for_every_worker(name: str, seconds: int, jitter_s: float) -> None:
    """And stays within what was allowed."""
    tick = datetime.fromtimestamp(seconds, UTC)
    shift = shift_s(name, tick, jitter_s)
    assert shift == shift_s(name, tick, jitter_s)
    assert 0 <= shift <= jitter_s
