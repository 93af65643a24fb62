"""The way to an endpoint: a turn among this process' own calls (`rules.turns`), then the gate all processes share."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from ...rules.turns import Turns
from .gate import Entry, Exit, Gate, Limits

MOST_WAITING = 500  # calls that wait in this process; their jobs' arguments are in memory
MOST_IN_LINE = 100  # of them for one endpoint
ASK_AGAIN_S = (0.02, 0.25)  # while other processes use up an endpoint's calls: first, and at most
AWAY_S = (0.2, 30.0)  # what is sent away for want of room comes back after this time, at least and at most
EARLY = 0.8  # of the time its turn is reckoned to come


class Closed(Exception):
    """The endpoint is not to be called for `wait_s` seconds, because of `why`: `hold` or `breaker`.

    `is_scout`: this call is the one that is to be made then; the others wait for how it ends.
    """

    def __init__(self, wait_s: float, why: str, *, is_scout: bool = False) -> None:
        super().__init__(why)
        self.wait_s = wait_s
        self.why = why
        self.is_scout = is_scout


class Crowded(Exception):
    """Too many wait here already; come back in `wait_s` seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("crowded")
        self.wait_s = wait_s


@dataclass(slots=True)
class Permit:
    """Leave to make one call. Given back by `Turnstile.leave`, whatever becomes of it."""

    endpoint_id: str
    call: str
    limits: Limits
    is_probe: bool
    version: bytes = b""  # of all endpoints, when it was given (`Gate.version`)


class Turnstile:
    """Lets calls pass, `limit` of this process at once. For one event loop."""

    def __init__(self, gate: Gate, limit: int) -> None:
        self._gate = gate
        self._turns = Turns[asyncio.Future[None]](limit)
        self._due: dict[str, float] = {}  # endpoint -> when the last one that was sent away has its turn
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def is_free(self, endpoint_id: str, limits: Limits) -> bool:
        """Whether a call would have its turn at once, as far as this process knows."""
        return self._turns.is_free(endpoint_id, limits.cap, monotonic())

    async def enter_now(self, endpoint_id: str, call: str, limits: Limits) -> Permit | None:
        """Leave for `call` where it has its turn at once. Raises as `enter`."""
        if not self.is_free(endpoint_id, limits):
            return None
        self._turns.begin(endpoint_id, limits.cap)
        entry = await self._asked(endpoint_id, call, limits)
        if entry.kind == "busy":
            self._done(endpoint_id, None)
            return None
        return Permit(endpoint_id, call, limits, entry.kind == "probe", entry.version)

    async def enter(self, endpoint_id: str, call: str, limits: Limits) -> Permit:
        """Wait for the turn of `call` (its name among all processes).

        Raises Closed while the endpoint is not to be called, Crowded where too many wait, and what redis raises.
        """
        wait_s, longest_s = ASK_AGAIN_S
        is_first = False
        while True:
            await self._turn(endpoint_id, limits.cap, is_first=is_first)
            entry = await self._asked(endpoint_id, call, limits)
            if entry.kind in ("go", "probe"):
                return Permit(endpoint_id, call, limits, entry.kind == "probe", entry.version)
            self._later(endpoint_id, min(entry.wait_s or wait_s, longest_s))
            self._done(endpoint_id, None)
            wait_s, is_first = min(wait_s * 2, longest_s), True

    async def leave(
        self,
        permit: Permit,
        took_s: float | None,
        *,
        how: Literal["ok", "fail", "none"],
        pause_s: float = 0.0,
        is_overloaded: bool = False,
    ) -> Exit:
        """The call is over; `took_s` None where it was not made. Raises what redis raises; the turn is given back."""
        self._done(permit.endpoint_id, took_s)
        left = await self._gate.leave(
            permit.endpoint_id, permit.call, permit.limits, how=how, pause_s=pause_s, is_overloaded=is_overloaded
        )
        if permit.endpoint_id in self._timers:
            self._unblock(permit.endpoint_id)  # there is room at the gate now
        return left

    async def _asked(self, endpoint_id: str, call: str, limits: Limits) -> Entry:
        """What the gate says to who has the turn; the turn is given back where that is no."""
        try:
            entry = await self._gate.enter(endpoint_id, call, limits)
        except BaseException:
            self._done(endpoint_id, None)
            raise
        if entry.kind == "closed":
            self._dismiss(endpoint_id, entry)
            self._done(endpoint_id, None)
            raise Closed(entry.wait_s, entry.why, is_scout=entry.is_scout)
        return entry

    async def _turn(self, endpoint_id: str, cap: int, *, is_first: bool) -> None:
        turns, now = self._turns, monotonic()
        if turns.is_free(endpoint_id, cap, now):
            turns.begin(endpoint_id, cap)
            return
        if not is_first and (turns.waiting >= MOST_WAITING or turns.length(endpoint_id) >= MOST_IN_LINE):
            raise Crowded(self._away_s(endpoint_id, now))
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turns.ask(endpoint_id, ticket, cap, first=is_first)
        try:
            await ticket
        except asyncio.CancelledError:
            turns.forget(endpoint_id, ticket)
            if ticket.done() and not ticket.cancelled() and ticket.exception() is None:
                self._done(endpoint_id, None)  # the turn came as we were cancelled
            raise

    def _away_s(self, endpoint_id: str, now: float) -> float:
        """When to come back: each who is sent away has its own time, at the pace the endpoint's calls end."""
        least_s, most_s = AWAY_S
        per_call_s = self._turns.per_call_s(endpoint_id)
        waiting_s = self._turns.length(endpoint_id) * per_call_s
        due = max(self._due.get(endpoint_id, 0.0), now + waiting_s) + per_call_s
        self._due[endpoint_id] = min(due, now + most_s)
        if len(self._due) > MOST_WAITING:
            self._due = {key: at for key, at in self._due.items() if at > now}
        return max(least_s, (due - now) * EARLY)

    def _done(self, endpoint_id: str, took_s: float | None) -> None:
        self._turns.done(endpoint_id, took_s)
        self._grant()

    def _grant(self) -> None:
        now = monotonic()
        while self._turns.waiting and (granted := self._turns.next(now)):
            endpoint_id, ticket = granted
            if ticket.done():  # cancelled, and not yet out of the line
                self._turns.done(endpoint_id, None)
            else:
                ticket.set_result(None)

    def _later(self, endpoint_id: str, wait_s: float) -> None:
        """Nobody of the endpoint asks the gate before."""
        self._turns.block(endpoint_id, monotonic() + wait_s)
        if timer := self._timers.pop(endpoint_id, None):
            timer.cancel()
        self._timers[endpoint_id] = asyncio.get_running_loop().call_later(wait_s, self._unblock, endpoint_id)

    def _unblock(self, endpoint_id: str) -> None:
        self._timers.pop(endpoint_id, None)
        with suppress(KeyError):
            self._turns.block(endpoint_id, 0.0)
        self._grant()

    def _dismiss(self, endpoint_id: str, entry: Entry) -> None:
        """Those in line need not ask one by one."""
        for ticket in self._turns.dismiss(endpoint_id):
            if not ticket.done():
                ticket.set_exception(Closed(entry.wait_s, entry.why))
