"""Our commands as real processes, with nothing of the developer's own environment but where to find programs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from src.settings import ScheduleSettings
from tests.conftest import OURS, Servers
from tests.simulators.pancake import SimulatorProcess

ROOT = Path(__file__).parents[2]
WORKER = [sys.executable, "-m", "arq", "src.worker.WorkerSettings"]
COMMAND = [sys.executable, "-m", "src"]
LIMIT_S = 60.0
#: No job runs by itself.
UNSCHEDULED = {f"SCHEDULE_{name.upper()}": "off" for name in ScheduleSettings.model_fields}


def environment(servers: Servers, database: str, **more: str) -> dict[str, str]:
    """What a process of ours needs to find the test servers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {
        **kept,
        "REDIS_URL": servers.redis_url,
        "MONGODB_URI": servers.mongodb_uri,
        "MONGODB_DATABASE": database,
        "WORKER_METRICS_PORT": "0",  # many run side by side
        **more,
    }


def of_simulator(simulator: SimulatorProcess) -> dict[str, str]:
    """The variables that point us at the simulator."""
    return {
        "PANCAKE_BASE_URL": simulator.base_url,
        "PANCAKE_ACCESS_TOKEN": simulator.user_token,
        "PANCAKE_ALLOW_TOKEN_MINTING": "true",
        "PANCAKE_MAX_CALLS_PER_SECOND": "0",
    }


def run(arguments: list[str], env: dict[str, str], limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(  # noqa: S603 - our own modules
        arguments, env=env, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False
    )


@contextmanager
def running(arguments: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed, if it still lives, when the test is over; its output goes to `log`."""
    with log.open("ab") as out:
        process = subprocess.Popen(arguments, env=env, cwd=ROOT, stdout=out, stderr=out)  # noqa: S603 - our own modules
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)


def ended(process: "subprocess.Popen[bytes]", number: signal.Signals, limit_s: float = LIMIT_S) -> int:
    """Send a signal and wait for the exit code."""
    process.send_signal(number)
    return process.wait(limit_s)


def until(reached: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for a state that another process brings about; fails with `what` when it does not come."""
    deadline = time.monotonic() + limit_s
    while not reached():
        if time.monotonic() > deadline:
            raise AssertionError(f"in {limit_s:g} s it did not happen that {what}")
        time.sleep(0.05)
