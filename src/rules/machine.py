"""What is wrong with the machine: from facts that are stored to what is to be told. All instants are Unix seconds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

from .schedule import Schedule

FAILED: Final = ("retry", "dead")
STALE_S: Final = 3_600.0  # what has neither failed nor run for so long is not failing now
LETTER_S: Final = 120.0  # a letter is written by then, or MongoDB was away
KNOWN_RUNS: Final = 20  # of fewer a p99 says nothing
USUAL_TIMES: Final = 3.0
OF_TIMEOUT: Final = 0.9
MOST_NOTICES: Final = 10  # of one kind told at once; more of them are one notice


class Ended(Protocol):
    """One run that ended: `end` is done, retry or dead, `at` when."""

    @property
    def end(self) -> str:
        """How."""

    @property
    def at(self) -> float:
        """When."""


def failures_in_row(newest_first: Sequence[Ended]) -> int:
    """How many of the last runs failed, without one between that was done."""
    for place, run in enumerate(newest_first):
        if run.end not in FAILED:
            return place
    return len(newest_first)


def fails_still(newest_first: Sequence[Ended], now: float, *, is_scheduled: bool, is_letter_open: bool | None) -> bool:
    """Whether a row of failures is trouble now, not only history.

    A job that its schedule starts again fails until it is done once, a daily one through all the day. Any other one may
    never run again: it is over when its dead letter was replayed or dropped (`is_letter_open`; None: there is none),
    or when nothing has happened for `STALE_S`.
    """
    if not newest_first or newest_first[0].end not in FAILED:
        return False
    last = newest_first[0]
    if last.end == "dead" and not is_letter_open and (is_letter_open is False or now - last.at > LETTER_S):
        return False
    return is_scheduled or now - last.at < STALE_S


def longest_s(runs: int, p99_s: float, timeout_s: float, least_s: float) -> float:
    """How long a run may take before it is told of, at least `least_s`.

    Three times what all but one in a hundred took; where too few ran to know, or that is more: nearly its timeout.
    A timeout that is shorter than `least_s` ends the run before anybody could do anything.
    """
    nearly = OF_TIMEOUT * timeout_s
    return max(least_s, min(USUAL_TIMES * p99_s, nearly) if runs >= KNOWN_RUNS else nearly)


Word = Literal["on_time", "unsure", "not_fired", "waits", "lost", "nobody_there"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a schedule came. `decided`: its newest tick that was fired, skipped or missed; `active_from`: ticks up to
    here do not count; `missed`: first and last of those missed last. `waits_since`: its last job has not started, and
    was to at this instant; None where it has, or is over.
    """

    decided: float | None = None
    active_from: float | None = None
    missed: tuple[float, float] | None = None
    waits_since: float | None = None


@dataclass(frozen=True, slots=True)
class Punctuality:
    """`since`: the tick that is late, where one is. `unsure`: too early to tell, so what was told stands."""

    word: Word
    since: float = 0.0


def punctuality(schedule: Schedule, progress: Progress, now: float, grace_s: float) -> Punctuality:
    """Whether a schedule that is on runs when it should.

    One whose ticks were missed because nobody was there is told of only where its next tick is not near.
    """
    latest = now - grace_s
    if progress.waits_since is not None:
        return Punctuality("waits" if progress.waits_since < latest else "unsure", progress.waits_since)
    missed = progress.missed
    if missed and progress.decided is not None and progress.decided > missed[1]:
        missed = None
    known = [at for at in (progress.decided, progress.active_from, missed[1] if missed else None) if at is not None]
    if not known:
        return Punctuality("on_time")  # it is new
    expected = _next(schedule, max(known))
    if expected <= now:
        return Punctuality("not_fired" if expected < latest else "unsure", expected)
    if missed:
        is_near = expected - now <= grace_s
        return Punctuality("unsure" if is_near or missed[0] >= latest else "nobody_there", missed[0])
    return Punctuality("on_time")


@dataclass(frozen=True, slots=True)
class Growth:
    """Dead letters. `mark`: as many are known of; `count`: as many there were at the last look; `grew_at`: the last
    time they were more than before; `since`: when they first were above the mark.
    """

    mark: int
    count: int
    grew_at: float = 0.0
    since: float = 0.0

    @property
    def is_trouble(self) -> bool:
        """Whether there are more than are known of."""
        return self.count > self.mark


def grown(before: Growth | None, count: int, now: float) -> Growth:
    """The next state. The mark goes down with what is dealt with, and up to `count` when none came for `STALE_S`."""
    if before is None:
        return Growth(count, count)
    mark = min(before.mark, count)
    grew = count > before.count
    found = replace(before, mark=mark, count=count, grew_at=now if grew else before.grew_at)
    if not found.is_trouble:
        return found
    if not grew and now - found.grew_at >= STALE_S:
        return replace(found, mark=count)
    return found if before.is_trouble else replace(found, since=now)


def is_too_old(age_s: float, limit_s: float, *, is_told: bool) -> bool:
    """Whether a lane's oldest job has waited too long; once told, until it is well below the limit."""
    return age_s > (limit_s / 2 if is_told else limit_s)


def to_tell(
    wrong: Collection[str], told: Collection[str], *, is_summed: bool, most: int = MOST_NOTICES
) -> tuple[frozenset[str], bool]:
    """Which of what is `wrong` get a notice of their own now, and whether one notice stands for many.

    `told`: those that have one; `is_summed`: one stands for many already, and does until few are wrong.
    """
    new = frozenset(wrong) - frozenset(told)
    is_many = len(new) > (most // 2 if is_summed else most)
    return (frozenset() if is_many else new), is_many


def _next(schedule: Schedule, at: float) -> float:
    return schedule.next_after(datetime.fromtimestamp(at, UTC)).timestamp()
