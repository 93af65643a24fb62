"""A worker process with jobs that show what became of them: `python -m arq tests.harness.lane_worker.WorkerSettings`.

Each run writes its start and its end as a line of the file `LANE_MARKS`: a file outlasts every outage and every kill.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from src.deps import Deps
from src.errors import Snooze, Transient
from src.runtime import prepare_process
from src.service import Service
from src.settings import load_settings
from tests.harness.jobs import job

MARKS = "LANE_MARKS"
WORKER = [sys.executable, "-m", "arq", "tests.harness.lane_worker.WorkerSettings"]


@dataclass(frozen=True, slots=True)
class Mark:
    """`what` is start or end; `at` is monotonic time, the same clock in all processes of this machine."""

    what: str
    name: str
    pid: int
    at: float


def marks(path: Path) -> list[Mark]:
    """All that was written so far."""
    if not path.exists():
        return []
    lines = [line.split(" ") for line in path.read_text().splitlines()]
    return [Mark(what, name, int(pid), float(at)) for what, name, pid, at in lines]


def _mark(what: str, name: str) -> None:
    line = f"{what} {name} {os.getpid()} {time.monotonic():.4f}\n"
    file = os.open(os.environ[MARKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


@contextmanager
def _marked(name: str) -> Iterator[None]:
    """The end is written where there was one: not at a cancellation or an exception."""
    _mark("start", name)
    yield
    _mark("end", name)


def _starts(name: str) -> int:
    return sum(mark.what == "start" and mark.name == name for mark in marks(Path(os.environ[MARKS])))


async def work(deps: Deps, name: str, seconds: float) -> str:
    with _marked(name):
        await asyncio.sleep(seconds)
    return "worked"


async def block(deps: Deps, name: str, seconds: float) -> str:
    with _marked(name):
        time.sleep(seconds)  # noqa: ASYNC251 - the fault that is to be survived
    return "blocked"


async def kill(deps: Deps, name: str) -> str:
    with _marked(name):
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


async def fail(deps: Deps, name: str) -> str:
    with _marked(name):
        raise ValueError("as it was told to")


async def falter(deps: Deps, name: str) -> str:
    """Fails at its first run, and puts itself off at its second."""
    with _marked(name):
        if (starts := _starts(name)) == 1:
            raise Transient("not yet", retry_after_s=0.05)
        if starts == 2:
            raise Snooze("not yet", after_s=0.05)
    return "worked"


async def beget(deps: Deps, name: str, children: int) -> str:
    """Every child is enqueued before the parent is done."""
    with _marked(name):
        for number in range(children):
            await deps.hands.spawn(work.__name__, {"name": f"{name}.{number}", "seconds": 0.01})
    return "begot"


async def sync_pages(deps: Deps) -> str:
    """A job of a name that has a schedule."""
    with _marked("tick"):
        return "ticked"


JOBS = {
    each.name: each
    for each in (
        job(work),
        job(block),
        job(kill),
        job(fail),
        job(falter),
        job(beget),
        job(sync_pages),
    )
}

if MARKS in os.environ:
    prepare_process()
    WorkerSettings = type("WorkerSettings", (), Service(load_settings(None), JOBS).arq_options())
