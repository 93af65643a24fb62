"""taskiq on its stream broker with uvloop, orjson and prefetch 100, 100 tasks at once, results off."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from taskiq.receiver import Receiver  # type: ignore[import-not-found]
from taskiq.serializers import ORJSONSerializer  # type: ignore[import-not-found]
from taskiq_redis import RedisStreamBroker  # type: ignore[import-not-found]

from scripts.bench.peers._protocol import JOBS, SLOTS, Client, Request, main


def _broker(request: Request) -> tuple[Any, dict[str, Any]]:
    broker = RedisStreamBroker(request.url).with_serializer(ORJSONSerializer())
    return broker, {job.__name__: broker.register_task(job, task_name=job.__name__) for job in JOBS}


@asynccontextmanager
async def client(request: Request) -> AsyncIterator[Client]:
    """It has no bulk call."""
    broker, tasks = _broker(request)

    async def one(kind: str, *arguments: float) -> None:
        await tasks[kind].kiq(*arguments)

    await broker.startup()
    yield Client(one)
    await broker.shutdown()


async def work(request: Request) -> None:
    """A worker, put together as its command line does it."""
    broker, _ = _broker(request)
    broker.is_worker_process = True
    with ThreadPoolExecutor() as pool:
        receiver = Receiver(broker, executor=pool, max_async_tasks=SLOTS, max_prefetch=SLOTS)
        await receiver.listen(asyncio.Event())


if __name__ == "__main__":
    main(client, work, lambda _, task: uvloop.run(task))
