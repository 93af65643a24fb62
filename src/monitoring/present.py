"""Our own workers are agents too: they check in while they run, and a worker that ends says goodbye."""

import asyncio
import os
import platform
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from loguru import logger

from .. import __version__
from ..clients import mongo
from ..deps import Deps
from ..engine import metrics
from ..engine.upkeep import kept_up

GOODBYE_S = 5.0  # a process that ends waits no longer for MongoDB
_STARTED = time.monotonic()
_STATM = Path("/proc/self/statm")


def usual_name(deps: Deps) -> str:
    """This process among all workers. In a container, whose processes have the same numbers each time, it lasts."""
    return f"{deps.settings.service.service_name_worker}@{socket.gethostname()}:{os.getpid()}"


@asynccontextmanager
async def present(deps: Deps, worker_name: str) -> AsyncIterator[None]:
    """This worker is there inside, and says goodbye on leaving, so that a deploy is no alert. MongoDB may be away."""
    loop = asyncio.create_task(kept_up(partial(_keep_checking_in, deps, worker_name)))
    try:
        yield
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        with suppress(TimeoutError, *mongo.FAILURES):
            async with asyncio.timeout(GOODBYE_S):
                await worker_check_out(deps, worker_name)


async def worker_check_in(deps: Deps, worker_name: str) -> None:
    """This worker is there, and how it is. Safe to repeat."""
    at = datetime.fromtimestamp(deps.now(), UTC)
    await deps.agents.check_in(worker_name, at, kind="worker", system_info=_about_us(deps), metrics=_how_we_are())


async def worker_check_out(deps: Deps, worker_name: str) -> None:
    """This worker ends on purpose. Safe to repeat."""
    await deps.agents.check_out(worker_name, datetime.fromtimestamp(deps.now(), UTC))


async def _keep_checking_in(deps: Deps, worker_name: str) -> None:
    while True:
        try:
            await worker_check_in(deps, worker_name)
        except mongo.FAILURES as e:
            logger.warning("worker did not check in", error=type(e).__name__)
        await asyncio.sleep(deps.settings.monitor.worker_check_in_seconds)


def _about_us(deps: Deps) -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": __version__,
        "python": platform.python_version(),
        "os": platform.system(),
        "lanes": list(deps.settings.worker.lanes) or "all",
    }


def _how_we_are() -> dict[str, Any]:
    running = sum(sample.value for metric in metrics.RUNNING.collect() for sample in metric.samples)
    return {
        "runningJobs": int(running),
        "memoryMb": round(_memory_bytes() / 1e6, 1),
        "uptimeSeconds": int(time.monotonic() - _STARTED),
    }


def _memory_bytes() -> float:
    """What the process holds now; where the system does not say, the most it ever held."""
    try:
        return float(_STATM.read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(most) if sys.platform == "darwin" else most * 1024.0
