"""The lanes of a worker in the test's own process, on real Redis and MongoDB."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from redis.asyncio import Redis

from src.clients.redis import open_redis
from src.deps import Deps, open_deps
from src.engine import keys
from src.engine.facts import JobInfo
from src.engine.hands import QueueHands
from src.engine.history import History
from src.engine.job import Job
from src.engine.lanes import Lanes
from src.engine.queue import Queue
from src.settings import Settings

T = TypeVar("T")
LOOK_S = 0.005
PATIENCE_S = 15.0  # of a test that waits for what must come


@dataclass
class House:
    """A worker's lanes, and what a test asks of them. `redis` is a connection of the test's own."""

    deps: Deps
    redis: Redis
    queue: Queue
    lanes: Lanes

    @property
    def running(self) -> int:
        """Jobs that run here now."""
        return self.lanes.slots.running

    async def enqueue(self, name: str, /, **arguments: Any) -> str:
        """One job, as callers do it; returns its id."""
        return (await self.queue.put([self.queue.prepare(name, arguments)]))[0]

    async def put(self, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> str:
        """One job with the options of `Queue.prepare`; returns its id."""
        return (await self.queue.put([self.queue.prepare(name, arguments or {}, **options)]))[0]

    async def put_raw(self, lane: str, job_id: str, payload: bytes) -> None:
        """A job as somebody else would write it."""
        await self.redis.set(keys.JOB + job_id, payload)
        await self.redis.zadd(lane, {job_id: 1})

    async def ended(self, job_id: str) -> JobInfo:
        """How a job ended, when it has; results must be kept."""
        return await until(lambda: self._ended(job_id))

    async def _ended(self, job_id: str) -> JobInfo | None:
        info = await self.queue.job(job_id)
        return info if info and info.state in ("done", "dead", "cancelled") else None

    async def letter(self, job_id: str) -> dict[str, Any]:
        """The dead letter of a job."""
        letter = await self.deps.dead_letters.get(job_id)
        assert letter is not None
        return letter

    async def settled(self) -> None:
        """When nothing waits and nothing runs in any lane."""

        async def is_empty() -> bool:
            stats = (await self.queue.stats()).values()
            return not any(lane.pending + lane.active + lane.scheduled + lane.retry for lane in stats)

        await until(is_empty)


def with_worker(settings: Settings, **worker: Any) -> Settings:
    """`settings` with some of the worker's exchanged."""
    return settings.replace(worker=settings.worker.model_copy(update=worker))


def with_head_start(settings: Settings, seconds: float) -> Settings:
    """`settings` with another head start of a priority of 1."""
    return settings.replace(lanes=settings.lanes.model_copy(update={"priority_head_start_seconds": seconds}))


@asynccontextmanager
async def serving(settings: Settings, *jobs: Job[Any], history: bool = False, **worker: Any) -> AsyncIterator[House]:
    """Lanes that run `jobs` until the block is left; `worker` are fields of the worker's settings."""
    settings = with_worker(settings, **{"max_concurrent_jobs": 10, **worker})
    named = {job.name: job for job in jobs}
    async with AsyncExitStack() as stack:
        deps = await stack.enter_async_context(open_deps(settings))
        queue = Queue(deps.redis, {name: job.declaration for name, job in named.items()})
        hands = QueueHands(queue)
        deps = replace(deps, hands=hands)
        if history:
            kept = History(deps.job_runs, deps.run_minutes, days=1, worker="test", known=named)
            stack.push_async_callback(kept.close)
            deps = replace(deps, record=kept.add)
        claiming = await stack.enter_async_context(open_redis(settings.redis, retries=0))
        lanes = Lanes(deps, claiming, named, f"test:{secrets.token_hex(4)}")
        hands.slots = lanes.slots
        await lanes.start()
        try:
            yield House(deps, deps.redis, queue, lanes)
        finally:
            await lanes.drain(1.0, asyncio.Event())


async def until(look: Callable[[], Awaitable[T | None]], within_s: float = PATIENCE_S) -> T:
    """What `look` gives, as soon as that is something; fails after `within_s`."""
    ends_at = time.monotonic() + within_s
    while True:
        found = await look()
        if found:
            return found
        assert time.monotonic() < ends_at, "waited for too long"
        await asyncio.sleep(LOOK_S)


class Gate:
    """Jobs that wait inside until they are let through. `came` are the names of those that have come, in order."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self._changed = asyncio.Condition()
        self._open = asyncio.Event()

    async def enter(self, name: str) -> None:
        """Called by the job."""
        async with self._changed:
            self.came.append(name)
            self._changed.notify_all()
        await self._open.wait()

    async def has(self, count: int) -> None:
        """Returns when `count` jobs have come."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.came) >= count)

    def open(self) -> None:
        """Let all through, now and from now on."""
        self._open.set()
