"""Who is compared by `scripts.bench.lanes`, and how each of their processes is talked to (`peers._protocol`)."""

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench.peers._environment import ROOT, python_of
from scripts.bench.peers._protocol import SLOTS

LIMIT_S = 180.0  # of one answer: a contender that hangs ends the wait, not the run


@dataclass(frozen=True)
class Contender:
    """`share`: of --jobs that it is measured on, as many as take it a second or so; `note`: settings and results."""

    name: str
    module: str
    note: str
    share: float = 1.0
    slots: int = SLOTS
    redis: int = 0  # the oldest major version it runs on
    has_bulk: bool = False
    arguments: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """What starts its process."""
        python = sys.executable if self.module == "ours" else str(python_of(self.module))
        return [python, "-m", f"scripts.bench.peers.{self.module}"]


CONTENDERS = (
    Contender(
        "ours",
        "ours",
        "100 slots; arguments checked, history in MongoDB, metrics and results kept",
        share=4,
        has_bulk=True,
    ),
    Contender(
        "arq-default", "arq", "0.28.0, all defaults: 10 slots, results kept", 0.2, slots=10, arguments=("--defaults",)
    ),
    Contender("arq", "arq", "0.28.0, max_jobs 100, poll_delay 0.01, uvloop; results off"),
    Contender("saq", "saq", "0.26.4, concurrency 100, max_concurrent_ops 100, uvloop, orjson, hiredis; results off"),
    Contender("streaq", "streaq", "7.2.0, concurrency 100, uvloop; results off", redis=7, has_bulk=True),
    Contender("taskiq", "taskiq", "0.13.0, stream broker, prefetch 100, uvloop, orjson, hiredis; results off"),
)


class LeftOut(Exception):
    """A contender gave no answer; the text says why."""


class Process:
    """A contender's process; every wait for it has an end."""

    def __init__(self, contender: Contender, *arguments: str) -> None:
        logs = ROOT / ".data" / "peers"
        logs.mkdir(parents=True, exist_ok=True)
        self._log = (logs / f"{contender.name}.log").open("w+")
        command = [*contender.command(), *arguments, *contender.arguments]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=self._log, text=True)

    def answer(self, event: str) -> dict[str, Any]:
        """The next answer of this kind; others before it are passed over."""
        timer = threading.Timer(LIMIT_S, self._process.kill)
        timer.start()
        try:
            for line in self._process.stdout or ():
                found: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
                if found.get("event") == event:
                    return found
        finally:
            timer.cancel()
        self._log.seek(0)
        said = [line for line in self._log.read().splitlines() if line.strip()]
        raise LeftOut(said[-1] if said else f"no answer within {LIMIT_S:g} s")

    @property
    def memory_mb(self) -> float:
        """What the process holds in memory (Linux)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def go(self) -> None:
        """Open the gate."""
        if self._process.stdin:
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def stop(self) -> None:
        """End it; its work is measured, so no more than a moment is given."""
        self._process.terminate()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe:
                pipe.close()
