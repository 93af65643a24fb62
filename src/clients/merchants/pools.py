"""Kept connections, one pool for each origin; pools that nobody uses are closed in time."""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpcore
import httpx

from .guard import Guard
from .stream import Stream

KEEPALIVE_S = 30.0  # how long an idle connection is kept: shorter than most servers do, or they are stale too often
MOST_UNUSED = 256  # origins whose idle connections are kept

Origin = tuple[str, str, int]  # scheme, host, port


class Transport(httpx.AsyncHTTPTransport):
    """httpx's transport on a pool of ours: it has no public argument for how connections are opened."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def drop_idle(self) -> None:
        """Close what is idle, so that the next call opens a connection."""
        for connection in self._pool.connections:
            if connection.is_idle():
                await connection.aclose()


class Pool:
    """The connections to one origin, as httpcore's pool takes time in the number of its connections at every call."""

    def __init__(self, guard: Guard, context: ssl.SSLContext) -> None:
        self.guard = guard
        self.transport = Transport(
            httpcore.AsyncConnectionPool(
                ssl_context=context, max_connections=None, keepalive_expiry=KEEPALIVE_S, network_backend=self.guard
            )
        )
        self.calls = 0  # that use it now
        self.unused_since = 0.0  # on the event loop's clock
        self.is_doubtful = False  # a call was cut short: httpcore may have lost count of its connections


class Pools:
    """The pool of each origin. Those that nobody uses are closed after a while, the longest unused first."""

    def __init__(self, make: Callable[[], Pool]) -> None:
        self._make = make
        self._pools: dict[Origin, Pool] = {}
        self._unused: OrderedDict[Origin, Pool] = OrderedDict()

    @contextmanager
    def use(self, origin: Origin) -> Iterator[Pool]:
        """The pool of `origin`, which is not closed meanwhile."""
        pool = self._pools.get(origin) or self._pools.setdefault(origin, self._make())
        self._unused.pop(origin, None)
        pool.calls += 1
        try:
            yield pool
        finally:
            pool.calls -= 1
            if not pool.calls:
                pool.unused_since = now = asyncio.get_running_loop().time()
                self._unused[origin] = pool
                if pool.is_doubtful:
                    self._close(origin)
                self._close_oldest(now)

    def close(self) -> list[Stream]:
        """Close all, also what is in use, and return the connections whose sockets are still to be closed."""
        return [stream for pool in self._pools.values() for stream in pool.guard.abort()]

    def _close_oldest(self, now: float) -> None:
        while self._unused:
            origin, pool = next(iter(self._unused.items()))
            if len(self._unused) <= MOST_UNUSED and now < pool.unused_since + KEEPALIVE_S:
                return
            self._close(origin)

    def _close(self, origin: Origin) -> None:
        self._unused.pop(origin).guard.abort()
        del self._pools[origin]
