"""Who may call next: deficit round robin between merchants' endpoints, by the time their calls take.

Deficit round robin (M. Shreedhar, G. Varghese, "Efficient Fair Queuing Using Deficit Round-Robin", SIGCOMM 1995) with
the seconds of a call in place of a packet's bytes. A call's length is known only when it is over, so it is charged as
its endpoint's typical one first and put right then. With places to spare nobody waits for a turn; an endpoint has at
most `cap` calls under way in any case, and the slow ones together at most half of the places, so that many merchants
that do not answer leave room for those that do.
"""

from collections import deque
from dataclasses import dataclass, field
from math import floor
from typing import Generic, TypeVar

QUANTUM_S = 0.25  # what each endpoint is given per round
SMOOTHING = 0.2  # of an endpoint's typical call
SLOW_S = 2.0  # a typical call that long makes an endpoint a slow one
KEPT = 5_000  # endpoints remembered though nothing waits for them: that they were slow is worth knowing

T = TypeVar("T")


@dataclass(slots=True)
class _Line(Generic[T]):
    cap: int = 1
    waiting: deque[T] = field(default_factory=deque)
    in_flight: int = 0
    credit_s: float = 0.0
    typical_s: float = 0.0
    blocked_until: float = 0.0

    @property
    def is_slow(self) -> bool:
        return self.typical_s > SLOW_S


class Turns(Generic[T]):
    """At most `limit` calls under way. `now` is always the same monotonic clock, in seconds."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines: dict[str, _Line[T]] = {}
        self._ring: dict[str, _Line[T]] = {}  # those with somebody waiting, in the order of their turns
        self._in_flight = 0
        self._slow_in_flight = 0
        self.waiting = 0

    def is_free(self, key: str, cap: int, now: float) -> bool:
        """Whether somebody who asks for `key` now has the turn at once."""
        line = self._lines.get(key)
        if line is None:
            return self._in_flight < self._limit
        line.cap = cap
        return not line.waiting and self._may(line, now)

    def ask(self, key: str, ticket: T, cap: int, *, first: bool = False) -> None:
        """Stand in line for `key`, which may have `cap` calls under way; `first` before all who wait there."""
        line = self._lines.get(key) or self._new(key)
        line.cap = cap
        (line.waiting.appendleft if first else line.waiting.append)(ticket)
        self._ring.setdefault(key, line)
        self.waiting += 1

    def next(self, now: float) -> tuple[str, T] | None:
        """The next to go, taken to be under way from now on; None while nobody may."""
        ready = [key for key, line in self._ring.items() if self._may(line, now)]
        if not ready:
            return None
        if all(self._ring[key].credit_s <= 0 for key in ready):
            rounds = min(floor(-self._ring[key].credit_s / QUANTUM_S) for key in ready) + 1
            for key in ready:
                line = self._ring[key]
                line.credit_s = min(line.credit_s + rounds * QUANTUM_S, QUANTUM_S)
        key = next(key for key in ready if self._ring[key].credit_s > 0)
        line = self._ring[key]
        ticket = line.waiting.popleft()
        self.waiting -= 1
        self._begin(line)
        if not line.waiting or line.credit_s <= 0:
            self._ring[key] = self._ring.pop(key)  # to the end of the round
        if not line.waiting:
            del self._ring[key]
        return key, ticket

    def begin(self, key: str, cap: int) -> None:
        """Go without a ticket, where `is_free` has said so."""
        line = self._lines.get(key) or self._new(key)
        line.cap = cap
        line.credit_s = max(line.credit_s, 0.0)  # nobody is kept waiting by it, so it owes nobody
        self._begin(line)

    def done(self, key: str, took_s: float | None) -> None:
        """A call of `key` is over; None where none was made after all."""
        line = self._lines[key]
        self._in_flight -= 1
        self._slow_in_flight -= line.is_slow
        line.in_flight -= 1
        line.credit_s += line.typical_s - (took_s or 0.0)
        if took_s is None:
            return
        # those under way stay counted as what the endpoint now is
        was_slow = line.is_slow
        line.typical_s += SMOOTHING * (took_s - line.typical_s)
        self._slow_in_flight += line.in_flight * (line.is_slow - was_slow)

    def block(self, key: str, until: float) -> None:
        """Nobody of `key` goes before `until`."""
        self._lines[key].blocked_until = until

    def forget(self, key: str, ticket: T) -> None:
        """Leave the line. Safe where the ticket is not in it."""
        line = self._ring.get(key)
        if line and ticket in line.waiting:
            line.waiting.remove(ticket)
            self.waiting -= 1
            if not line.waiting:
                del self._ring[key]

    def dismiss(self, key: str) -> list[T]:
        """Everybody who waits for `key`, sent out of the line."""
        line = self._ring.pop(key, None)
        if line is None:
            return []
        tickets = list(line.waiting)
        self.waiting -= len(tickets)
        line.waiting.clear()
        return tickets

    def length(self, key: str) -> int:
        """How many wait for `key`."""
        line = self._ring.get(key)
        return len(line.waiting) if line else 0

    def _may(self, line: _Line[T], now: float) -> bool:
        return (
            self._in_flight < self._limit
            and line.in_flight < line.cap
            and line.blocked_until <= now
            and not (line.is_slow and self._slow_in_flight >= max(1, self._limit // 2))
        )

    def _begin(self, line: _Line[T]) -> None:
        line.in_flight += 1
        line.credit_s -= line.typical_s
        self._in_flight += 1
        self._slow_in_flight += line.is_slow

    def _new(self, key: str) -> _Line[T]:
        if len(self._lines) >= KEPT:
            idle = [known for known, line in self._lines.items() if not (line.in_flight or line.waiting)]
            for known in idle[: KEPT // 2]:
                del self._lines[known]
        self._lines[key] = _Line()
        return self._lines[key]
