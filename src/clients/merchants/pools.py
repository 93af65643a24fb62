"""Kept connections, the last used first; those that nobody uses are closed in time."""

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
MOST_UNUSED = 512  # idle connections that are kept

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
    """One connection: httpcore's pool looks at each pair of its connections at every call, which with 64 of them takes
    as long as ten calls.
    """

    def __init__(self, origin: Origin, guard: Guard, context: ssl.SSLContext) -> None:
        self.origin = origin
        self.guard = guard
        self.transport = Transport(
            httpcore.AsyncConnectionPool(
                ssl_context=context, max_connections=1, keepalive_expiry=KEEPALIVE_S, network_backend=self.guard
            )
        )
        self.unused_since = 0.0  # on the event loop's clock
        self.is_doubtful = False  # a call was cut short: httpcore may have lost count of its connection


class Pools:
    """The connections there are, by origin. The longest unused are closed first."""

    def __init__(self, make: Callable[[Origin], Pool]) -> None:
        self._make = make
        self._idle: dict[Origin, list[Pool]] = {}
        self._unused: OrderedDict[Pool, None] = OrderedDict()
        self._used: set[Pool] = set()

    @contextmanager
    def use(self, origin: Origin) -> Iterator[Pool]:
        """A connection to `origin` that nobody else uses meanwhile."""
        idle = self._idle.get(origin)
        if idle:
            pool = idle.pop()
            del self._unused[pool]
        else:
            pool = self._make(origin)
        self._used.add(pool)
        try:
            yield pool
        finally:
            self._used.discard(pool)
            pool.unused_since = now = asyncio.get_running_loop().time()
            if pool.is_doubtful:
                pool.guard.abort()
            elif pool.guard.live:
                self._idle.setdefault(origin, []).append(pool)
                self._unused[pool] = None
            self._close_oldest(now)

    def close(self) -> list[Stream]:
        """Close all, also what is in use, and return the connections whose sockets are still to be closed."""
        return [stream for pool in (*self._used, *self._unused) for stream in pool.guard.abort()]

    def _close_oldest(self, now: float) -> None:
        while self._unused:
            pool = next(iter(self._unused))
            if len(self._unused) <= MOST_UNUSED and now < pool.unused_since + KEEPALIVE_S:
                return
            del self._unused[pool]
            idle = self._idle[pool.origin]
            idle.remove(pool)
            if not idle:
                del self._idle[pool.origin]
            pool.guard.abort()
