"""Lives of `tests.harness.webhook_worker`, begun and ended from a test."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from tests.acceptance.processes import ROOT, until
from tests.harness.webhook_worker import Order

START_S = 20.0


@dataclass
class Life:
    """One process, from fork to end."""

    nursery: "Nursery"
    pid: int
    log: Path

    @property
    def code(self) -> int | None:
        """Its exit code, None as long as it lives."""
        return self.nursery.ends.get(self.pid)

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    @property
    def is_ready(self) -> bool:
        return "worker started successfully" in self.said

    def ended(self, number: signal.Signals | None = None, limit_s: float = START_S) -> int:
        """Send a signal where one is given, and wait for the exit code."""
        if number is not None and self.code is None:
            os.kill(self.pid, number)
        until(lambda: self.code is not None, f"process {self.pid} ended:\n{self.said[-2000:]}", limit_s)
        return self.code if self.code is not None else 0


class Nursery:
    """The process that forks workers. `ends`: exit codes by pid. Safe to use from many threads."""

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}
        self._lock = threading.Lock()
        self._begun: queue.SimpleQueue[int] = queue.SimpleQueue()

    def begin(self, order: Order) -> Life:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
            self._process.stdin.flush()
            return Life(self, self._begun.get(timeout=START_S), Path(order.log))

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.harness.webhook_worker", str(os.getpid())]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own module
        self._reader = threading.Thread(target=self._listen)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, pid, *code = line.decode().split()
            if word == "pid":
                self._begun.put(int(pid))
            else:
                self.ends[int(pid)] = int(code[0])
