"""The merchants as a process of its own, for benchmarks; what it received is asked for over HTTP."""

import json
import selectors
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.simulators.merchant.behaviours import SCRIPT, Behaviour, Cycle
from tests.simulators.merchant.book import RECEIVED, Received

ROOT = Path(__file__).resolve().parents[3]
ANSWER_WITHIN_S = 60.0


class Remote:
    """`with Remote(light=True) as merchants:` starts the process, waits until it listens, and stops it after."""

    def __init__(self, *, light: bool = False, port: int = 0, start_within_s: float = 30.0) -> None:
        self._arguments = ["--port", str(port), *(["--light"] if light else [])]
        self._start_within_s = start_within_s
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(timeout=ANSWER_WITHIN_S, trust_env=False)
        self.port = 0

    @property
    def pid(self) -> int:
        """The process id while it runs."""
        if self._process is None:
            raise RuntimeError("the merchants are not running: call start() first")
        return self._process.pid

    def start(self) -> "Remote":
        """Start the process and wait for its line; TimeoutError when it does not come."""
        command = [sys.executable, "-m", "tests.simulators.merchant", *self._arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own module
        try:
            self.port = int(json.loads(self._first_line())["port"])
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, within_s: float = 10.0) -> int:
        """Close the process's stdin, which ends it, and return its exit code; kill it when it does not end."""
        self._client.close()
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.stdin is not None:
            process.stdin.close()
        try:
            code = process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return code

    def url(self, name: str) -> str:
        """Return where this merchant takes webhooks."""
        return f"http://127.0.0.1:{self.port}/m/{name}"

    def behave(self, name: str, *script: Behaviour | Cycle) -> None:
        """From the next request on do these in turn, the last one for ever."""
        self._call("POST", "behave", SCRIPT.dump_json(script, exclude_defaults=True), name=name)

    def received(self, name: str, since: int = 0) -> list[Received]:
        """Return the requests from the `since`th on."""
        return RECEIVED.validate_json(self._call("GET", "received", name=name, since=since))

    def arrivals(self, name: str, since: int = 0) -> list[tuple[str, float]]:
        """Return (webhook-id or "", `time.time()` of the arrival) of the requests from the `since`th on."""
        return [(identity, at) for identity, at in json.loads(self._call("GET", "arrivals", name=name, since=since))]

    def ids(self, name: str) -> Counter[str]:
        """Count the requests per `webhook-id`; those without one are left out."""
        return Counter(identity for identity, _ in self.arrivals(name) if identity)

    def count(self, name: str) -> int:
        """Return how many requests have arrived whole."""
        return self._of(name, "count")

    def peak(self, name: str) -> int:
        """Return how many requests were in flight at the same time, at most."""
        return self._of(name, "peak")

    @property
    def connections(self) -> int:
        """How many connections were accepted, but for our own."""
        return int(self.state()["connections"])

    def state(self) -> dict[str, Any]:
        """Return {"connections", "merchants": {name: {"count", "in_flight", "peak", "connections"}}}."""
        result: dict[str, Any] = json.loads(self._call("GET", "state"))
        return result

    def wait_for(self, name: str, count: int, within_s: float = 10.0) -> None:
        """Block until this many requests have arrived."""
        client_s = httpx.Timeout(within_s + ANSWER_WITHIN_S)
        said = self._call("GET", "wait", timeout=client_s, name=name, count=count, within_s=within_s)
        if (came := json.loads(said)["count"]) < count:
            raise TimeoutError(f"merchant {name} received {came} of {count} requests within {within_s:g} s")

    def clear(self) -> None:
        """Forget what was received and measured; how the merchants behave stays."""
        self._call("POST", "clear")

    def __enter__(self) -> "Remote":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _of(self, name: str, what: str) -> int:
        return int(self.state()["merchants"].get(name, {}).get(what, 0))

    def _call(
        self, method: str, route: str, content: bytes = b"", timeout: httpx.Timeout | None = None, **query: str | float
    ) -> bytes:
        reply = self._client.request(
            method,
            f"http://127.0.0.1:{self.port}/_control/{route}",
            params=query,
            content=content,
            timeout=timeout or ANSWER_WITHIN_S,
        )
        if reply.status_code != 200:
            raise RuntimeError(f"the merchants refused {method} {route}: {reply.text}")
        return reply.content

    def _first_line(self) -> bytes:
        process = self._process
        if process is None or process.stdout is None:
            raise RuntimeError("the merchants were not started")
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(self._start_within_s):
                raise TimeoutError(f"the merchants did not listen within {self._start_within_s:g} s")
        # one short write makes the line: what has come is all of it
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the merchants ended with code {process.wait()} before they listened")
        return line
