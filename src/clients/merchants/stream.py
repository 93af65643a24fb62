"""One connection to a merchant: given up at once and for sure, and read so far and no further."""

import asyncio
import ssl
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, cast

import httpcore

LONGEST_ANSWER = 64 * 1024  # bytes as they come off the connection, head included
HANDSHAKE_S = 10.0


class Attempt:
    """What one call did on its connections; they tell it by `ATTEMPT`, as httpcore hands nothing else through.

    `step` is what it waits for. `stream` is the connection it used last, `connects` how many it opened.
    """

    __slots__ = ("connects", "step", "stream")

    def __init__(self) -> None:
        self.step = "a free connection"
        self.stream: Stream | None = None
        self.connects = 0

    @property
    def is_stale(self) -> bool:
        """Whether it was sent on a connection opened by an earlier call, and not one byte came back."""
        return self.connects == 0 and self.stream is not None and self.stream.received == 0


ATTEMPT: ContextVar[Attempt | None] = ContextVar("ATTEMPT", default=None)


class Stream(httpcore.AsyncNetworkStream, asyncio.Protocol):
    """A connection as httpcore wants it.

    Nothing here has a deadline of its own (each `timeout` is ignored): the call as a whole has one, and ends by
    `abort`. What is written goes out with the next read, head and body in one piece.
    """

    def __init__(self, live: "set[Stream]") -> None:
        self.received = 0  # bytes since the last request
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._live = live
        self._transport: asyncio.Transport
        self._unsent: list[bytes] = []
        self._unread = b""
        self._is_paused = False
        self._error: Exception | None = None
        self._is_ended = False
        self._reader: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        self._live.add(self)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._unread += data
        if len(self._unread) >= LONGEST_ANSWER and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Called by asyncio, which then closes the connection."""
        self._is_ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._is_ended, self._error = True, self._error or exc
        self._forget()
        self._wake()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        """Send what was written, and return what comes, at most `max_bytes`; b"" where the other side is done.

        Raises httpcore.ReadError where the connection broke, and where the answer is longer than is read of one.
        """
        if self._unsent:
            self._send()
        if not self._unread and not self._is_ended:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if self._unread:
            return self._taken(min(max_bytes, LONGEST_ANSWER - self.received))
        if self._error:
            raise httpcore.ReadError(str(self._error)) from self._error
        return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's signature
        """Keep `buffer` for the next read. Not waiting for room costs no memory: the whole body is held anyway."""
        self._unsent.append(buffer)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        """Go on in TLS. Raises what ssl raises, and OSError; the connection is closed then, and when cancelled."""
        if attempt := ATTEMPT.get():
            attempt.step = "a TLS handshake"
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._transport,
                self,
                ssl_context,
                server_hostname=server_hostname,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except BaseException:
            self.abort()
            self._forget()  # asyncio tells nobody that a connection was lost in its handshake
            raise
        if transport is None:  # what asyncio and uvloop give where the connection was lost meanwhile
            self._forget()
            raise ConnectionResetError("the connection was lost in the TLS handshake")
        self._transport = transport
        return self

    async def aclose(self) -> None:
        """Close it; twice does nothing more."""
        self.abort()

    def abort(self) -> None:
        """Close it at once, so that not even a cancelled call leaves it open; twice does nothing more."""
        self._error = self._error or ConnectionAbortedError("the connection was given up")
        self._is_ended = True
        self._transport.abort()
        self._wake()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for: whether an idle connection has something to read, which only its end can be."""
        if info == "is_readable":
            return bool(self._unread) or self._is_ended
        return self._transport.get_extra_info(info)

    def _send(self) -> None:
        if attempt := ATTEMPT.get():
            attempt.stream, attempt.step = self, "an answer"
        data, self._unsent, self.received = b"".join(self._unsent), [], 0
        # a transport that is closing may raise (uvloop) or warn (asyncio); the read tells what happened
        if not self._transport.is_closing():
            with suppress(RuntimeError):
                self._transport.write(data)

    def _taken(self, size: int) -> bytes:
        if size <= 0:
            raise httpcore.ReadError("the answer is longer than is read of one")
        data, self._unread = self._unread[:size], self._unread[size:]
        self.received += len(data)
        if self._is_paused and len(self._unread) < LONGEST_ANSWER:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    def _wake(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)

    def _forget(self) -> None:
        self._live.discard(self)
        if not self.lost.done():
            self.lost.set_result(None)
