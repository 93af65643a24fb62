"""What all simulated HTTP providers have in common: a port, a book of calls, and a list of ways to fail."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import parse_qsl

from aiohttp import web
from anyio.from_thread import start_blocking_portal

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Fault:
    """How the next call ends: with this answer, or with none.

    `hang`: the call is read, and nothing comes back. `cut`: it is read, and the connection is reset.
    """

    status: int = 500
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    silence: Literal["", "hang", "cut"] = ""


@dataclass(frozen=True)
class Call:
    """One call as it came. `body` is the JSON or the form it carried."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class Server(Protocol):
    """Something that listens."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


S = TypeVar("S", bound=Server)


class Provider:
    """An HTTP server. Subclasses say in `answer` what a sound call gets."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.faults: deque[Fault] = deque()
        self.called = asyncio.Event()
        self._end = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def fail(self, *faults: Fault) -> None:
        """The next calls end like this, one after the other."""
        self.faults.extend(faults)

    def answer(self, call: Call) -> web.Response:
        """What a call gets that no fault is meant for."""
        return web.Response(text="ok")

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Let go of whoever hangs, and close."""
        self._end.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        if request.content_type == "application/json":
            body = json.loads(raw) if raw else {}
        else:
            body = dict(parse_qsl(raw.decode()))
        call = Call(request.method, request.path, dict(request.headers), body)
        self.calls.append(call)
        self.called.set()
        if not self.faults:
            return self.answer(call)
        fault = self.faults.popleft()
        if fault.silence == "hang":
            await self._end.wait()
        if fault.silence and request.transport is not None:
            request.transport.abort()
        return web.Response(status=fault.status, body=fault.body, headers=dict(fault.headers))


class Service(Provider):
    """Takes whatever is posted to it."""


@contextlib.asynccontextmanager
async def running(server: S) -> AsyncIterator[S]:
    """Served by the caller's loop until the block ends."""
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@contextlib.contextmanager
def in_thread(server: S) -> Iterator[S]:
    """Served by a thread, for callers that block."""
    with start_blocking_portal() as portal:
        portal.call(server.start)
        try:
            yield server
        finally:
            portal.call(server.stop)
