"""One worker of the played shop: `python -m tests.harness.shop.worker <pid of the parent>`.

A worker like any other, with all its jobs, but that the driver's file `SHOP_CLOCK` says what time it is to monitoring.
"""

import mmap
import os
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from arq.worker import run_worker

from src import service
from src.clients.pancake.client import PancakeClient
from src.deps import Deps, open_deps
from src.jobs import ALL_JOBS
from src.runtime import prepare_process
from src.settings import Settings, load_settings
from tests.harness.child import die_with

CLOCK = "SHOP_CLOCK"
SECONDS = struct.Struct("<d")


def write_clock(path: Path, seconds: float) -> None:
    """Set the time of all workers of the shop."""
    with path.open("r+b") as file:
        file.write(SECONDS.pack(seconds))


def clock_of(path: Path) -> Callable[[], float]:
    """What reads it."""
    with path.open("rb") as file:
        page = mmap.mmap(file.fileno(), SECONDS.size, prot=mmap.PROT_READ)
    return lambda: float(SECONDS.unpack(page[: SECONDS.size])[0])


def main() -> None:
    """Work until told to end."""
    die_with(int(sys.argv[1]))
    now = clock_of(Path(os.environ[CLOCK]))

    @asynccontextmanager
    async def opened(settings: Settings, **options: Any) -> AsyncIterator[Deps]:
        async with open_deps(settings, **options) as deps:
            yield replace(deps, now=now)

    setattr(service, "open_deps", opened)  # noqa: B010 - it is the service's own name for it
    # it goes by the last answer, and a minute of the shop passes between two answers in a moment of ours
    PancakeClient.server_now = lambda self: int(now())  # type: ignore[method-assign]
    prepare_process()
    options = service.Service(load_settings(None), ALL_JOBS).arq_options()
    run_worker(type("WorkerSettings", (), options))


if __name__ == "__main__":
    main()
