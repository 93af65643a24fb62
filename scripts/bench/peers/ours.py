"""Our own lanes, run by the project's Python from the root of the checkout, as the service runs them: arq's Worker, all
lanes served, arguments checked, history written to the MongoDB of `MONGODB_URI`, metrics counted, results kept.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from inspect import Parameter, signature
from typing import Any

import uvloop
from arq.worker import Worker
from pydantic import SecretStr

from scripts._process import free_port
from scripts.bench.peers._protocol import JOBS, SLOTS, Client, Request, main
from src.deps import Deps
from src.engine.declaration import Declaration
from src.engine.job import Job
from src.engine.queue import Queue
from src.enqueue import JobQueue
from src.runtime import prepare_process
from src.service import Service
from src.settings import RedisSettings, ServiceSettings, WorkerGroup, load_settings


def _job(run: Callable[..., Any]) -> Job[Any]:
    async def with_deps(deps: Deps, *args: Any, **kwargs: Any) -> str:
        await run(*args, **kwargs)
        return "done"

    return Job(
        Declaration(run.__name__, signature(run).replace(return_annotation=Parameter.empty), "webhooks"), with_deps
    )


ALL = {run.__name__: _job(run) for run in JOBS}


@asynccontextmanager
async def client(request: Request) -> AsyncIterator[Client]:
    """The enqueue helper, with the bench's jobs in place of the service's."""
    async with JobQueue.connect(request.url) as connected:
        queue = Queue(connected.redis, {name: job.declaration for name, job in ALL.items()})

        async def one(kind: str, *sent: float) -> object:
            return await queue.put([queue.prepare(kind, {"sent": sent[0]} if sent else {})])

        async def many(kind: str, count: int) -> object:
            return await queue.put([queue.prepare(kind, {}) for _ in range(count)])

        yield Client(one, many)


def _metrics_port() -> int:
    """Metrics are on, whatever other worker has the usual port; off where it is said so."""
    return int(os.environ.get("WORKER_METRICS_PORT") or free_port())


async def work(request: Request) -> None:
    """One worker process."""
    settings = load_settings(None)
    settings = settings.replace(
        redis=RedisSettings(url=SecretStr(request.url)),
        service=ServiceSettings(log_level="WARNING"),
        worker=WorkerGroup(max_concurrent_jobs=SLOTS, metrics_port=_metrics_port()),
    )
    await Worker(**Service(settings, ALL).arq_options()).async_run()


if __name__ == "__main__":
    prepare_process()
    main(client, work, lambda _, task: uvloop.run(task))
