"""The lanes of this process: claims due jobs of all its lanes together, runs them, and writes down how they ended.

One loop claims as many jobs as there are free slots, in one call; it is woken by whoever enqueues (pub/sub), by a slot
that becomes free, and when something falls due, and else looks each `POLL_S`, for the sake of plain arq clients, which
wake nobody. One loop writes down the ends (`finisher`), a thread renews the leases (`leases`). Redis may go away and
come back under all of them: what ended waits to be written, what runs goes on.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

from loguru import logger
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..deps import Deps
from ..rules.shares import Shares
from . import keys, metrics
from .claims import Answer, Claims, arrived, given_back, handed
from .finisher import Finisher
from .job import Job
from .leases import LeaseKeeper
from .runner import Runner
from .slots import Slots
from .upkeep import kept_up
from .wake import Wake

POLL_S = 0.25
AWAY_S = (0.05, 1.0)  # wait after Redis failed first, and at most: shorter than a lease
HEAR_S = 1.0  # for what was handed over to arrive when the process stops
FLUSH_S = 5.0  # for the last ends to be written when the process stops
FRONT_DOOR_WEIGHT = 2.0
GOODBYE = b"goodbye"  # our own message to us: behind it comes none that hands a job over


class Lanes:
    """Serves the lanes of the settings with `jobs`. `redis`: a connection of its own that does not retry by itself."""

    def __init__(self, deps: Deps, redis: Redis, jobs: Mapping[str, Job[Any]], token: str) -> None:
        settings = deps.settings
        self._settings = settings
        self._token = token
        names = settings.worker.lanes or tuple(settings.lanes.weights)
        weights = {lane: settings.lanes.weights[lane] for lane in names} | {keys.FRONT_DOOR: FRONT_DOOR_WEIGHT}
        self._lanes = tuple(weights)
        self._shares = Shares(weights, monotonic())
        lease_s, head_start_s = settings.worker.lease_seconds, settings.lanes.priority_head_start_seconds
        self._claims = Claims(redis, token, lease_s=lease_s, head_start_s=head_start_s)
        # on a connection that tries again: without its past a job has no dead letter, and would fail once more
        past = Claims(deps.redis, token, lease_s=lease_s, head_start_s=head_start_s)
        self._finisher = Finisher(self._claims)
        self._wake = Wake(redis, self._lanes, token, self._handed)
        runner = Runner(deps, jobs, past, token)
        size = settings.worker.max_concurrent_jobs
        self.slots = Slots(size, runner, self._finisher, self._shares, self._slot_is_free)
        self._has_more = False  # whether the last claim left due jobs behind
        self._unseen = False  # whether something may have come since all slots were taken
        self._closing = False
        self._heard_all = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._stack = ExitStack()
        timeouts = [job.declaration.timeout_s or settings.worker.default_timeout_seconds for job in jobs.values()]
        self._longest_s = max(timeouts, default=0.0)

    async def start(self) -> None:
        """Begin to claim. Raises what redis raises where it does not answer."""
        await self._claims.announce(self._lanes)
        slots = self.slots
        keeper = LeaseKeeper(
            self._settings, self._token, slots.pairs, slots.unconfirmed, slots.lost, give_up_s=self._longest_s
        )
        self._stack.enter_context(keeper)
        metrics.SLOTS.set(slots.size)
        metrics.RUNNING.set_function(lambda: slots.running)
        loops = (self._claim_forever, self._wake.listen, lambda: self._finisher.keep(slots.written))
        self._loops = [asyncio.create_task(kept_up(loop)) for loop in loops]

    def stop_claiming(self) -> None:
        """Take no more jobs; those that run go on."""
        self._closing = True
        self.slots.give_back_ahead(at_once=True)
        self._wake.set()

    async def drain(self, grace_s: float, hurry: asyncio.Event) -> int:
        """Wait `grace_s` for the running jobs, or until `hurry`; give the rest back, and return how many those were."""
        self.stop_claiming()
        hurried = asyncio.create_task(hurry.wait())
        # what a claim that is under way brings would be nobody's
        await asyncio.wait({self._loops[0], hurried}, timeout=FLUSH_S, return_when=asyncio.FIRST_COMPLETED)
        await self._hear_the_last()
        self.slots.give_back_ahead(at_once=True)
        self.slots.cut(only_off=True)  # they wait for others, and can do that elsewhere
        idle = asyncio.create_task(self.slots.idle.wait())
        await asyncio.wait({idle, hurried}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        cut = self.slots.cut()
        await asyncio.wait({idle}, timeout=FLUSH_S)
        idle.cancel()
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._finisher.flushed()
                if self.slots.missed:  # given back, and claimed again by a call that was under way
                    await self._take_back(self.slots.missed)
        except TimeoutError:
            logger.error("Redis is away: jobs run again when their leases are over", jobs=len(self.slots.held))
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._stack.close()
        return cut

    async def _claim_forever(self) -> None:
        away_s = AWAY_S[0]
        while not self._closing:
            self._wake.clear()
            wait_s = POLL_S
            if self.slots.missed:
                await self._take_back(self.slots.missed)
            if (wanted := self.slots.wanted(has_more=self._has_more)) > 0:
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
                if self._has_more and answer.jobs and self.slots.wanted(has_more=True) > 0:
                    continue
            else:
                self._unseen = True
            self.slots.give_back_ahead()
            await self._wake.wait(wait_s)

    async def _claim(self, wanted: int) -> Answer:
        asked = monotonic()
        answer = await self._claims.claim(self._shares.keys(asked), wanted, suspects=self.slots.suspects_wanted)
        now = monotonic()
        self.slots.pace.answered(now - asked, now)
        self._shares.seen(answer.waiting)
        self._has_more, self._unseen = answer.has_more, False
        self.slots.take(answer.jobs)
        return answer

    async def _hear_the_last(self) -> None:
        """Until nothing more is handed over here: what nobody reads waits, and counts as a death of ours."""
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(HEAR_S):
                if await self._claims.take_no_more(GOODBYE):
                    await self._heard_all.wait()

    def _handed(self, message: bytes) -> None:
        """A job an enqueuer gave to us because we had nothing to do."""
        if message == GOODBYE:
            self._heard_all.set()
            return
        job, at_ms = handed(message)
        if self._claims.is_stale(at_ms):
            return  # we stood still meanwhile: it is due again, and somebody else may run it
        if self._closing:
            self._finisher.add(given_back(job))
        elif job.job_id not in self.slots.held:
            self.slots.take([job], is_handed=True)
            self._finisher.add(arrived(job, self._settings.worker.lease_seconds))

    def _slot_is_free(self) -> None:
        if self._has_more or self._unseen or self.slots.missed:
            self._wake.set()

    async def _take_back(self, lanes: Iterable[str]) -> None:
        """Claim again what was claimed for nothing: it would else wait for its lease to run out."""
        lanes, self.slots.missed = set(lanes), set()
        try:
            await self._claims.unheard(lanes, self.slots.held)
        except (RedisError, OSError):
            self.slots.missed |= lanes
