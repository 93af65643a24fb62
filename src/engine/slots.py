"""The jobs this process holds: claimed and waiting for a slot, running in one, or over and not yet written down."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TypeVar

from loguru import logger

from ..rules.pace import Pace
from ..rules.shares import Shares
from . import metrics
from .claims import ARRIVED, ENDED, Claimed, Finish, given_back
from .finisher import Finisher
from .runner import Runner

T = TypeVar("T")
AHEAD_S = 0.25  # how long what was claimed ahead waits for a slot
SUSPICIOUS = 2  # workers a job has killed, from which on few such jobs run at once


@dataclass(slots=True)
class _Held:
    """A job held here: its task while it runs, None before, and after until its end is written.

    `since`: when it took its slot; None while it has none.
    """

    lane: str
    task: asyncio.Task[Finish] | None = None
    since: float | None = None
    is_stopped: bool = False  # somebody wants it to end
    is_handed: bool = False  # it was handed over, and Redis is not known to have heard that it arrived
    back_in: str = ""  # the lane it was claimed from again before its end was known to be written


#: The job whose task this is.
_current: ContextVar[_Held | None] = ContextVar("held", default=None)


class Slots:
    """`size` jobs run at once. `on_free` is called when a slot became free, or something else is to be looked at."""

    def __init__(
        self, size: int, runner: Runner, finisher: Finisher, shares: Shares, on_free: Callable[[], None]
    ) -> None:
        self.size = size
        self.running = 0
        self.claimed_at = monotonic()  # when a claim was last answered
        self.pace = Pace(monotonic())
        self.idle = asyncio.Event()  # set while nothing runs, with a slot or without
        self.idle.set()
        #: Lanes in which Redis takes something for running here that does not.
        self.missed: set[str] = set()
        self._runner = runner
        self._finisher = finisher
        self._shares = shares
        self._on_free = on_free
        self._held: dict[str, _Held] = {}
        self._ahead: deque[Claimed] = deque()  # claimed for slots that are about to be free
        self._ahead_since = 0.0
        self._returning: deque[tuple[_Held, asyncio.Future[None]]] = deque()  # waited for something, want a slot again
        self._tasks = 0
        self._suspects = 0
        self._trusted = 1  # suspects that may run at once: doubled by each that ends well

    def wanted(self, *, has_more: bool) -> int:
        """How many jobs to claim: free slots, and as many more as will have ended by the time the answer is here."""
        return self.size - self.running - len(self._ahead) + (self.pace.ahead(self.size) if has_more else 0)

    @property
    def suspects_wanted(self) -> int:
        """How many jobs that killed two workers may be among them."""
        return max(0, self._trusted - self._suspects)

    @property
    def held(self) -> Collection[str]:
        """Ids of all jobs held here."""
        return self._held.keys()

    def pairs(self) -> list[tuple[str, str]]:
        """(lane, id) of all jobs held here. May be called from another thread."""
        # list() of a dict's items is one step for the interpreter
        return [(held.lane, job_id) for job_id, held in list(self._held.items())]

    def unconfirmed(self) -> list[tuple[str, str]]:
        """Those of `pairs` whose lease ends in a moment, as long as nobody has told Redis that they arrived."""
        return [(held.lane, job_id) for job_id, held in list(self._held.items()) if held.is_handed]

    def take(self, jobs: Iterable[Claimed], *, is_handed: bool = False) -> None:
        """Run these as slots are free. `is_handed`: they were handed over and not claimed."""
        self.claimed_at = monotonic()
        for claimed in jobs:
            if held := self._held.get(claimed.job_id):  # Redis was away, or its answer to `finish` comes after this one
                held.back_in = claimed.lane
                continue
            self._held[claimed.job_id] = _Held(claimed.lane, is_handed=is_handed)
            if claimed.is_stopped:  # it was put back before its worker heard of that
                self._finisher.add(self._runner.stopped(claimed, 0.0))
                continue
            self._suspects += claimed.killed >= SUSPICIOUS
            self._ahead.append(claimed)
        self._fill()
        if self._ahead and not self._ahead_since:
            self._ahead_since = monotonic()

    def give_back_ahead(self, *, at_once: bool = False) -> None:
        """Give back what no slot came free for as soon as it seemed: somebody else may have one."""
        if not (at_once or (self._ahead_since and monotonic() - self._ahead_since > AHEAD_S)):
            return
        for claimed in self._ahead:
            self._suspects -= claimed.killed >= SUSPICIOUS
            self._finisher.add(given_back(claimed))
        self._ahead.clear()
        self._ahead_since = 0.0

    async def off(self, waiting: Awaitable[T]) -> T:
        """Await `waiting` without the slot of the job that asks, and then a slot; before what is claimed by then."""
        held = _current.get()
        if held is None or held.since is None:
            return await waiting
        self._leave(held)
        self._fill()
        self._on_free()
        result = await waiting  # where that raises, the job is about to end and needs no slot for it
        if self.running < self.size:
            self._enter(held)
        else:
            turn = asyncio.get_running_loop().create_future()
            self._returning.append((held, turn))
            await turn
        return result

    def cut(self, *, only_off: bool = False) -> int:
        """Cancel what runs, or only what waits without a slot, so that it is given back; returns how many those are."""
        tasks = [held.task for held in self._held.values() if held.task and not (only_off and held.since is not None)]
        for task in tasks:
            task.cancel()
        return len(tasks)

    def stop(self, job_ids: Iterable[str]) -> None:
        """End these for good, those that run here. Safe to repeat."""
        for job_id in job_ids:
            held = self._held.get(job_id)
            if held and held.task and not held.is_stopped:
                held.is_stopped = True
                held.task.cancel()

    def written(self, batch: Sequence[Finish]) -> None:
        """These ends are stored."""
        for kind, _, job_id, *_ in batch:
            if kind == ARRIVED:
                if arrived := self._held.get(job_id):
                    arrived.is_handed = False
                continue
            held = self._held.pop(job_id, None)
            if held and held.back_in:
                self.missed.add(held.back_in)
                self._on_free()

    def lost(self, job_ids: list[str]) -> None:
        """Another worker took them for ours to be dead; two must not run on."""
        for claimed in [claimed for claimed in self._ahead if claimed.job_id in job_ids]:
            self._ahead.remove(claimed)
            self._suspects -= claimed.killed >= SUSPICIOUS
            del self._held[claimed.job_id]
        for job_id in job_ids:
            held = self._held.get(job_id)
            if held and held.task:
                metrics.LEASES_LOST.inc()
                logger.error("lease lost, the job runs elsewhere", job_id=job_id, lane=held.lane)
                held.task.cancel()

    def _enter(self, held: _Held) -> None:
        held.since = monotonic()
        self.running += 1
        self._shares.started(held.lane, held.since)

    def _leave(self, held: _Held) -> None:
        """Give the slot back, where it has one."""
        if held.since is not None:
            now = monotonic()
            self.running -= 1
            self._shares.ended(held.lane, now - held.since, now)
            held.since = None

    def _fill(self) -> None:
        while self._returning and self.running < self.size:
            held, turn = self._returning.popleft()
            if not turn.done():  # its job was cancelled meanwhile
                self._enter(held)
                turn.set_result(None)
        while self._ahead and self.running < self.size:
            self._start(self._ahead.popleft())
            self._ahead_since = 0.0

    def _start(self, claimed: Claimed) -> None:
        if claimed.killed:
            metrics.RESCUED.inc()
            logger.warning("job taken over from a worker that died", job_id=claimed.job_id, killed=claimed.killed)
        held = self._held[claimed.job_id]
        token = _current.set(held)
        held.task = task = asyncio.create_task(self._runner.run(claimed))
        _current.reset(token)
        # a callback, because a task cancelled before its first step never runs a line of its own
        task.add_done_callback(partial(self._ended, claimed))
        self._enter(held)
        self._tasks += 1
        self.idle.clear()

    def _ended(self, claimed: Claimed, task: asyncio.Task[Finish]) -> None:
        held = self._held[claimed.job_id]
        held.task = None
        ran_s = monotonic() - held.since if held.since is not None else 0.0
        self._tasks -= 1
        self._leave(held)
        if claimed.killed >= SUSPICIOUS:
            self._suspects -= 1
        finish = given_back(claimed) if task.cancelled() or task.exception() else task.result()
        if held.is_stopped and finish == given_back(claimed):
            finish = self._runner.stopped(claimed, ran_s)
        if claimed.killed >= SUSPICIOUS and finish[0] == ENDED:
            self._trusted = min(self._trusted * 2, self.size)
        self._finisher.add(finish)
        self.pace.ended()
        self._fill()
        if not self._tasks:
            self.idle.set()
        self._on_free()
