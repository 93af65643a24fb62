"""arq: all defaults (--defaults; 10 jobs at once, polls each 0.5 s, keeps results), or tuned with results off."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from scripts.bench.peers._protocol import JOBS, SLOTS, Client, Request, main

TUNED: dict[str, Any] = {"max_jobs": SLOTS, "poll_delay": 0.01, "keep_result": 0}


@asynccontextmanager
async def client(request: Request) -> AsyncIterator[Client]:
    """It has no bulk call."""
    pool = await create_pool(RedisSettings.from_dsn(request.url))
    yield Client(pool.enqueue_job)
    await pool.aclose()


def _with_context(job: Any) -> Any:
    async def run(_context: dict[Any, Any], *arguments: float) -> None:
        await job(*arguments)

    wrapped: Any = run
    return func(wrapped, name=job.__name__)


async def work(request: Request) -> None:
    """A worker."""
    functions = [_with_context(job) for job in JOBS]
    settings = RedisSettings.from_dsn(request.url)
    worker = Worker(functions, redis_settings=settings, **({} if request.is_default else TUNED))
    await worker.async_run()


def run(request: Request, main_: Coroutine[Any, Any, object]) -> object:
    """Its own loop where nothing is tuned."""
    return asyncio.run(main_) if request.is_default else uvloop.run(main_)


if __name__ == "__main__":
    main(client, work, run)
