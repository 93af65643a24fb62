"""HTTP for machines that watch this one: a few fixed pages, answered from a thread with an event loop of its own, so
that there is an answer while the worker's own loop stands still.

Nothing of a request counts but its method and path. One connection is one answer; each has `DEADLINE_S` for all of it,
a head of at most `MOST_HEAD` bytes, and only `MOST_OPEN` may be open.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from loguru import logger

DEADLINE_S = 10.0
MOST_HEAD = 8 * 1024
MOST_OPEN = 32
END_S = 2.0  # for the thread to end; it ends with the process at the latest
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: HTTPStatus
    body: bytes
    kind: str = TEXT


#: Makes a page; it is given what the asker accepts. Called from the thread.
Page = Callable[[str], Reply]


class Listener:
    """Serves `pages` (path -> page) on a socket that is bound already. `start` and `close` once each."""

    def __init__(self, bound: socket.socket, pages: Mapping[str, Page]) -> None:
        self._bound = bound
        self._pages = pages
        self._open = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        self._started.wait(END_S)

    def close(self) -> None:
        """Answer no more. Waits `END_S` at most."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it ended by itself
                self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(timeout=END_S)
        self._bound.close()

    def _run(self) -> None:
        # a plain loop: uvloop installs handlers that belong to the main thread
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            try:
                runner.run(self._serve())
            except Exception as e:  # noqa: BLE001 - it costs the metrics, not the worker
                logger.opt(exception=e).error("metrics and health are not served any more")

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, sock=self._bound, limit=MOST_HEAD)
        self._started.set()
        async with server:
            await self._ended.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= MOST_OPEN:
            writer.transport.abort()
            return
        self._open += 1
        try:
            async with asyncio.timeout(DEADLINE_S):
                writer.write(await self._answer(reader))
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, EOFError, OSError):
            pass
        finally:
            self._open -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        """What to send. Raises EOFError where the asker leaves."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.LimitOverrunError:
            return _written(Reply(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"that is too long\n"))
        first, *lines = head.split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _written(Reply(HTTPStatus.BAD_REQUEST, b"that is no request\n"))
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _written(Reply(HTTPStatus.METHOD_NOT_ALLOWED, b"GET or HEAD\n"), "Allow: GET, HEAD\r\n")
        accepted = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("accept:")]
        return _written(self._page(target.partition("?")[0], ",".join(accepted)), is_head=method == "HEAD")

    def _page(self, path: str, accepted: str) -> Reply:
        page = self._pages.get(path)
        if page is None:
            return Reply(HTTPStatus.NOT_FOUND, f"there are {', '.join(self._pages)}\n".encode())
        try:
            return page(accepted)
        except Exception as e:  # noqa: BLE001 - the next one may be well
            logger.opt(exception=e).error("a page for machines hit a bug", path=path)
            return Reply(HTTPStatus.INTERNAL_SERVER_ERROR, b"a fault of ours; it is in the log\n")


def _written(reply: Reply, more: str = "", *, is_head: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {reply.status.value} {reply.status.phrase}\r\n"
        f"Date: {formatdate(usegmt=True)}\r\nContent-Type: {reply.kind}\r\nContent-Length: {len(reply.body)}\r\n"
        f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() if is_head else head.encode() + reply.body
