"""Worker processes that are killed and started again.

Starting Python and importing everything takes longer than many a life lasts here, so one process per worker imports,
and forks a fresh process for each life. What a life has in common with the one before it is code, and nothing else.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tests.harness.plan import Algorithm

ROOT = Path(__file__).resolve().parents[2]
#: What a developer has set for real shops must not reach a worker here.
OURS = ("PANCAKE_", "SYNC_", "SCHEDULE_", "WORKER_", "LOG_", "REDIS_", "MONGODB_")
STOP_LIMIT_S = 15.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a life is to do: pass after pass until it is ended, or, with `finish`, each of its modes to the end."""

    algorithm: Algorithm
    environment: dict[str, str]
    stream: str
    page_ids: list[str]
    finish: list[str]
    by_hand: bool
    save_every_s: float


class Worker:
    """One worker, life after life. `passes` are those that came to their end; `audit_lost` what their audits missed."""

    KILL, TERM = signal.SIGKILL, signal.SIGTERM

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stuck: asyncio.TimerHandle | None = None
        self.pid: int | None = None
        self.ended: asyncio.Task[int] | None = None
        self.passes = 0
        self.audit_lost = 0
        self.overstayed = 0

    @property
    def is_alive(self) -> bool:
        """Whether a life goes on."""
        return self.pid is not None

    async def begin(self, order: Order) -> None:
        """Start a life; `ended` is done, with its exit code, when it is over."""
        if self._process.stdin is None:
            raise RuntimeError("the worker was started without a pipe")
        self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        await self._process.stdin.drain()
        word, number = await self._line()
        if word != "pid":
            raise RuntimeError(f"the worker said {word!r} instead of its pid")
        self.pid = int(number)
        self.ended = asyncio.create_task(self._follow())

    async def finish(self, order: Order) -> int:
        """Live a life to its own end; returns its exit code."""
        await self.begin(order)
        return await self.over()

    async def over(self) -> int:
        """Wait for the end of the present life, if there is one."""
        return await self.ended if self.ended else 0

    def end(self, number: signal.Signals) -> None:
        """Signal the present life. One that stays on after SIGTERM is killed in the end, and counted."""
        if self.pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        if number == signal.SIGTERM and self._stuck is None:
            self._stuck = asyncio.get_running_loop().call_later(STOP_LIMIT_S, self._kill_stuck)

    def _kill_stuck(self) -> None:
        self.overstayed += 1
        self.end(signal.SIGKILL)

    async def _follow(self) -> int:
        while True:
            word, number = await self._line()
            if word == "end":
                break
            self.passes += word == "pass"
            self.audit_lost += int(number) if word == "audit" else 0
        self.pid = None
        if self._stuck:
            self._stuck.cancel()
            self._stuck = None
        return int(number)

    async def _line(self) -> tuple[str, str]:
        if self._process.stdout is None:
            raise RuntimeError("the worker was started without a pipe")
        line = (await self._process.stdout.readline()).decode()
        if not line.endswith("\n"):
            raise RuntimeError("the worker's process is gone")
        word, _, number = line.strip().partition(" ")
        return word, number


@contextlib.asynccontextmanager
async def crew(size: int, log: IO[bytes]) -> AsyncIterator[list[Worker]]:
    """So many workers, nobody alive yet. On leaving all of them are gone."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    options: dict[str, Any] = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, "stderr": log}
    command = [sys.executable, "-m", "tests.harness.child", str(os.getpid())]
    workers: list[Worker] = []
    processes: list[asyncio.subprocess.Process] = []
    try:
        for _ in range(size):
            process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, **options)
            processes.append(process)
            workers.append(Worker(process))
        yield workers
    finally:
        for worker, process in zip(workers, processes, strict=True):
            await _dismiss(worker, process)


async def _dismiss(worker: Worker, process: asyncio.subprocess.Process) -> None:
    worker.end(signal.SIGKILL)
    if worker.ended:
        with contextlib.suppress(RuntimeError, TimeoutError):
            await asyncio.wait_for(worker.ended, STOP_LIMIT_S)
    if process.stdin:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
    except TimeoutError:
        process.kill()  # a life it forked ends with it
        await process.wait()
