"""Business time equals what somebody finds who looks at the clock on the wall minute by minute."""

import math
import os
import random
from bisect import bisect_left
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from types import MappingProxyType
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.calendar import ALWAYS, Calendar, Shifts, days_of, shifts_of, week_of
from src.rules.holidays import HUNG_KINGS, TET

VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")
ZONES = (
    *("Asia/Ho_Chi_Minh", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"),
    *("America/Sao_Paulo", "Africa/Casablanca", "Pacific/Apia", "America/St_Johns", "UTC"),
)
CASES = int(os.environ.get("CALENDAR_CASES", "10000"))
MINUTES = 12 * 1_440  # that are looked at, minute by minute


class Wall:
    """The brute force: for each minute of some days, whether it counts. Knows zones only through the wall's clock."""

    def __init__(self, calendar: Calendar, begin: int) -> None:
        self.begin, self.calendar = begin, calendar
        self.counts = bytearray(MINUTES)
        for number in range(MINUTES):
            self.counts[number] = self._counts(begin + number * 60)
        #: seconds counted before each minute
        self._sums = list(accumulate((60 * count for count in self.counts), initial=0))

    def _counts(self, at: int) -> bool:
        wall = datetime.fromtimestamp(at, self.calendar.zone)
        minute, today = wall.hour * 60 + wall.minute, wall.date()
        for day, shown in ((today, minute), (today - timedelta(days=1), minute + 1_440)):
            if any(first <= shown < last for first, last in self._shifts(day)):
                return True
        return False

    def _shifts(self, day: date) -> Shifts:
        if day in self.calendar.days:
            return self.calendar.days[day]
        if (day.month, day.day) in self.calendar.yearly:
            return ()
        return self.calendar.week[day.weekday()]

    def due(self, start: float, seconds: float) -> float | None:
        """None: not within what was looked at."""
        if seconds <= 0:
            return start
        wanted = self._before(start) + seconds
        minute = bisect_left(self._sums, wanted) - 1  # the one within which so much has been counted
        return self.begin + minute * 60 + wanted - self._sums[minute] if minute < MINUTES else None

    def elapsed(self, start: float, end: float) -> float:
        return self._before(end) - self._before(start)

    def _before(self, at: float) -> float:
        minute = int(at - self.begin) // 60
        return self._sums[minute] + (at - self.begin - minute * 60) * self.counts[minute]


def random_shifts(rng: random.Random) -> Shifts:
    lot = rng.random()
    if lot < 0.1:
        return ()
    if lot < 0.2:
        return ALWAYS
    if lot < 0.35:  # over midnight, at night when clocks change
        first = rng.randrange(20 * 60, 1_440)
        return ((first, first + rng.randrange(60, 9 * 60)),)
    marks = sorted(rng.sample(range(0, 1_441, 5), rng.choice((2, 2, 4, 6))))
    return tuple(zip(marks[::2], marks[1::2], strict=True))


def random_calendar(rng: random.Random, around: date) -> Calendar:
    week = tuple(random_shifts(rng) for _ in range(7))
    days = {around + timedelta(days=rng.randrange(-1, 12)): random_shifts(rng) for _ in range(rng.randrange(4))}
    days |= {around + timedelta(days=rng.randrange(12)): () for _ in range(rng.randrange(3))}
    yearly = frozenset({(around.month, around.day)} if rng.random() < 0.2 else ())
    return Calendar(ZoneInfo(rng.choice(ZONES)), week, MappingProxyType(days), yearly)


def changes(zone: ZoneInfo, year: int) -> list[int]:
    """Days of a year on which the zone's clocks change."""
    first = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    noons = [first + number * 86_400 + 43_200 for number in range(366)]
    offsets = [datetime.fromtimestamp(at, zone).utcoffset() for at in noons]
    return [at for at, one, two in zip(noons, offsets, offsets[1:], strict=False) if one != two]


def moments(rng: random.Random, zone: ZoneInfo) -> int:
    """A minute to begin at: often on the days before clocks change, at Tet, or at the end of a year."""
    year, lot = rng.choice((2024, 2025, 2026, 2027)), rng.random()
    found = changes(zone, year)
    if found and lot < 0.5:
        at = rng.choice(found) - rng.randrange(4 * 86_400)
    elif lot < 0.65:
        tet = rng.choice(TET)
        at = int(datetime(tet.year, tet.month, tet.day, tzinfo=UTC).timestamp()) - rng.randrange(6 * 86_400)
    else:
        at = int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) + rng.randrange(365 * 86_400)
    return at // 60 * 60


def test_due_and_elapsed_equal_the_brute_force() -> None:
    """Ten thousand cases: zones, daylight saving, split shifts, nights, holidays, Tet, days of their own; and edits."""
    rng, cases = random.Random("calendar"), 0
    while cases < CASES:
        zone = ZoneInfo(rng.choice(ZONES))
        begin = moments(rng, zone)
        around = datetime.fromtimestamp(begin, zone).date()
        calendar = random_calendar(rng, around)
        if rng.random() < 0.15:
            days, _ = days_of(["tet"])
            calendar = Calendar(calendar.zone, calendar.week, MappingProxyType({**days, **calendar.days}))
        for edited in (calendar, random_calendar(rng, around)):  # the same wait under the calendar before and after
            wall = Wall(edited, begin)
            for _ in range(100):
                start = begin + rng.randrange(3 * 86_400) + rng.choice((0, 0.25))
                seconds = rng.choice((0, 60, 300, 1_800, rng.randrange(1, 90_000)))
                expected, found = wall.due(start, seconds), edited.due(start, seconds)
                if expected is None:
                    assert found is None or found > begin + MINUTES * 60 - 1, (edited, start, seconds)
                else:
                    assert found == pytest.approx(expected, abs=1e-3), (edited, start, seconds)
                    end = start + rng.randrange(1, 5 * 86_400)
                    assert edited.elapsed(start, end) == pytest.approx(wall.elapsed(start, end), abs=1e-3)
                minute = int(start - begin) // 60
                assert edited.is_open(start) == bool(wall.counts[minute])
                cases += 1


def test_the_next_opening_is_where_business_time_goes_on() -> None:
    calendar = Calendar(VIETNAM, week_of("mon-fri 08:00-12:00 13:00-17:30; sat 08:00-12:00"))
    friday = datetime(2026, 5, 15, 17, 45, tzinfo=VIETNAM).timestamp()
    opening = calendar.next_open(friday)
    assert opening == datetime(2026, 5, 16, 8, 0, tzinfo=VIETNAM).timestamp()
    assert calendar.due(friday, 900) == opening + 900
    lunch = datetime(2026, 5, 15, 11, 50, tzinfo=VIETNAM).timestamp()
    assert calendar.due(lunch, 1_800) == datetime(2026, 5, 15, 13, 20, tzinfo=VIETNAM).timestamp()


def test_tet_is_not_counted() -> None:
    """A message of the eve's morning, with a closed Tet, is due when the shop opens again."""
    days, yearly = days_of(["2027-02-05..2027-02-11 Tet"], ["2027-02-11 09:00-11:00"])
    calendar = Calendar(VIETNAM, week_of("daily 08:00-22:00"), days, yearly)
    eve = datetime(2027, 2, 5, 9, 0, tzinfo=VIETNAM).timestamp()
    assert calendar.due(eve, 3_600) == datetime(2027, 2, 11, 10, 0, tzinfo=VIETNAM).timestamp()
    assert calendar.due(eve, 3 * 3_600) == datetime(2027, 2, 12, 9, 0, tzinfo=VIETNAM).timestamp()
    same = Calendar(VIETNAM, calendar.week, *days_of(["tet"]))
    assert same.next_open(eve) == datetime(2027, 2, 12, 8, 0, tzinfo=VIETNAM).timestamp()


def test_what_is_never_open_is_never_due() -> None:
    calendar = Calendar(VIETNAM, ((),) * 7)
    assert calendar.due(0, 1) is None
    assert calendar.due(5, 0) == 5
    assert calendar.next_open(0) is None
    assert calendar.elapsed(0, 10**6) == 0


@pytest.mark.parametrize(
    ("text", "day", "shifts"),
    [
        ("mon-fri 08:00-12:00 13:00-17:30", 0, ((480, 720), (780, 1050))),
        ("mon-fri 08:00-12:00 13:00-17:30", 5, ()),
        ("t2-t6 08:00-12:00, 13:00-17:30; t7,cn 9:00-11:00", 6, ((540, 660),)),
        ("fri-mon 22:00-02:00", 6, ((1320, 1560),)),
        ("daily 00:00-24:00", 3, ((0, 1440),)),
        ("24/7", 3, ALWAYS),
        ("", 3, ALWAYS),
        ("sat 08:00-12:00; sat 11:00-13:00", 5, ((480, 780),)),
        ("08:00-22:00; sun 09:00-12:00", 5, ((480, 1320),)),
        ("08:00-22:00; sun 09:00-12:00", 6, ((540, 720),)),
        ("T2 – T7 08:00 – 12:00, CN nghỉ", 5, ((480, 720),)),
        ("; daily 08:00-22:00\nsun closed;", 6, ()),
        ("mon, wed, fri 08:00-12:00, tue 09:00-10:00", 4, ((480, 720),)),
    ],
)
def test_hours_as_people_write_them(text: str, day: int, shifts: Shifts) -> None:
    assert week_of(text)[day] == shifts


@pytest.mark.parametrize(
    "text", ["mon", "someday 08:00-12:00", "mon 8-12", "mon 08:00-25:00", "mon 08:60-09:00", "8h", "mon;"]
)
def test_hours_that_cannot_be_read_say_how_to_write_them(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|of the form"):
        week_of(text)


@pytest.mark.parametrize("text", ["30/4", "2027-02-30", "2027-02-11..2027-02-05", "02-30", "someday", "2027-02-13 9h"])
def test_days_that_cannot_be_read_say_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|no such day|follow|of the form"):
        days_of([text], [text]) if "9h" in text else days_of([text])


@given(st.text("0123456789:-., ;tT2cnmofriewsatudayvndtế\n", max_size=40))
def test_whatever_is_written_is_read_or_refused_with_a_sentence(text: str) -> None:
    """Hours and days come from people: nothing they write ends in anything but a calendar or a sentence."""
    for read in (week_of, lambda given: days_of([given]), lambda given: days_of([], [given])):
        with suppress(ValueError):
            read(text)


def test_closed_days_of_every_year_and_days_with_hours() -> None:
    days, yearly = days_of(["09-02 National day", "2027-04-30"], ["2027-05-01 09:00-12:00"])
    assert yearly == {(9, 2)}
    assert days == {date(2027, 4, 30): (), date(2027, 5, 1): shifts_of("09:00-12:00")}


def new_moon(k: int) -> float:
    """The k-th new moon since 2000, Unix seconds, to some minutes (J. Meeus, Astronomical Algorithms, chapter 49)."""
    t = k / 1236.85
    jde = 2451550.09766 + 29.530588861 * k + 0.00015437 * t * t
    m, mm, f, om = (
        math.radians(value)
        for value in (
            2.5534 + 29.10535670 * k,
            201.5643 + 385.81693528 * k,
            160.7108 + 390.67050284 * k,
            124.7746 - 1.56375588 * k,
        )
    )
    e = 1 - 0.002516 * t
    terms = (
        (-0.40720, mm), (0.17241 * e, m), (0.01608, 2 * mm), (0.01039, 2 * f), (0.00739 * e, mm - m),
        (-0.00514 * e, mm + m), (0.00208 * e * e, 2 * m), (-0.00111, mm - 2 * f), (-0.00057, mm + 2 * f),
        (0.00056 * e, 2 * mm + m), (-0.00042, 3 * mm), (0.00042 * e, m + 2 * f), (0.00038 * e, m - 2 * f),
        (-0.00024 * e, 2 * mm - m), (-0.00017, om),
    )  # fmt: skip
    jde += sum(factor * math.sin(angle) for factor, angle in terms)
    return (jde - 2440587.5) * 86_400 - 70  # dynamical time runs about 70 s ahead


def sun(at: float) -> float:
    """The sun's longitude in degrees, to a hundredth (Meeus, chapter 25)."""
    t = (at / 86_400 + 2440587.5 - 2451545.0) / 36525
    m = math.radians(357.52911 + 35999.05029 * t)
    center = (1.914602 - 0.004817 * t) * math.sin(m) + 0.019993 * math.sin(2 * m) + 0.000289 * math.sin(3 * m)
    return (280.46646 + 36000.76983 * t + center - 0.00569) % 360


@pytest.mark.parametrize("tet", TET, ids=str)
def test_tet_is_the_new_moon_before_the_sun_reaches_330_degrees(tet: date) -> None:
    """Worked out from the sky, in Hanoi's time: what the table says."""
    first = round((datetime(tet.year, tet.month, tet.day, tzinfo=UTC).timestamp() / 86_400 - 10_962) / 29.530588861)
    moons = [new_moon(k) for k in range(first - 2, first + 3)]
    hanoi = ZoneInfo("Asia/Bangkok")  # UTC+7, and never anything else in these years
    days = [datetime.fromtimestamp(at, hanoi).date() for at in moons]
    place = days.index(tet)
    begins, ends = (
        datetime(day.year, day.month, day.day, tzinfo=hanoi).timestamp() for day in (days[place], days[place + 1])
    )
    # 2034: two months of that winter hold no such point or two, and the sun was there some hours before
    assert (sun(begins) - 331) % 360 > 300
    assert (sun(ends) - 330) % 360 < 60


@pytest.mark.parametrize("day", HUNG_KINGS, ids=str)
def test_the_kings_day_is_the_tenth_of_the_month_in_which_the_sun_reaches_30_degrees(day: date) -> None:
    hanoi = ZoneInfo("Asia/Bangkok")
    first = day - timedelta(days=9)
    near = round((datetime(day.year, day.month, 1, tzinfo=UTC).timestamp() / 86_400 - 10_962) / 29.530588861)
    days = [datetime.fromtimestamp(new_moon(k), hanoi).date() for k in range(near - 2, near + 4)]
    place = days.index(first)
    begins, ends = (
        datetime(each.year, each.month, each.day, tzinfo=hanoi).timestamp() for each in (first, days[place + 1])
    )
    assert sun(begins) < 30 < sun(ends)


def test_holidays_under_a_word() -> None:
    """Tet is a week from its eve on, or as said; `vn` is that and what is off each year."""
    closed = [day for day in days_of(["tet"])[0] if day.year == 2027]
    assert closed == [date(2027, 2, 5) + timedelta(days=number) for number in range(7)]
    longer = [day for day in days_of(["Tết -2..+7"])[0] if day.year == 2027]
    assert (longer[0], longer[-1], len(longer)) == (date(2027, 2, 4), date(2027, 2, 13), 10)
    days, yearly = days_of(["vn", "2027-09-03 the day beside"])
    assert {date(2027, 2, 6), date(2027, 4, 16), date(2027, 9, 3)} <= set(days)
    assert yearly == {(1, 1), (4, 30), (5, 1), (9, 2)}


@pytest.mark.parametrize("word", ["tet 5..1", "tet -40..40", "tet soon", "vn 2027"])
def test_a_word_that_makes_no_sense_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"write"):
        days_of([word])
