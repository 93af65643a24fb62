"""Schedules told by a plain walk over every minute, and fired by a fake clock that is looked at now and then."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from src.rules.schedule import parse_schedule
from src.rules.ticks import due

MINUTE = timedelta(minutes=1)
ZONES = ("Asia/Ho_Chi_Minh", "Europe/Lisbon", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo")
EXPRESSIONS = ("* * * * *", "*/5 * * * *", "30 2 * * *", "0 8 * * 1", "@every 90m")
START = datetime(2026, 1, 1, tzinfo=UTC)
YEARS = timedelta(days=2 * 365)


def matches(field: str, value: int) -> bool:
    """A cron field of the forms used here: `*`, `*/n`, `a-b`, `a,b`, a number."""
    whole, _, step = field.partition("/")
    if whole == "*":
        return value % int(step or 1) == 0
    parts = [part.partition("-") for part in whole.split(",")]
    return any(int(low) <= value <= int(high or low) for low, _, high in parts)


def names(expression: str, wall: datetime) -> bool:
    """Whether the expression names this wall-clock minute."""
    minute, hour, _, _, weekday = expression.split()
    on_the_day = weekday == "*" or wall.isoweekday() % 7 == int(weekday)
    return on_the_day and matches(minute, wall.minute) and matches(hour, wall.hour)


def told(expression: str, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """The ticks in [start, end) by the rule itself, minute by minute (see `rules/schedule`)."""
    if expression.startswith("@every"):
        period = timedelta(minutes=int(expression.removeprefix("@every ").removesuffix("m")))
        since = datetime(1970, 1, 1, tzinfo=UTC)
        yield from (at for at in _minutes(start, end) if (at - since) % period == timedelta(0))
        return
    by_elapsed_time = expression.split()[1].startswith("*")
    before = (start - MINUTE).astimezone(zone)
    for at in _minutes(start, end):
        now = at.astimezone(zone)
        wall = now.replace(tzinfo=None)
        fires = names(expression, wall) and (by_elapsed_time or now.fold == 0)
        skipped = before.replace(tzinfo=None) + MINUTE
        while skipped < wall and not by_elapsed_time:  # the clocks went forward over these minutes
            fires = fires or names(expression, skipped)
            skipped += MINUTE
        if fires:
            yield at
        before = now


def fired(expression: str, zone: ZoneInfo, start: datetime, end: datetime, *, seed: int) -> Iterator[datetime]:
    """The ticks in [start, end) by the clock of a worker that is looked at after seconds or after hours."""
    schedule, chance = parse_schedule(expression, zone), Random(seed)
    assert schedule is not None
    through, now, last = start - timedelta(microseconds=1), start, end - timedelta(microseconds=1)
    while now < last:
        now = min(last, now + timedelta(seconds=chance.choice((1, 20, 61, 900, 7_300)) * chance.random()))
        found = due(schedule, through, now, catch_up="all", most=1_000)
        assert found.missed is None
        yield from found.fire
        through = found.through


def changes(zone: ZoneInfo, start: datetime, end: datetime) -> Sequence[datetime]:
    """The days in [start, end) on which the clocks of a zone change."""
    days = [start + timedelta(days=number) for number in range((end - start).days)]
    return [
        day
        for day in days
        if day.astimezone(zone).utcoffset() != (day + timedelta(days=1)).astimezone(zone).utcoffset()
    ]


def _minutes(start: datetime, end: datetime) -> Iterator[datetime]:
    return (start + number * MINUTE for number in range((end - start) // MINUTE))
