"""The proxy on its loopback port: in the caller's event loop, or in a thread with a loop of its own."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlsplit

from anyio.from_thread import start_blocking_portal

from tests.simulators.redis_proxy.link import End, Link
from tests.simulators.redis_proxy.plan import Plan

HOST = "127.0.0.1"
BACKLOG = 2048


class Proxy(Plan):
    """A stretch of network between clients and Redis. `url` is what REDIS_URL wants.

    `down`, `up`, `freeze` and `thaw` have happened when they return, whichever thread calls them.
    """

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        parts = urlsplit(redis_url)
        self._target = (parts.hostname or HOST, parts.port or 6379)
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._ends: set[End] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        # never listens: it keeps the port ours while the proxy is down
        self._place = _bound(0)
        user, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{user}{at}{HOST}:{self._place.getsockname()[1]}").geturl()

    def down(self) -> None:
        """Redis is away: reset all connections and refuse new ones."""
        self._call(self._down)

    def up(self) -> None:
        """Redis is back, on the same port."""
        self._call(self._up)

    def freeze(self) -> None:
        """Accept connections and carry no byte either way, on old and new ones.

        What was sent meanwhile arrives at the thaw, also from a client that has given up by then.
        """
        self._call(lambda: self._set_frozen(True))

    def thaw(self) -> None:
        """Carry on."""
        self._call(lambda: self._set_frozen(False))

    async def close(self) -> None:
        """End for good; clients still connected are reset."""
        self._down()
        self._place.close()
        while self._ends or self._opening:  # noqa: ASYNC110 - a turn of the loop or two, until all sockets are closed
            await asyncio.sleep(0)

    def _call(self, action: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread:
            action()
            return

        async def act() -> None:
            action()

        asyncio.run_coroutine_threadsafe(act(), self._loop).result()

    def _down(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for task in self._opening:
            task.cancel()
        for end in list(self._ends):
            end.link.reset()

    def _up(self) -> None:
        if self._listener is None:
            self._listener = _bound(self._place.getsockname()[1])
            self._listener.listen(BACKLOG)
            self._listener.setblocking(False)
            self._set_frozen(self.frozen)

    def _set_frozen(self, frozen: bool) -> None:
        self.frozen = frozen
        if self._listener is not None and frozen:
            self._loop.remove_reader(self._listener)  # the kernel goes on accepting, up to the backlog
        elif self._listener is not None:
            self._loop.add_reader(self._listener, self._accept, self._listener)
        for link in {end.link for end in self._ends}:
            link.regulate()
            link.release()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            client, _ = listener.accept()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else replies wait for delayed ACKs
            task = self._loop.create_task(self._open(client))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, client: socket.socket) -> None:
        link = Link(self, client, self._ends)
        try:
            await self._loop.create_connection(lambda: link.server, *self._target)
            await self._loop.connect_accepted_socket(lambda: link.client, client)
        except (OSError, asyncio.CancelledError):  # Redis itself is away, or the proxy went down meanwhile
            link.reset()


@contextlib.asynccontextmanager
async def running(redis_url: str) -> AsyncIterator[Proxy]:
    """Serve on a free port until the block ends."""
    proxy = Proxy(redis_url)
    try:
        proxy.up()
        yield proxy
    finally:
        await proxy.close()


@contextlib.contextmanager
def running_in_thread(redis_url: str) -> Iterator[Proxy]:
    """Serve from a thread, so that a busy or blocked event loop of the caller's does not hold the network up."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running(redis_url)) as proxy:
        yield proxy


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((HOST, port))
    return sock
