"""Which ticks of a schedule are to be fired now, after whatever time nobody looked."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final, Literal

from .schedule import Schedule

CatchUp = Literal["none", "latest", "all"]

#: A tick that is later than this was missed, and only what the schedule says of missed ticks brings it back.
GRACE: Final = timedelta(seconds=30)
#: Schedules of this period or longer make up their latest missed tick where nothing else is said.
LONG: Final = timedelta(hours=12)
MOST_TO_CATCH_UP: Final = 1_000
#: Ticks that are looked at one by one, at some 0.1 ms each: a schedule of seconds that slept for months is told of in
#: round numbers, and does not hold up the others meanwhile.
MOST_COUNTED: Final = 2_000


LOOKED_BACK: Final = timedelta(days=366)
LOOKED_AHEAD: Final = timedelta(days=8)  # longer than the week that most schedules repeat after
MOST_GAPS: Final = 32
LEAST_GAPS: Final = 4


@dataclass(frozen=True, slots=True)
class Missed:
    """Ticks that are not to be fired: how many, the first and the last."""

    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """`fire`: ticks to be fired, in their order. `through`: all up to here is decided."""

    fire: tuple[datetime, ...]
    missed: Missed | None
    through: datetime


def due(
    schedule: Schedule,
    after: datetime,
    now: datetime,
    *,
    catch_up: CatchUp = "none",
    most: int = 100,
    ahead: timedelta = timedelta(0),
    grace: timedelta = GRACE,
) -> Due:
    """The ticks in (`after`, `now + ahead`], sorted into what is to be fired and what was missed.

    Ticks no older than `grace` are on time and fired, each of them. Of older ones `none` fires none, `latest` the last,
    and `all` the last `most`. Where one on time follows, it stands for the `latest`.
    """
    if now + ahead < after:
        return Due((), None, after)
    seen, unseen = _ticks(schedule, after, now + ahead, most + _per(grace, schedule, now))
    on_time = [tick for tick in seen if tick >= now - grace]
    late = seen[: len(seen) - len(on_time)]
    kept = {"none": 0, "latest": 0 if on_time else 1, "all": most}[catch_up]
    lost = late[: max(0, len(late) - kept)]
    fire = (*late[len(lost) :], *on_time)
    missed = Missed(len(lost) + unseen, lost[0], lost[-1]) if lost else None
    return Due(fire, missed, seen[-1] if seen else after)


def missed_between(schedule: Schedule, after: datetime, last: datetime) -> Missed:
    """The ticks in (`after`, `last`], all of them missed; `last` is one."""
    seen, unseen = _ticks(schedule, after, last, 1)
    return Missed(len(seen) + unseen, seen[0] if seen else last, last)


def usual_catch_up(schedule: Schedule, now: datetime) -> CatchUp:
    """What is done where nobody said: a daily tick that was missed is made up once, a five-minutely one is not."""
    return "latest" if shortest_gap(schedule, now, enough=LONG) >= LONG else "none"


def shortest_gap(schedule: Schedule, now: datetime, *, enough: timedelta = timedelta(0)) -> timedelta:
    """The shortest time between two ticks, of those to come: `0 6,22 * * *` has gaps of 8 and of 16 hours.

    Seen are some days, whatever hour it is now, so that all workers say the same; not all of them where a gap is
    shorter than `enough`.
    """
    tick = first = schedule.next_after(now)
    shortest = timedelta.max
    for number in range(MOST_GAPS):
        following = schedule.next_after(tick)
        shortest, tick = min(shortest, following - tick), following
        if shortest < enough or (number >= LEAST_GAPS and tick - first > LOOKED_AHEAD):
            break
    return shortest


def latest_until(schedule: Schedule, now: datetime) -> datetime | None:
    """The last tick not later than `now`; None where there was none within two years."""
    following = schedule.next_after(now)
    span = schedule.next_after(following) - following
    while span <= 4 * LOOKED_BACK:
        tick = schedule.next_after(now - span)
        if tick <= now:
            while (later := schedule.next_after(tick)) <= now:
                tick = later
            return tick
        span *= 2
    return None


def shift_s(name: str, tick: datetime, jitter_s: float) -> float:
    """How long after its tick a schedule with jitter fires: 0 up to `jitter_s`, by chance, for every worker alike."""
    if jitter_s <= 0:
        return 0.0
    digest = blake2b(f"{name}:{int(tick.timestamp())}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64 * jitter_s


def _ticks(schedule: Schedule, after: datetime, through: datetime, last: int) -> tuple[list[datetime], int]:
    """The ticks in (`after`, `through`], and how many of them there are beside about, where all would be too many.

    Then the first `MOST_COUNTED` are there, and at least the `last` where ticks come evenly.
    """
    seen, tick = list[datetime](), schedule.next_after(after)
    while tick <= through and len(seen) < MOST_COUNTED:
        seen.append(tick)
        tick = schedule.next_after(tick)
    if tick > through:
        return seen, 0
    period = (seen[-1] - seen[0]) / (len(seen) - 1)
    jump = max(tick, through - (last + 10) * period)
    unseen = int((jump - tick) / period)
    tick = schedule.next_after(jump)
    while tick <= through:
        seen.append(tick)
        tick = schedule.next_after(tick)
    return seen, unseen


def _per(span: timedelta, schedule: Schedule, now: datetime) -> int:
    """How many ticks there are in a span, or more."""
    first = schedule.next_after(now)
    return int(span / (schedule.next_after(first) - first)) + 1
