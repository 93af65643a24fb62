"""Workers with the jobs of `tests.harness.lane_worker`, as processes on one Redis, and what became of the jobs."""

import asyncio
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from src.engine.queue import Queue
from tests.acceptance.processes import environment, running, until
from tests.conftest import Servers
from tests.harness.lane_worker import JOBS, MARKS, WORKER, Mark, marks

LEASE_S = 1.0
LATE_S = 5.0  # after the lease, at most, until a job of a dead worker runs again
LETTERS = "dead_letters"
DECLARED = {job.name: job.declaration for job in JOBS.values()}
Arguments = dict[str, Any]


@dataclass
class Worker:
    """One process and what it says."""

    process: Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def is_ready(self) -> bool:
        return "worker started successfully" in self.said

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None


@dataclass
class Yard:
    """Workers, and jobs for them, on one Redis and one database."""

    redis: Redis
    redis_url: str
    database: Database[Arguments]
    env: dict[str, str]
    folder: Path
    stack: ExitStack
    workers: list[Worker] = field(default_factory=list)

    def begin(self, **more: str) -> Worker:
        """Start a worker; it is stopped with the test."""
        log = self.folder / f"log{len(self.workers)}"
        process = self.stack.enter_context(running(WORKER, {**self.env, **more}, log))
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    def ready(self, **more: str) -> Worker:
        """Start a worker and wait until it serves."""
        worker = self.begin(**more)
        until(lambda: worker.is_ready or not worker.is_alive, "a worker started", 20)
        assert worker.is_alive, worker.said
        return worker

    def put(self, job: str, *each: Arguments) -> list[str]:
        """Enqueue `job` once for each of these arguments."""

        async def enqueue() -> list[str]:
            async with AsyncRedis.from_url(self.redis_url) as redis:
                queue = Queue(redis, DECLARED)
                return await queue.put([queue.prepare(job, arguments) for arguments in each])

        return asyncio.run(enqueue())

    def works(self, names: list[str], seconds: float) -> None:
        """Enqueue jobs of these names that take so long."""
        self.put("work", *({"name": name, "seconds": seconds} for name in names))

    def marks(self) -> list[Mark]:
        return [mark for mark in marks(Path(self.env[MARKS])) if mark.name != "tick"]

    def starts(self) -> Counter[str]:
        return Counter(mark.name for mark in self.marks() if mark.what == "start")

    def ends(self) -> Counter[str]:
        return Counter(mark.name for mark in self.marks() if mark.what == "end")

    def all_end(self, names: list[str], limit_s: float = 30.0) -> None:
        """Wait until each of them came to its end, and nothing of any job is left in Redis."""
        try:
            until(lambda: set(names) <= set(self.ends()) and not self.left(), "all of them ended", limit_s)
        except AssertionError as e:
            raise AssertionError(f"missing {sorted(set(names) - set(self.ends()))}, left {self.left()}") from e

    def left(self) -> list[bytes]:
        """What a job leaves in Redis as long as it is not over."""
        kinds = ("arq:job:*", "arq:in-progress:*", "folkform:running:*", "folkform:tries:*", "folkform:attempts:*")
        return [key for kind in (*kinds, "sync", "arq:queue") for key in self.redis.scan_iter(kind)]

    def waiting(self, lane: str) -> list[str]:
        """The ids of a lane's jobs, running ones too."""
        ids: Any = self.redis.zrange(lane, 0, -1)
        return [job_id.decode() for job_id in ids]

    def letters(self) -> list[Arguments]:
        return list(self.database[LETTERS].find())


def open_yard(stack: ExitStack, servers: Servers, redis_url: str, database: str, folder: Path) -> Yard:
    """A yard on a Redis that is emptied; closed with `stack`."""
    redis = stack.enter_context(Redis.from_url(redis_url))
    redis.flushdb()
    client = stack.enter_context(MongoClient[Arguments](servers.mongodb_uri))
    limits = {
        "WORKER_LEASE_SECONDS": f"{LEASE_S:g}",
        "WORKER_MAX_CONCURRENT_JOBS": "20",
        "SCHEDULE_SYNC_PAGES": "off",
        "REDIS_URL": redis_url,
        MARKS: str(folder / "marks"),
    }
    env = {**environment(servers, database), **limits}
    return Yard(redis, redis_url, client[database], env, folder, stack)


def names(word: str, count: int) -> list[str]:
    return [f"{word}{number}" for number in range(count)]
