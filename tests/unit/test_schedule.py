"""When schedules fire, compared with a plain walk over every minute of the weekends on which clocks change."""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.schedule import Schedule, parse_schedule
from tests.harness.walk import MINUTE, told

DAYS = 3
#: Zone, and the Saturday before a change of its clocks: forward, back; half an hour in Lord Howe; never in Vietnam.
WEEKENDS = [
    ("Europe/Lisbon", datetime(2026, 3, 28, tzinfo=UTC)),
    ("Europe/Lisbon", datetime(2026, 10, 24, tzinfo=UTC)),
    ("Europe/London", datetime(2026, 3, 28, tzinfo=UTC)),
    ("Europe/London", datetime(2026, 10, 24, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 10, 31, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, tzinfo=UTC)),
    ("Asia/Ho_Chi_Minh", datetime(2026, 3, 28, tzinfo=UTC)),
]
EXPRESSIONS = [
    *("*/5 * * * *", "0 2 * * *", "30 2 * * *", "30 1 * * *", "15 */2 * * *", "0 8 * * 1", "*/20 1-3 * * *"),
    *("0 3 * * *", "45 1,2 * * *"),
]
CASES = [(expression, *weekend) for expression in EXPRESSIONS for weekend in WEEKENDS]


def parsed(text: str, zone: str = "UTC") -> Schedule:
    schedule = parse_schedule(text, ZoneInfo(zone))
    assert schedule is not None
    return schedule


@cache
def walked(expression: str, zone_name: str, start: datetime) -> tuple[datetime, ...]:
    """The ticks of `DAYS` days by the rule itself, minute by minute."""
    return tuple(told(expression, ZoneInfo(zone_name), start, start + timedelta(days=DAYS)))


@pytest.mark.parametrize(("expression", "zone", "start"), CASES, ids=str)
def test_ticks_are_those_of_a_walk_over_every_minute(expression: str, zone: str, start: datetime) -> None:
    """Nothing fires twice, is lost or comes early on the nights the clocks change."""
    schedule, end = parsed(expression, zone), start + timedelta(days=DAYS)
    ticks, at = [], schedule.next_after(start - timedelta(seconds=1))
    while at < end:
        ticks.append(at)
        at = schedule.next_after(at)
    assert tuple(ticks) == walked(expression, zone, start)
    assert at > end - MINUTE


@given(st.sampled_from(CASES), st.integers(0, (DAYS - 1) * 86_400 * 1_000_000 - 1))
def test_the_next_tick_is_the_first_later_one_from_any_instant(
    case: tuple[str, str, datetime], microseconds: int
) -> None:
    """Also from within a skipped or repeated hour, and from between two seconds."""
    expression, zone, start = case
    instant = start + timedelta(microseconds=microseconds)
    ticks = walked(*case)
    place = bisect_right(ticks, instant)
    found = parsed(expression, zone).next_after(instant.astimezone(ZoneInfo(zone)))
    assert found > instant
    if place < len(ticks):
        assert found == ticks[place]
    else:
        assert found >= start + timedelta(days=DAYS)


@pytest.mark.timeout(5)
@pytest.mark.parametrize("before_ms", [1, 300, 999, 1_300, 1_999, 2_500, 180_300])
def test_between_two_seconds_just_before_a_change_of_the_clocks(before_ms: int) -> None:
    """A worker that starts in the last minutes before the clocks change finds its next tick, and does not hang."""
    change = datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert parsed("*/5 * * * *", "Europe/Lisbon").next_after(change - timedelta(milliseconds=before_ms)) == change


ANY_SCHEDULE = st.sampled_from(
    [
        *EXPRESSIONS,
        "*/10 * * * * *",
        "30 0 2 * * *",
        "@hourly",
        "@weekly",
        "@yearly",
        "@every 7s",
        "@every 90m",
        "@every 1d",
        "0 0 29 2 *",
        "0 0 31 * *",
    ]
)


@given(
    ANY_SCHEDULE,
    st.sampled_from([zone for zone, _ in WEEKENDS]),
    st.datetimes(datetime(2001, 1, 1), datetime(2036, 1, 1)),  # noqa: DTZ001 - made aware below
)
def test_the_next_tick_is_strictly_later(text: str, zone: str, moment: datetime) -> None:
    """A worker that asks again at the very tick gets the next one, in UTC and on a whole second."""
    instant = moment.replace(tzinfo=UTC)
    schedule = parsed(text, zone)
    first = schedule.next_after(instant)
    assert first > instant
    assert schedule.next_after(first) > first
    assert first.tzinfo is UTC
    assert first.microsecond == 0
    assert schedule.next_after(first - timedelta(microseconds=1)) == first


NOON = datetime(2026, 5, 14, 12, 0, 0, tzinfo=UTC)  # a Thursday


@pytest.mark.parametrize(
    ("text", "zone", "tick"),
    [
        ("*/10 * * * * *", "UTC", NOON + timedelta(seconds=10)),
        ("30 15 13 * * *", "UTC", NOON + timedelta(hours=1, minutes=15, seconds=30)),
        ("@hourly", "UTC", NOON + timedelta(hours=1)),
        ("@daily", "UTC", datetime(2026, 5, 15, tzinfo=UTC)),
        ("@midnight", "Asia/Ho_Chi_Minh", datetime(2026, 5, 14, 17, tzinfo=UTC)),
        ("@weekly", "UTC", datetime(2026, 5, 17, tzinfo=UTC)),
        ("@monthly", "UTC", datetime(2026, 6, 1, tzinfo=UTC)),
        ("@yearly", "UTC", datetime(2027, 1, 1, tzinfo=UTC)),
        ("@annually", "UTC", datetime(2027, 1, 1, tzinfo=UTC)),
        ("@every 30m", "Asia/Ho_Chi_Minh", NOON + timedelta(minutes=30)),
        ("@every 45s", "UTC", NOON + timedelta(seconds=45)),
        ("@every  2h", "UTC", NOON + timedelta(hours=2)),
        ("@every 1d", "UTC", datetime(2026, 5, 15, tzinfo=UTC)),
        ("  0 8 * * 1  ", "Asia/Ho_Chi_Minh", datetime(2026, 5, 18, 1, tzinfo=UTC)),
        ("0 0 29 2 *", "UTC", datetime(2028, 2, 29, tzinfo=UTC)),
    ],
    ids=lambda value: str(value).strip(),
)
def test_every_form_has_its_next_tick(text: str, zone: str, tick: datetime) -> None:
    """Six fields begin with seconds; the @ forms are what their names say, in the zone of the settings."""
    assert parsed(text, zone).next_after(NOON) == tick


@pytest.mark.parametrize("text", ["off", "OFF", " off "])
def test_off_is_no_schedule(text: str) -> None:
    """A job switched off has no ticks at all."""
    assert parse_schedule(text, ZoneInfo("UTC")) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "61 * * * *",
        "0 25 * * *",
        "0 0 0 * *",
        "* * * * 9x",
        "every day at two",
        "@every 0s",
        "@every 5 weeks",
        "@every -5m",
        "@every",
        "@reboot",
        "0 0 30 2 *",
        "0 0 31 4,6 *",
        "*/0 * * * *",
    ],
    ids=lambda text: text or "empty",
)
def test_what_is_no_schedule_is_refused_in_words(text: str) -> None:
    """A wrong expression, or a day that never comes, ends the start with a sentence, not a silent never."""
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        parse_schedule(text, ZoneInfo("UTC"))
