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
from functools import partial
from pathlib import Path
from typing import Any

from loguru import logger

from .. import __version__
from ..alerts.notices import close_notice
from ..clients import mongo
from ..deps import Deps
from ..engine import metrics
from ..engine.upkeep import kept_up
from .machine.troubles import machine_key

GOODBYE_S = 5.0  # a process that ends waits no longer for MongoDB
_STARTED = time.monotonic()
_STATM = Path("/proc/self/statm")


def usual_name(deps: Deps) -> str:
    """This process among all workers. In a container, whose processes have the same numbers each time, it lasts."""
    return f"{deps.settings.service.service_name_worker}@{socket.gethostname()}:{os.getpid()}"


@asynccontextmanager
async def present(deps: Deps, worker_name: str) -> AsyncIterator[None]:
    """This worker is there inside, and says goodbye on leaving, so that a deploy is no alert. MongoDB may be away."""
    leaving = asyncio.Event()
    loop = asyncio.create_task(kept_up(partial(_keep_checking_in, deps, worker_name, leaving)))
    try:
        yield
    finally:
        leaving.set()
        with suppress(TimeoutError, *mongo.FAILURES):
            async with asyncio.timeout(GOODBYE_S):
                await loop  # not cut off: a check-in that is under way would come after the goodbye
                await worker_check_out(deps, worker_name)


async def worker_check_in(deps: Deps, worker_name: str) -> None:
    """This worker is there, and how it is. Safe to repeat. The time is MongoDB's: machines may disagree about it."""
    at = await deps.agents.clock()
    await deps.agents.check_in(worker_name, at, kind="worker", system_info=_about_us(deps), metrics=_how_we_are())


async def worker_check_out(deps: Deps, worker_name: str) -> None:
    """This worker ends on purpose. Safe to repeat."""
    await deps.agents.check_out(worker_name, await deps.agents.clock())


async def take_over(deps: Deps, worker_name: str) -> str | None:
    """A worker of this machine that died without a goodbye has its successor in this one: nobody is to look for it.

    One at most, so where two died and one came back an alert tells of the other. Returns its name. Safe to repeat.
    """
    family, _, _ = worker_name.rpartition(":")
    for other in await deps.agents.all(kind="worker"):
        if other.agent_id == worker_name or other.has_left:
            continue
        if other.agent_id.rpartition(":")[0] != family or _lives(other.system_info.get("pid")):
            continue
        if await deps.agents.give_way(other.agent_id, await deps.agents.clock()):
            logger.info("taking the place of a worker that died", worker=other.agent_id)
            key = machine_key("worker_gone", other.agent_id)
            await close_notice(deps, key, facts={"variant": "replaced"})
            return other.agent_id
    return None


async def _keep_checking_in(deps: Deps, worker_name: str, leaving: asyncio.Event) -> None:
    monitor, is_new = deps.settings.monitor, True
    # one that is lost is not yet an alert, whatever is set
    every_s = min(monitor.worker_check_in_seconds, monitor.worker_offline_seconds / 3)
    while not leaving.is_set():
        try:
            await worker_check_in(deps, worker_name)
            if is_new:
                await take_over(deps, worker_name)
                is_new = False
        except mongo.FAILURES as e:
            logger.warning("worker did not check in", error=type(e).__name__)
        with suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await leaving.wait()


def _lives(pid: object) -> bool:
    """Whether a process of this machine is one of ours still; true where nobody can tell."""
    if not isinstance(pid, int) or pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # what is another user's is no worker of this service
        return False
    except OverflowError:
        return True
    return True


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
