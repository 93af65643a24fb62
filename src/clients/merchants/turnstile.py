"""The way to an endpoint: a turn among this process' own calls (`rules.turns`), then the gate all processes share."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from random import uniform
from time import monotonic
from typing import Literal

from ...rules.turns import Turns
from .gate import Entry, Exit, Gate, Limits

MOST_WAITING = 2_000  # calls that wait in this process
MOST_IN_LINE = 500  # of them for one endpoint
MOST_BYTES = 16 * 1024 * 1024  # of what waits: the arguments of its jobs are in memory, as some times as much
ASK_AGAIN_S = (0.02, 0.25)  # while other processes use up an endpoint's calls: first, and at most
FEW_IN_LINE = MOST_IN_LINE // 2  # with fewer than that, those who were sent away are called back
COMING_S = 0.2  # until those who are called back are here
MOST_AWAY = 5_000  # of one endpoint
AWAY_S = (20.0, 40.0)  # after which they come back though nobody called them: this process may have died


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
    """Too many wait here already."""


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
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._bytes = 0  # of what waits
        self._called: dict[str, float] = {}  # endpoint -> until when those who were called may be on their way
        self._away: dict[str, dict[str, None]] = {}  # endpoint -> the jobs that were sent away, in their order

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

    async def enter(self, endpoint_id: str, call: str, limits: Limits, *, size: int = 0) -> Permit:
        """Wait for the turn of `call` (its name among all processes), which holds `size` bytes meanwhile.

        Raises Closed while the endpoint is not to be called, Crowded where too many wait, and what redis raises.
        """
        wait_s, longest_s = ASK_AGAIN_S
        is_first = False
        while True:
            await self._turn(endpoint_id, limits.cap, size, is_first=is_first)
            entry = await self._asked(endpoint_id, call, limits)
            if entry.kind in ("go", "probe"):
                return Permit(endpoint_id, call, limits, entry.kind == "probe", entry.version)
            self._later(endpoint_id, min(entry.wait_s or wait_s, longest_s))
            self._done(endpoint_id, None)
            wait_s, is_first = min(wait_s * 2, longest_s), True

    def is_crowded(self, endpoint_id: str, size: int) -> bool:
        """Whether a call that holds `size` bytes finds no room to wait."""
        turns = self._turns
        length = turns.length(endpoint_id)
        if not length:
            return False  # others may have filled the room: that is not to be its loss
        is_full = turns.waiting >= MOST_WAITING or self._bytes + size > MOST_BYTES
        return is_full or length >= MOST_IN_LINE

    def sent_away(self, endpoint_id: str, job_id: str) -> float:
        """Remember the job of a call that found no room, to call it back; in how many seconds it comes by itself."""
        away = self._away.setdefault(endpoint_id, {})
        if len(away) < MOST_AWAY:  # the others come back by themselves
            away[job_id] = None
        return uniform(*AWAY_S)  # noqa: S311

    def is_back(self, endpoint_id: str, job_id: str) -> None:
        """The job is here again."""
        if away := self._away.get(endpoint_id):
            away.pop(job_id, None)
            if not away:
                del self._away[endpoint_id]

    def called_back(self, endpoint_id: str) -> list[str]:
        """The jobs for which there is room in line again; whoever asks has to tell them."""
        away, now = self._away.get(endpoint_id), monotonic()
        if not away or self._called.get(endpoint_id, 0.0) > now or self._turns.length(endpoint_id) >= FEW_IN_LINE:
            return []
        self._called[endpoint_id] = now + COMING_S
        job_ids = list(away)[:FEW_IN_LINE]
        for job_id in job_ids:
            self.is_back(endpoint_id, job_id)
        return job_ids

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

    async def _turn(self, endpoint_id: str, cap: int, size: int, *, is_first: bool) -> None:
        turns, now = self._turns, monotonic()
        if turns.is_free(endpoint_id, cap, now):
            turns.begin(endpoint_id, cap)
            return
        if not is_first and self.is_crowded(endpoint_id, size):
            raise Crowded
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turns.ask(endpoint_id, ticket, cap, first=is_first)
        self._bytes += size
        try:
            await ticket
        except asyncio.CancelledError:
            turns.forget(endpoint_id, ticket)
            if ticket.done() and not ticket.cancelled() and ticket.exception() is None:
                self._done(endpoint_id, None)  # the turn came as we were cancelled
            raise
        finally:
            self._bytes -= size

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
