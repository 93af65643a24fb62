"""streaQ with uvloop, 100 tasks at once, results off. It needs the functions of Redis 7."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from streaq import Worker  # type: ignore[import-not-found]

from scripts.bench.peers._protocol import JOBS, SLOTS, Client, Request, main


def _worker(request: Request) -> tuple[Any, dict[str, Any]]:
    worker = Worker(redis_url=request.url, concurrency=SLOTS)
    return worker, {job.__name__: worker.task(name=job.__name__, ttl=0)(job) for job in JOBS}


@asynccontextmanager
async def client(request: Request) -> AsyncIterator[Client]:
    """Its bulk call is one pipeline."""
    worker, tasks = _worker(request)

    async def one(kind: str, *arguments: float) -> None:
        await tasks[kind].enqueue(*arguments)

    async def many(kind: str, count: int) -> None:
        await worker.enqueue_many([tasks[kind].enqueue() for _ in range(count)])

    async with worker:
        yield Client(one, many)


async def work(request: Request) -> None:
    """A worker."""
    worker, _ = _worker(request)
    await worker.run_async()


if __name__ == "__main__":
    main(client, work, lambda _, task: uvloop.run(task))
