"""The lanes of this process: claims due jobs of all its lanes together, runs them, and writes down how they ended.

One loop claims as many jobs as there are free slots, in one call; it is woken by whoever enqueues (pub/sub), by a slot
that becomes free, and when something falls due, and else looks each `POLL_S`, for the sake of plain arq clients, which
wake nobody. One loop writes down the ends (`finisher`), a thread renews the leases (`leases`). Redis may go away and
come back under all of them: what ended waits to be written, what runs goes on.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from loguru import logger
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..deps import Deps
from ..rules.pace import Pace
from ..rules.shares import Shares
from . import keys, metrics
from .claims import ARRIVED, Answer, Claimed, Claims, Finish, arrived, given_back, handed
from .finisher import Finisher
from .job import Job
from .leases import LeaseKeeper
from .runner import Runner
from .wake import Wake

POLL_S = 0.25
AHEAD_S = 0.25  # how long what was claimed ahead waits for a slot
AWAY_S = (0.05, 1.0)  # wait after Redis failed first, and at most: shorter than a lease
FLUSH_S = 5.0  # for the last ends to be written when the process stops
FRONT_DOOR_WEIGHT = 2.0


@dataclass(slots=True)
class _Held:
    """A job held here: its task until it ended, then None until its end is written."""

    lane: str
    task: asyncio.Task[Finish] | None
    back_in: str = ""  # the lane it was claimed from again before its end was known to be written


class Lanes:
    """Serves the lanes of the settings with `jobs`. `redis`: a connection of its own that does not retry by itself."""

    def __init__(self, deps: Deps, redis: Redis, jobs: Mapping[str, Job[Any]], token: str) -> None:
        settings = deps.settings
        names = settings.worker.lanes or tuple(settings.lanes.weights)
        weights = {lane: settings.lanes.weights[lane] for lane in names} | {keys.FRONT_DOOR: FRONT_DOOR_WEIGHT}
        self.slots = settings.worker.max_concurrent_jobs
        self._settings = settings
        self._token = token
        self._lanes = tuple(weights)
        self._shares = Shares(weights, monotonic())
        self._claims = Claims(
            redis,
            token,
            lease_s=settings.worker.lease_seconds,
            head_start_s=settings.lanes.priority_head_start_seconds,
        )
        # on a connection that tries again: without its past a job has no dead letter, and would fail once more
        past = Claims(deps.redis, token, lease_s=settings.worker.lease_seconds, head_start_s=0.0)
        self._runner = Runner(deps, jobs, past, token)
        self._finisher = Finisher(self._claims, self._written)
        self._wake = Wake(redis, self._lanes, token, self._handed)
        self._held: dict[str, _Held] = {}
        self._running = 0
        self._suspects = 0
        self._pace = Pace(monotonic())
        self._ahead: deque[Claimed] = deque()  # claimed for slots that are about to be free
        self._ahead_since = 0.0
        self._has_more = False
        self._missed: set[str] = set()  # lanes in which Redis takes something for running here that does not
        self._unseen = False  # whether something may have come since all slots were taken
        self._closing = False
        self._idle = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._stack = ExitStack()
        timeouts = [job.declaration.timeout_s or settings.worker.default_timeout_seconds for job in jobs.values()]
        self._longest_s = max(timeouts, default=0.0)

    async def start(self) -> None:
        """Begin to claim. Raises what redis raises where it does not answer."""
        await self._claims.announce(self._lanes)
        keeper = LeaseKeeper(self._settings, self._token, self._pairs, self._lost, give_up_s=self._longest_s)
        self._stack.enter_context(keeper)
        metrics.SLOTS.set(self.slots)
        metrics.RUNNING.set_function(lambda: self._running)
        loops = (self._claim_forever, self._wake.listen, self._finisher.keep)
        self._loops = [asyncio.create_task(_kept_up(loop)) for loop in loops]

    @property
    def running(self) -> int:
        """Jobs that run in this process now."""
        return self._running

    def stop_claiming(self) -> None:
        """Take no more jobs; those that run go on."""
        self._closing = True
        self._give_back_ahead()
        self._wake.set()
        self._look_if_idle()

    async def drain(self, grace_s: float, hurry: asyncio.Event) -> int:
        """Wait `grace_s` for the running jobs, or until `hurry`; give the rest back, and return how many those were."""
        self.stop_claiming()
        hurried = asyncio.create_task(hurry.wait())
        # what a claim that is under way brings would be nobody's
        await asyncio.wait({self._loops[0], hurried}, timeout=FLUSH_S, return_when=asyncio.FIRST_COMPLETED)
        self._give_back_ahead()
        idle = asyncio.create_task(self._idle.wait())
        await asyncio.wait({idle, hurried}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        cut = [held.task for held in self._held.values() if held.task]
        for task in cut:
            task.cancel()
        await asyncio.wait({idle}, timeout=FLUSH_S)
        idle.cancel()
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._finisher.flushed()
        except TimeoutError:
            logger.error("Redis is away: jobs run again when their leases are over", jobs=len(self._held))
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._stack.close()
        return len(cut)

    async def _claim_forever(self) -> None:
        away_s = AWAY_S[0]
        while not self._closing:
            self._wake.clear()
            wait_s = POLL_S
            if self._missed:
                await self._take_back(self._missed)
            if (wanted := self._wanted()) > 0:
                try:
                    answer = await self._claim(wanted)
                except (RedisError, OSError) as e:
                    logger.warning("lanes wait for Redis", error=type(e).__name__)
                    await asyncio.sleep(away_s)
                    away_s = min(away_s * 2, AWAY_S[1])
                    await self._take_back(self._lanes)
                    continue
                away_s = AWAY_S[0]
                wait_s = min(POLL_S, answer.next_due_s if answer.next_due_s is not None else POLL_S)
                if self._has_more and answer.jobs and self._wanted() > 0:
                    continue
            else:
                self._unseen = True
            if self._ahead_since and monotonic() - self._ahead_since > AHEAD_S:
                self._give_back_ahead()
            await self._wake.wait(wait_s)

    def _wanted(self) -> int:
        """Free slots, and as many jobs more as will have ended by the time the answer is here."""
        return self.slots - self._running - len(self._ahead) + (self._pace.ahead(self.slots) if self._has_more else 0)

    async def _claim(self, wanted: int) -> Answer:
        asked = monotonic()
        answer = await self._claims.claim(self._shares.keys(asked), wanted, suspects=int(self._suspects == 0))
        now = monotonic()
        self._pace.answered(now - asked, now)
        self._shares.seen(answer.waiting)
        self._has_more, self._unseen = answer.has_more, False
        for claimed in answer.jobs:
            if held := self._held.get(claimed.job_id):  # Redis was away, or its answer to `finish` comes after this one
                held.back_in = claimed.lane
                continue
            self._held[claimed.job_id] = _Held(claimed.lane, None)
            self._suspects += claimed.killed > 1
            self._ahead.append(claimed)
        self._fill()
        if self._ahead and not self._ahead_since:
            self._ahead_since = now
        return answer

    def _handed(self, message: bytes) -> None:
        """A job an enqueuer gave to us because we had nothing to do."""
        claimed = handed(message)
        if self._closing:
            self._finisher.add(given_back(claimed))
        elif claimed.job_id not in self._held:
            self._held[claimed.job_id] = _Held(claimed.lane, None)
            self._ahead.append(claimed)
            self._fill()
            self._ahead_since = self._ahead_since or (monotonic() if self._ahead else 0.0)
            self._finisher.add(arrived(claimed, self._settings.worker.lease_seconds))

    def _fill(self) -> None:
        """Give free slots to what was claimed ahead."""
        while self._ahead and self._running < self.slots:
            self._start(self._ahead.popleft())
            self._ahead_since = 0.0

    def _give_back_ahead(self) -> None:
        """No slot came free for them as soon as it seemed: somebody else may have one."""
        for claimed in self._ahead:
            self._suspects -= claimed.killed > 1
            self._finisher.add(given_back(claimed))
        self._ahead.clear()
        self._ahead_since = 0.0

    async def _take_back(self, lanes: Iterable[str]) -> None:
        """Claim again what was claimed for nothing: it would else wait for its lease to run out."""
        lanes, self._missed = set(lanes), set()
        try:
            await self._claims.unheard(lanes, self._held)
        except (RedisError, OSError):
            self._missed |= lanes

    def _start(self, claimed: Claimed) -> None:
        if claimed.killed:
            metrics.RESCUED.inc()
            logger.warning("job taken over from a worker that died", job_id=claimed.job_id, killed=claimed.killed)
        started = monotonic()
        task = asyncio.create_task(self._runner.run(claimed))
        # a callback, because a task cancelled before its first step never runs a line of its own
        task.add_done_callback(partial(self._ended, claimed, started))
        self._held[claimed.job_id].task = task
        self._running += 1
        self._idle.clear()
        self._shares.started(claimed.lane, started)

    def _ended(self, claimed: Claimed, started: float, task: asyncio.Task[Finish]) -> None:
        now = monotonic()
        self._held[claimed.job_id].task = None
        self._running -= 1
        self._suspects -= claimed.killed > 1
        self._shares.ended(claimed.lane, now - started, now)
        self._finisher.add(given_back(claimed) if task.cancelled() else task.result())
        self._pace.ended()
        self._fill()
        if self._has_more or self._unseen:
            self._wake.set()
        self._look_if_idle()

    def _look_if_idle(self) -> None:
        if self._closing and not self._running:
            self._idle.set()

    def _written(self, batch: Sequence[Finish]) -> None:
        for kind, _, job_id, *_ in batch:
            held = self._held.pop(job_id, None) if kind != ARRIVED else None
            if held and held.back_in:
                self._missed.add(held.back_in)
                self._wake.set()

    def _pairs(self) -> list[tuple[str, str]]:
        # from the keeper's thread: list() of a dict's items is one step for the interpreter
        return [(held.lane, job_id) for job_id, held in list(self._held.items())]

    def _lost(self, job_ids: list[str]) -> None:
        """Another worker took them for ours to be dead; two must not run on."""
        for claimed in [claimed for claimed in self._ahead if claimed.job_id in job_ids]:
            self._ahead.remove(claimed)
            self._suspects -= claimed.killed > 1
            del self._held[claimed.job_id]
        for job_id in job_ids:
            held = self._held.get(job_id)
            if held and held.task:
                metrics.LEASES_LOST.inc()
                logger.error("lease lost, the job runs elsewhere", job_id=job_id, lane=held.lane)
                held.task.cancel()


async def _kept_up(loop: Callable[[], Awaitable[None]]) -> None:
    """A bug in one must not leave a worker that seems to live and does nothing."""
    while True:
        try:
            return await loop()
        except Exception as e:  # noqa: BLE001
            logger.opt(exception=e).error("the lanes hit a bug")
            await asyncio.sleep(AWAY_S[1])
