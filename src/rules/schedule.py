"""When a schedule fires: cron expressions in civil time, right on the nights the clocks change.

A cron expression names wall-clock times, so the zone's two awkward nights need a rule (that of Vixie cron's manual):
an expression whose hour is a wildcard (`*`, `*/2`) goes by elapsed time and fires in both passes of a repeated hour;
one that names hours fires once: on the first pass of a repeated hour, and at the jump where its time is skipped.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from croniter import croniter
from croniter.croniter import CroniterError

_EVERY = re.compile(r"@every\s+((?:\d+\s*[smhd]\s*)+)")
_PART = re.compile(r"(\d+)\s*([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_LONGEST_S = 366 * 86_400
_SECOND = timedelta(seconds=1)
_STEP = timedelta(days=7)  # how far one look for a change of the clocks reaches


class Schedule(Protocol):
    """Something that knows its next tick."""

    def next_after(self, instant: datetime) -> datetime:
        """The first tick later than `instant`; both timezone-aware, the tick in UTC and on a whole second."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """A tick each `period_s` seconds, counted from 1970 so that all workers agree without talking."""

    period_s: int

    def next_after(self, instant: datetime) -> datetime:
        """The first multiple of the period later than `instant`."""
        return datetime.fromtimestamp((int(instant.timestamp() // self.period_s) + 1) * self.period_s, UTC)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a zone: 5 fields, or 6 with seconds first."""

    expression: str
    zone: ZoneInfo

    def next_after(self, instant: datetime) -> datetime:
        """The first tick later than `instant`, by the rule in the module's docstring."""
        at = instant.astimezone(UTC).replace(microsecond=0)  # ticks stand on whole seconds
        while True:
            offset = _offset(at, self.zone)
            tick = (self._next_wall((at + offset).replace(tzinfo=None)) - offset).replace(tzinfo=UTC)
            horizon = min(tick, at + _STEP)
            change = _next_change(at, horizon, self.zone)
            if change is not None:
                if self._fires_at(change):
                    return change
                at = change
            elif tick > horizon:
                at = horizon
            elif self._names_hours and _is_second_pass(tick, self.zone):
                at = tick
            else:
                return tick

    @property
    def _names_hours(self) -> bool:
        fields = self.expression.split()
        return not fields[-4].startswith("*")

    def _next_wall(self, wall: datetime) -> datetime:
        return _iterator(self.expression, wall).get_next(datetime)

    def _fires_at(self, change: datetime) -> bool:
        """Whether there is a tick at the very instant the clocks change: one that stands there, or one jumped over."""
        old_wall, new_wall = _walls_around(change, self.zone)
        if self._names_hours:
            return new_wall > old_wall and self._next_wall(old_wall - _SECOND) <= new_wall
        return self._next_wall(new_wall - _SECOND) == new_wall


def parse_schedule(text: str, zone: ZoneInfo) -> Schedule | None:
    """The schedule that `text` names, or None for `off`.

    Forms: 5 or 6 cron fields (6: seconds first), `@hourly` and its kin, `@every 1h30m` (s, m, h, d).
    Raises ValueError with a sentence on anything else, and on a day that never comes (`0 0 30 2 *`).
    """
    text = text.strip()
    if text.lower() == "off":
        return None
    if every := _EVERY.fullmatch(text):
        period_s = sum(int(number) * _UNIT_S[unit] for number, unit in _PART.findall(every[1]))
        if not 0 < period_s <= _LONGEST_S:
            raise ValueError("@every needs a period above zero and of a year at most, like @every 1h30m")
        return Every(period_s)
    expression = _ALIASES.get(text, text)
    if len(expression.split()) not in (5, 6):
        raise ValueError(
            f"{text!r} is no schedule: write 5 cron fields, 6 with seconds first, @hourly, @every 30m or off"
        )
    try:
        _iterator(expression, datetime(2024, 1, 1)).get_next(datetime)  # noqa: DTZ001 - wall-clock time
    except (CroniterError, ValueError, KeyError) as e:
        raise ValueError(f"{text!r} is no schedule: {e}") from e
    return Cron(expression, zone)


def _iterator(expression: str, wall: datetime) -> croniter:
    return croniter(expression, wall, second_at_beginning=len(expression.split()) == 6)


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)


def _next_change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime | None:
    """The first second in (start, end] whose offset differs from that at `start`, or None."""
    first = _offset(start, zone)
    low = start
    while low < end:  # a change and its reverse never lie within one day
        high = min(low + timedelta(days=1), end)
        if _offset(high, zone) != first:
            while high - low > _SECOND:
                middle = low + (high - low) // 2 // _SECOND * _SECOND
                low, high = (middle, high) if _offset(middle, zone) == first else (low, middle)
            return high.replace(microsecond=0)
        low = high
    return None


def _walls_around(change: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The wall-clock reading that `change` would have had by the old offset, and the one it has by the new."""
    old, new = _offset(change - _SECOND, zone), _offset(change, zone)
    return (change + old).replace(tzinfo=None), (change + new).replace(tzinfo=None)


def _is_second_pass(instant: datetime, zone: ZoneInfo) -> bool:
    return instant.astimezone(zone).fold == 1
