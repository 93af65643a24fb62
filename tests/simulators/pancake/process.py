"""The simulator as a process of its own: for runs over days of virtual time, benchmarks and demos."""

import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import httpx

ROOT = Path(__file__).resolve().parents[3]


class SimulatorProcess:
    """`with SimulatorProcess("--pages", "2") as sim:` starts it, waits until it listens, and stops it after."""

    def __init__(self, *arguments: str, start_timeout_s: float = 30.0) -> None:
        self._arguments, self._start_timeout_s = arguments, start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self.base_url = ""
        self.user_token = ""

    @property
    def control_url(self) -> str:
        """Return where the control routes are."""
        return self.base_url.removesuffix("/api") + "/_sim"

    @property
    def pid(self) -> int:
        """Return the process id while it runs."""
        if self._process is None:
            raise RuntimeError("the simulator is not running: call start() first")
        return self._process.pid

    def control(self, method: str, path: str, **json: object) -> dict[str, object]:
        """Call a control route and return its JSON; a refusal raises with what it said."""
        reply = httpx.request(method, f"{self.control_url}/{path}", json=json or None, timeout=60)
        if reply.status_code != 200:
            raise RuntimeError(f"the simulator refused {method} {path}: {reply.text}")
        result: dict[str, object] = reply.json()
        return result

    def start(self) -> "SimulatorProcess":
        """Start the process and wait for its listening line; TimeoutError when it does not come."""
        command = [sys.executable, "-m", "tests.simulators.pancake", *self._arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=dict(os.environ))  # noqa: S603 - our own module
        try:
            words = self._first_line().split()
            self.base_url = words[1]
            self.user_token = words[2].removeprefix("user_token=")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout_s: float = 10.0) -> int:
        """Ask the process to end, by its pid, and return its exit code; kill it when it does not."""
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return code

    def __enter__(self) -> "SimulatorProcess":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _first_line(self) -> str:
        process, deadline = self._process, time.monotonic() + self._start_timeout_s
        if process is None or process.stdout is None:
            raise RuntimeError("the simulator was not started")
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"the simulator did not listen within {self._start_timeout_s} s")
                part = os.read(process.stdout.fileno(), 4096)
                if not part:
                    raise RuntimeError(f"the simulator ended with code {process.wait()} before it listened")
                line += part
        return line.decode()
