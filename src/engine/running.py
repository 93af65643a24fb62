"""The jobs that run in this process: their leases while they run, and their orderly end when the process ends."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix
from loguru import logger
from redis.exceptions import RedisError

from ..clients.redis import in_time


class Running:
    """The jobs running in this process.

    While a job runs, arq hides it behind a key that outlives the longest timeout of all jobs. We shorten that key to a
    lease of `lease_s` and renew it, so that the jobs of a killed worker run elsewhere within seconds.

    The first SIGTERM or SIGINT stops claiming and sets `stopping`; jobs have `grace_s` to finish. After that, or at a
    second signal, they are cancelled, which puts them back into the queue without spending a try.
    """

    def __init__(
        self,
        redis: ArqRedis,
        stopping: asyncio.Event,
        *,
        grace_s: float,
        lease_s: float,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._redis = redis
        self._stopping = stopping
        self._grace_s = grace_s
        self._lease_s = lease_s
        self._on_stop = on_stop
        self._tasks: dict[str, asyncio.Task[object]] = {}

    @contextmanager
    def tracked(self, job_id: str) -> Iterator[None]:
        """Count the current task as the running job `job_id`."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - arq runs every job in a task of its own
        self._tasks[job_id] = task
        try:
            yield
        finally:
            if self._tasks.get(job_id) is task:  # after a lost lease the job may run here a second time
                del self._tasks[job_id]

    async def renew(self, *job_ids: str) -> None:
        """Renew the leases of these jobs, or of all; a Redis that is away is tried again at the next turn."""
        lease_ms = int(self._lease_s * 1000)
        try:
            async with in_time(), self._redis.pipeline(transaction=False) as pipe:
                for job_id in job_ids or tuple(self._tasks):
                    # the first for a lease that ran out while Redis was away, the second for one that still runs
                    pipe.set(in_progress_key_prefix + job_id, b"1", px=lease_ms, nx=True)
                    pipe.pexpire(in_progress_key_prefix + job_id, lease_ms)
                await pipe.execute()
        except (RedisError, OSError) as e:
            logger.warning("leases not renewed", error=type(e).__name__)

    async def keep_leases(self) -> None:
        """Renew all leases three times in each; runs until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            await self.renew()

    def take_over_signals(self, main: asyncio.Task[object]) -> None:
        """Handle SIGTERM and SIGINT ourselves; `main` is the task of arq's polling loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end, loop, main, signal.Signals(number).name)

    def _asked_to_end(self, loop: asyncio.AbstractEventLoop, main: asyncio.Task[object], name: str) -> None:
        if self._stopping.is_set():
            self._cancel_all()
            return
        logger.info("worker stopping", signal=name, running=len(self._tasks), grace_s=self._grace_s)
        self._stopping.set()
        self._on_stop()
        # arq's Worker then awaits the running jobs before it closes
        main.cancel()
        loop.call_later(self._grace_s, self._cancel_all)

    def _cancel_all(self) -> None:
        if self._tasks:
            logger.warning("jobs given back to the queue", count=len(self._tasks))
        for task in self._tasks.values():
            task.cancel()
