"""Requests at a set pace, whatever the answers do: what comes late is counted from when it was due.

A bare HTTP/1.1 client on kept connections, so that the one who measures takes little of the machine.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast


@dataclass
class Answers:
    """Milliseconds from when each request was due to its whole answer, and how many had another status than 200."""

    took_ms: list[float] = field(default_factory=list)
    refused: int = 0
    lost: int = 0
    accepted: list[int] = field(default_factory=list)  # numbers of the requests that were answered 200


class _Connection(asyncio.Protocol):
    def __init__(self, load: "Load") -> None:
        self._load = load
        self._due: tuple[int, float] | None = None
        self._buffer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, number: int, due: float, request: bytes) -> None:
        self._due = number, due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head) or self._due is None:
            return
        (number, due), self._due, self._buffer = self._due, None, b""
        self._load.answered(self, number, due, is_ok=head.startswith(b"HTTP/1.1 200"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self, was_asked=self._due is not None)


class Load:
    """Sends `bodies` to an address on `at_once` connections: `per_s` a second, or without a pause where that is 0."""

    def __init__(self, port: int, path: str, bodies: Sequence[bytes], *, per_s: float, at_once: int = 32) -> None:
        self._port, self._per_s, self._at_once = port, per_s, at_once
        self._requests = [_request(path, body) for body in bodies]
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[tuple[int, float]] = deque()
        self._alive = self._asked = 0
        self._changed = asyncio.Event()
        self.answers = Answers()

    async def run(self) -> Answers:
        """Send everything, and wait for the answers; ends early where every connection broke."""
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
            for _ in range(self._at_once)
        ]
        self._idle.extend(protocol for _, protocol in opened)
        self._alive = len(opened)
        begun = time.perf_counter()
        for number in range(len(self._requests)):
            due = begun + number / self._per_s if self._per_s else begun
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            if not self._alive:
                break
            self._ask(number, due)
        while self._alive and (self._asked or self._waiting):
            self._changed.clear()
            await self._changed.wait()
        for transport, _ in opened:
            transport.close()
        return self.answers

    def answered(self, connection: _Connection, number: int, due: float, *, is_ok: bool) -> None:
        """One whole answer."""
        self.answers.took_ms.append((time.perf_counter() - due) * 1000)
        self.answers.refused += not is_ok
        if is_ok:
            self.answers.accepted.append(number)
        self._asked -= 1
        self._idle.append(connection)
        if self._waiting:
            self._ask(*self._waiting.popleft())
        self._changed.set()

    def lost(self, connection: _Connection, *, was_asked: bool) -> None:
        """A connection broke; what was asked on it has no answer."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._alive -= 1
        self._asked -= was_asked
        self.answers.lost += was_asked
        self._changed.set()

    def _ask(self, number: int, due: float) -> None:
        if not self._idle:
            self._waiting.append((number, due))
            return
        self._asked += 1
        self._idle.popleft().ask(number, due if self._per_s else time.perf_counter(), self._requests[number])


def _request(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
