"""SAQ with uvloop, orjson and hiredis, 100 jobs and 100 operations at once, results off."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson  # its environment's, not ours
import uvloop
from saq.queue.redis import RedisQueue  # type: ignore[import-not-found]
from saq.worker import Worker  # type: ignore[import-not-found]

from scripts.bench.peers._protocol import JOBS, SLOTS, Client, Request, main


def _queue(request: Request) -> Any:
    return RedisQueue.from_url(request.url, max_concurrent_ops=SLOTS, dump=orjson.dumps, load=orjson.loads)


@asynccontextmanager
async def client(request: Request) -> AsyncIterator[Client]:
    """It has no bulk call that does not also wait for the results."""
    queue = _queue(request)

    async def one(kind: str, *arguments: float) -> None:
        await queue.enqueue(kind, ttl=-1, **({"sent": arguments[0]} if arguments else {}))

    yield Client(one)
    await queue.disconnect()


def _with_context(job: Any) -> Any:
    async def run(_context: Any, **arguments: float) -> None:
        await job(**arguments)

    return job.__name__, run


async def work(request: Request) -> None:
    """A worker."""
    await Worker(_queue(request), [_with_context(job) for job in JOBS], concurrency=SLOTS).start()


if __name__ == "__main__":
    main(client, work, lambda _, task: uvloop.run(task))
