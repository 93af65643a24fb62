"""The merchants on their loopback port: in the caller's event loop, or in a thread with a loop of its own."""

import asyncio
import contextlib
import itertools
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal, TypeVar

from anyio.from_thread import start_blocking_portal

from tests.simulators.merchant.book import Book, Received
from tests.simulators.merchant.connection import Connection
from tests.simulators.merchant.control import Routes

HOST = "127.0.0.1"
BACKLOG = 4096
WITHIN_S = 10.0
Door = Literal["open", "close", "reset", "silent"]
Kind = TypeVar("Kind", bound="Merchants")


class Merchants(Book):
    """All merchants of one port. Everything may be called from any thread, and has happened when it returns."""

    def __init__(self, *, light: bool = False, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        super().__init__(light=light)
        self._tls = tls
        self._routes = Routes(self)
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._numbers = itertools.count(1)
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._unheard: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        #: What happens to new connections: ended by FIN or RST when just accepted, or accepted and never read from.
        self.door: Door = "open"
        # never listens: it keeps the port ours while the merchants are down
        self._place = _bound(port)
        self.port: int = self._place.getsockname()[1]

    def url(self, name: str) -> str:
        """Return where this merchant takes webhooks."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}/m/{name}"

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._open) + len(self._unheard)

    def down(self) -> None:
        """All merchants are away: reset all connections and refuse new ones."""
        self._call(self._down)

    def up(self) -> None:
        """They are back, on the same port."""
        self._call(self._up)

    async def close(self) -> None:
        """End for good; clients still connected are reset."""
        self._down()
        self._place.close()
        while self._open or self._opening:  # noqa: ASYNC110 - a turn of the loop or two, until all sockets are closed
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
        for connection in list(self._open):
            connection.reset()
        for sock in self._unheard:
            _reset(sock)
        self._unheard.clear()

    def _up(self) -> None:
        if self._listener is None:
            self._listener = _bound(self.port)
            self._listener.listen(BACKLOG)
            self._listener.setblocking(False)
            self._loop.add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            client, _ = listener.accept()
            self.connections += 1
            number = next(self._numbers)
            if self.door == "open":
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else answers wait for delayed ACKs
                task = self._loop.create_task(self._serve(client, number))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            elif self.door == "close":
                client.close()
            elif self.door == "reset":
                _reset(client)
            else:
                self._unheard.add(client)

    async def _serve(self, client: socket.socket, number: int) -> None:
        connection = Connection(self, self._routes.answer, client, number, self._open)
        try:
            await self._loop.connect_accepted_socket(lambda: connection, client, ssl=self._tls)
        except (OSError, asyncio.CancelledError):  # no TLS that we speak, or the merchants went down meanwhile
            connection.reset()


class InLoop(Merchants):
    """Served by the caller's loop."""

    async def wait_for(self, name: str, count: int, within_s: float = WITHIN_S) -> list[Received]:
        """Wait until this many requests have arrived, and return them (none when recording is light)."""
        reached = asyncio.Event()
        with self.merchant(name).waiting(count, reached.set):
            try:
                async with asyncio.timeout(within_s):
                    await reached.wait()
            except TimeoutError:
                raise TimeoutError(_too_few(self, name, count, within_s)) from None
        return list(self.merchant(name).requests)


class InThread(Merchants):
    """Served by a loop in another thread than the caller's."""

    def wait_for(self, name: str, count: int, within_s: float = WITHIN_S) -> list[Received]:
        """Block until this many requests have arrived, and return them (none when recording is light)."""
        reached = threading.Event()
        with self.merchant(name).waiting(count, reached.set):
            if not reached.wait(within_s):
                raise TimeoutError(_too_few(self, name, count, within_s))
        return list(self.merchant(name).requests)


@contextlib.asynccontextmanager
async def running(*, light: bool = False, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[InLoop]:
    """Serve on a free port until the block ends."""
    async with _serving(InLoop(light=light, tls=tls, port=port)) as merchants:
        yield merchants


@contextlib.contextmanager
def running_in_thread(*, light: bool = False, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[InThread]:
    """Serve from a thread, so that a busy or blocked event loop of the caller's does not hold the merchants up."""

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[InThread]:
        async with _serving(InThread(light=light, tls=tls, port=port)) as merchants:
            yield merchants

    with (
        start_blocking_portal(backend_options={"use_uvloop": True}) as portal,
        portal.wrap_async_context_manager(serving()) as merchants,
    ):
        yield merchants


@contextlib.asynccontextmanager
async def _serving(merchants: Kind) -> AsyncIterator[Kind]:
    try:
        merchants.up()
        yield merchants
    finally:
        await merchants.close()


def _too_few(book: Book, name: str, count: int, within_s: float) -> str:
    return f"merchant {name} received {book.count(name)} of {count} requests within {within_s:g} s"


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((HOST, port))
    return sock
