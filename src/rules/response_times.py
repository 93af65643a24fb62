"""How long customers waited for an answer: told apart by day, page and who answered.

An episode (`rules/waiting.py`) belongs to the day it began on and to whoever ended it; one that nobody ended belongs
to the page alone. Median: of an even number of waits the mean of the two in the middle. p90: the wait that nine of
ten did not exceed, a wait that there was (nearest rank).
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from statistics import median

from .waiting import Episode, Said, in_order


@dataclass(frozen=True, slots=True)
class Wait:
    """One episode. `waited_s`: seconds until the answer, None where there is none; `business_s`: those that count.

    `staff_id`: who answered, None where the answer names nobody of the staff.
    """

    day: str
    staff_id: str | None
    waited_s: float | None
    business_s: float | None


@dataclass(frozen=True, slots=True)
class Times:
    """Of answered waits, in seconds."""

    median_s: float
    p90_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: the whole page (`is_page`), or one of its staff; of one `day`, or of all (None).

    `times` and `business` are None where nothing was answered. `unanswered` is counted for the page alone.
    """

    day: str | None
    is_page: bool
    staff_id: str | None
    answered: int
    unanswered: int
    times: Times | None
    business: Times | None


class Follower:
    """Follows the messages of many conversations through a stretch of time, and finds the episodes that begin in it.

    `waiting_before`: conversations whose customer waits already as the stretch begins; that episode is not of it.
    What it keeps grows with the conversations met, not with their messages.
    """

    def __init__(self, waiting_before: Container[str] = ()) -> None:
        self._waiting_before = waiting_before
        self._met: set[str] = set()
        self._older: set[str] = set()  # those whose customer waits since before
        self.open: dict[str, Episode] = {}

    def follow(self, messages: Iterable[tuple[str, Said]]) -> Iterator[Episode]:
        """Each episode as it is answered; (conversation, message) come in order of their whole seconds at least."""
        for _, second in groupby(messages, key=lambda each: each[1].at_us // 1_000_000):
            together = list(second)
            if len(together) == 1:
                yield from self._hear(*together[0])
                continue
            of = {said.message_id: conversation_id for conversation_id, said in together}
            for said in in_order(said for _, said in together):
                yield from self._hear(of[said.message_id], said)

    def _hear(self, conversation_id: str, said: Said) -> Iterator[Episode]:
        if said.sender not in ("customer", "agent"):
            return
        if conversation_id not in self._met:
            self._met.add(conversation_id)
            if conversation_id in self._waiting_before:
                self._older.add(conversation_id)
        if said.sender == "agent":
            self._older.discard(conversation_id)
            waiting = self.open.pop(conversation_id, None)
            if waiting is not None:
                yield Episode(waiting.message_id, waiting.since_us, said.at_us, said.staff_id)
        elif conversation_id not in self._older:
            self.open.setdefault(conversation_id, Episode(said.message_id, said.at_us))


def report_of(waits: Iterable[Wait]) -> list[Row]:
    """The rows of one page: each day with the page before its staff, who answered most first; then all days together.

    A single day is its own total. Without waits there is no row.
    """
    known = list(waits)
    days = sorted({wait.day for wait in known})
    rows: list[Row] = []
    for day in days:
        rows += _rows(day, [wait for wait in known if wait.day == day])
    if len(days) > 1:
        rows += _rows(None, known)
    return rows


def _rows(day: str | None, waits: list[Wait]) -> list[Row]:
    unanswered = sum(wait.waited_s is None for wait in waits)
    found = [_row(day, None, waits, is_page=True, unanswered=unanswered)]
    by_staff: dict[str | None, list[Wait]] = {}
    for wait in waits:
        if wait.waited_s is not None:
            by_staff.setdefault(wait.staff_id, []).append(wait)
    order = sorted(by_staff, key=lambda staff: (-len(by_staff[staff]), staff is None, staff or ""))
    return found + [_row(day, staff_id, by_staff[staff_id], is_page=False, unanswered=0) for staff_id in order]


def _row(day: str | None, staff_id: str | None, waits: list[Wait], *, is_page: bool, unanswered: int) -> Row:
    raw = sorted(wait.waited_s for wait in waits if wait.waited_s is not None)
    business = sorted(wait.business_s for wait in waits if wait.business_s is not None)
    return Row(day, is_page, staff_id, len(raw), unanswered, _times(raw), _times(business))


def _times(ordered: list[float]) -> Times | None:
    if not ordered:
        return None
    return Times(median(ordered), ordered[ceil(0.9 * len(ordered)) - 1], ordered[-1])
