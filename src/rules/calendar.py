"""Business time: which seconds count, and when so many of them have passed.

An instant counts where the clock on the wall of the zone shows a time within a shift of an open day. So on the night
the clocks go forward the hour that is left out does not count, and on the night they go back the hour that comes twice
counts twice. A shift belongs to the day it begins on, also where it ends after midnight.

As text: hours `mon-fri 08:00-12:00 13:00-17:30; sat 08:00-12:00` (Vietnamese: `t2-t6 ...; t7 ...; cn ...`), every day
`08:00-22:00`, `24/7` or nothing for all hours; closed days `2027-02-05..2027-02-11 Tet`, `2027-04-30`, `09-02` (each
year), and the words of `holidays.py`; days with hours of their own `2027-02-13 09:00-12:00`. What follows a closed date
is a note.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from zoneinfo import ZoneInfo

from .holidays import days_of_word

DAY_MIN = 1_440
LONGEST_CHANGE_S = 93_600.0  # by which a zone ever moved its clocks, and two hours
FAR_DAYS = 740  # a step that is not due within two years never is

#: Minutes of the local day, first and behind the last; above 1,440 they stand for the next day.
Shift = tuple[int, int]
Shifts = tuple[Shift, ...]
ALWAYS: Shifts = ((0, DAY_MIN),)

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_VIETNAMESE = ("t2", "t3", "t4", "t5", "t6", "t7", "cn")
_CLOSED = ("closed", "off", "nghỉ")
_BETWEEN = re.compile(r"[\s,;]+")
_DASH = re.compile(r"\s*[-–—]\s*")
_SHIFT = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\s*\.\.\s*(\d{4}-\d{2}-\d{2}))?(?:\s+(.*))?")
_YEARLY = re.compile(r"(\d{2})-(\d{2})(?:\s+.*)?")


@dataclass(frozen=True)
class Calendar:
    """The business time of one page. `week` begins with Monday; `days` take the place of the week's, () is closed.

    `yearly`: closed (month, day) of every year; a date in `days` goes before it.
    """

    zone: ZoneInfo
    week: tuple[Shifts, ...] = (ALWAYS,) * 7
    days: Mapping[date, Shifts] = field(default_factory=lambda: MappingProxyType({}))
    yearly: frozenset[tuple[int, int]] = frozenset()

    @property
    def is_always_open(self) -> bool:
        """Whether every second counts."""
        return not self.days and not self.yearly and all(shifts == ALWAYS for shifts in self.week)

    def shifts(self, day: date) -> Shifts:
        """The shifts that begin on a day."""
        if day in self.days:
            return self.days[day]
        return () if (day.month, day.day) in self.yearly else self.week[day.weekday()]

    def due(self, start: float, seconds: float) -> float | None:
        """The instant at which `seconds` of business time have passed since `start`, both Unix seconds.

        Nothing (or less) to wait for is due at once, open or not. None where it is not due within two years.
        """
        if seconds <= 0 or self.is_always_open:
            return start + max(seconds, 0)
        left = seconds
        for first, end in self._open_from(start, FAR_DAYS):
            if end - first >= left:
                return first + left
            left -= end - first
        return None

    def elapsed(self, start: float, end: float) -> float:
        """Seconds of business time between two instants."""
        if end <= start or self.is_always_open:
            return max(end - start, 0)
        days = int((end - start) // 86_400) + 2
        return sum(min(last, end) - first for first, last in self._open_from(start, days) if first < end)

    def is_open(self, at: float) -> bool:
        """Whether an instant counts."""
        return self.is_always_open or any(first <= at < end for first, end in self._open_from(at, 1))

    def next_open(self, at: float) -> float | None:
        """The first instant from `at` on that counts; None where none does within two years."""
        if self.is_always_open:
            return at
        return next((first for first, _ in self._open_from(at, FAR_DAYS)), None)

    def _open_from(self, start: float, days: int) -> Iterator[tuple[float, float]]:
        """What is open from `start` on, in order and without overlap, over so many days; the pieces may touch.

        A shift of one day may end behind the beginning of the next day's, and on the night the clocks go back even
        begin once more behind it: so nothing is given out before all that could lie before it is known.
        """
        day = datetime.fromtimestamp(start, self.zone).date() - timedelta(days=1)
        waiting: list[tuple[float, float]] = []
        for number in range(days + 2):
            on = day + timedelta(days=number)
            waiting = _merged([*waiting, *_instants(self.zone, on, self.shifts(on))])
            known_to = _midnight(on) + 86_400 - _offset(self.zone, _midnight(on)) - LONGEST_CHANGE_S
            yield from _clipped(waiting, start, known_to)
            waiting = _clipped(waiting, known_to, math.inf)
        yield from _clipped(waiting, start, math.inf)


@lru_cache(maxsize=4_096)
def _instants(zone: ZoneInfo, day: date, shifts: Shifts) -> tuple[tuple[float, float], ...]:
    """When the wall shows a time of the shifts of `day`, in order and without overlap."""
    if not shifts:
        return ()
    midnight = _midnight(day)
    found: list[tuple[float, float]] = []
    for begin, end, offset in _offsets(zone, midnight - 86_400, midnight + 3 * 86_400):
        for first, last in shifts:
            opens, closes = midnight + first * 60 - offset, midnight + last * 60 - offset
            if max(opens, begin) < min(closes, end):
                found.append((max(opens, begin), min(closes, end)))
    return tuple(_merged(found))


def _midnight(day: date) -> float:
    """Of the wall's clock, read as UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _clipped(intervals: Iterable[tuple[float, float]], low: float, high: float) -> list[tuple[float, float]]:
    return [(max(first, low), min(end, high)) for first, end in intervals if max(first, low) < min(end, high)]


def _offsets(zone: ZoneInfo, begin: float, end: float) -> Iterator[tuple[float, float, float]]:
    """Stretches of time with one offset from UTC each: (from, to, seconds)."""
    at = begin
    while at < end:
        offset, to = _offset(zone, at), min(at + 86_400, end)  # no zone changes twice within a day
        if _offset(zone, to) != offset:
            low, high = int(at), int(to)
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == offset else (low, middle)
            to = float(high)
        yield at, to, offset
        at = to


def _offset(zone: ZoneInfo, at: float) -> float:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0


def _merged(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for first, end in sorted(intervals):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((first, end))
    return merged


def week_of(hours: str) -> tuple[Shifts, ...]:
    """The shifts of a week as people write them: days, then their shifts, or `closed`; shifts without days are daily.

    A day that stands in several places has what is said of it last (`08:00-22:00; sun 09:00-12:00`), but where the same
    days stand twice both count. Raises ValueError with a sentence that says how to write it.
    """
    text = _DASH.sub("-", hours.strip().lower())
    if text in ("", "24/7", "24/24"):
        return (ALWAYS,) * 7
    week: list[Shifts] = [()] * 7
    known: set[tuple[int, ...]] = set()
    for days, tokens in _said(text):
        shifts = () if tokens[0] in _CLOSED and len(tokens) == 1 else shifts_of(" ".join(tokens))
        for number in days:
            week[number] = _merged_shifts((*(week[number] if days in known else ()), *shifts))
        known.add(days)
    return tuple(week)


def _said(text: str) -> list[tuple[tuple[int, ...], list[str]]]:
    """Weekdays, and what is said of them word by word, in the order they stand in."""
    groups: list[tuple[list[int], list[str]]] = []
    for token in filter(None, _BETWEEN.split(text)):
        is_day = not token[0].isdigit() and token not in _CLOSED
        if not groups or (is_day and groups[-1][1]):
            groups.append(([], []))
        if is_day:
            groups[-1][0].extend(_weekdays(token))
        else:
            groups[-1][1].append(token)
    if not all(tokens for _, tokens in groups):
        raise ValueError(f"{text!r} names days without hours: write mon-fri 08:00-12:00 13:00-17:30, or sun closed")
    return [(tuple(sorted(set(days))) or tuple(range(7)), tokens) for days, tokens in groups]


def shifts_of(text: str) -> Shifts:
    """`08:00-12:00 13:00-17:30`. Raises ValueError with a sentence that says how to write shifts."""
    shifts: list[Shift] = []
    text = _DASH.sub("-", text)
    rest = _SHIFT.sub("", text).replace(",", " ").strip()
    for match in _SHIFT.finditer(text):
        hour, minute, end_hour, end_minute = (int(part) for part in match.groups())
        first, end = hour * 60 + minute, end_hour * 60 + end_minute
        if minute > 59 or end_minute > 59 or first >= DAY_MIN or end > DAY_MIN:
            raise ValueError(f"{match[0]!r} is no shift: write hours from 00:00 to 24:00")
        shifts.append((first, end if end > first else end + DAY_MIN))  # it ends after midnight
    if rest or not shifts:
        raise ValueError(f"{text.strip()!r} is not of the form 08:00-12:00 13:00-17:30")
    return _merged_shifts(shifts)


def days_of(
    closed: Iterable[str], special: Iterable[str] = ()
) -> tuple[Mapping[date, Shifts], frozenset[tuple[int, int]]]:
    """Dated closed days and days with hours of their own, and what is closed each year. Raises ValueError.

    A day that stands in both is open in its hours: shops open on the fifth day of a Tet that is entered whole.
    """
    days: dict[date, Shifts] = {}
    yearly: set[tuple[int, int]] = set()
    for entry in (entry.strip() for entry in closed if entry.strip()):
        if found := days_of_word(entry):
            days.update((day, ()) for day in found[0])
            yearly.update(found[1])
        elif match := _DATE.fullmatch(entry):
            days.update((day, ()) for day in _range(match[1], match[2] or match[1], entry))
        elif match := _YEARLY.fullmatch(entry):
            yearly.add(_month_and_day(int(match[1]), int(match[2]), entry))
        else:
            how = "2027-02-05..2027-02-11 Tet, 2027-04-30, 09-02, tet, tet -2..+5 or vn"
            raise ValueError(f"{entry!r} is no closed day: write {how}")
    for entry in (entry.strip() for entry in special if entry.strip()):
        match = _DATE.fullmatch(entry)
        if match is None or not match[3]:
            raise ValueError(f"{entry!r} is no day with hours: write 2027-02-13 09:00-12:00")
        shifts = shifts_of(match[3])
        days.update((day, shifts) for day in _range(match[1], match[2] or match[1], entry))
    return MappingProxyType(days), frozenset(yearly)


def _weekdays(text: str) -> list[int]:
    """`mon`, `fri-mon`, `daily`."""
    if text in ("daily", "all"):
        return list(range(7))
    first, dash, last = text.partition("-")
    begin = _weekday(first)
    end = _weekday(last) if dash else begin
    return [(begin + step) % 7 for step in range((end - begin) % 7 + 1)]


def _weekday(text: str) -> int:
    for names in (_DAYS, _VIETNAMESE):
        if text[:3] in names:
            return names.index(text[:3])
    raise ValueError(f"{text!r} is no day of the week: write {', '.join(_DAYS)} or {', '.join(_VIETNAMESE)}")


def _merged_shifts(shifts: Iterable[Shift]) -> Shifts:
    return tuple((int(first), int(end)) for first, end in _merged(shifts))


def _range(first: str, last: str, entry: str) -> list[date]:
    try:
        begin, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError as e:
        raise ValueError(f"{entry!r}: there is no such day") from e
    if not 0 <= (end - begin).days <= 366:
        raise ValueError(f"{entry!r}: the last day has to follow the first, within a year")
    return [begin + timedelta(days=number) for number in range((end - begin).days + 1)]


def _month_and_day(month: int, day: int, entry: str) -> tuple[int, int]:
    try:
        date(2024, month, day)  # a leap year
    except ValueError as e:
        raise ValueError(f"{entry!r}: there is no such day") from e
    return month, day
