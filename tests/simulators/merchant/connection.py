"""One client's connection: takes a request, does to it what the merchant's script says, takes the next."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import cast

from tests.simulators.merchant.behaviours import Behaviour, status
from tests.simulators.merchant.book import Book, Merchant
from tests.simulators.merchant.requests import Head, MalformedRequest, Requests

CROWDED = status(429)
UNKNOWN = status(404)
MALFORMED = Behaviour(400, end="close")
MERCHANTS = "/m/"
CONTROL = "/_control/"
#: Answers what concerns no merchant: (method, target, body) -> answer.
Control = Callable[[str, str, bytes], Awaitable[Behaviour]]


class Connection(asyncio.Protocol):
    """In `open_ones` as long as it is open."""

    def __init__(
        self, book: Book, control: Control, sock: socket.socket, number: int, open_ones: set["Connection"]
    ) -> None:
        self._book, self._control, self._socket, self._open = book, control, sock, open_ones
        self._number = number
        self._transport: asyncio.Transport | None = None
        self._requests = Requests()
        self._behaviour: Behaviour | None = None  # for the request that is arriving
        self._busy = False  # answering, or never going to: what else arrives has to wait
        self._left = False  # closed by one of the two sides: nothing more is said
        self._stale = False
        self._counted = True
        self._serving: Merchant | None = None  # whose request is in flight
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        self._requests.feed(data)
        self._advance()

    def eof_received(self) -> None:
        self._leave()  # now, not a turn of the loop later: the client may have begun elsewhere already

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._leave()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    # --- ending it

    def close(self) -> None:
        """Send what is under way, then a FIN."""
        self._leave()
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Break off at once; the client gets a RST."""
        with contextlib.suppress(OSError):  # closed already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._leave()
        if self._transport is not None:
            self._transport.abort()
        else:
            self._socket.close()

    def _leave(self) -> None:
        self._left = True
        self._answered()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _answered(self) -> None:
        if self._serving is not None:
            self._serving.in_flight -= 1
            self._serving = None

    # --- requests

    def _advance(self) -> None:
        try:
            while not self._busy and not self._left and self._requests.begun:
                if self._stale:
                    self.close()
                    return
                head = self._requests.head()
                if head is None or not self._take(head):
                    return
        except MalformedRequest:
            self._write(MALFORMED.at_once or b"")
            self.close()

    def _take(self, head: Head) -> bool:
        """Serve the request whose head has come; False while its body has not."""
        merchant = self._merchant(head)
        if merchant is not None and self._behaviour is None:
            self._behaviour = next(merchant.script)
            if self._behaviour.cut == "before":
                self._cut(self._behaviour)
                return True
        body = self._requests.body()
        if body is None:
            return False
        behaviour, self._behaviour = self._behaviour, None
        self._busy = True
        if merchant is not None and behaviour is not None:
            merchant.arrived(head, body, self._number, light=self._book.light)
            self._serving = merchant
            crowded = behaviour.at_most is not None and merchant.in_flight > behaviour.at_most
            self._answer(CROWDED if crowded else behaviour, head)
        elif head.target.startswith(CONTROL):
            self._start(self._obey(head, body))
        else:
            self._answer(UNKNOWN, head)
        return True

    def _merchant(self, head: Head) -> Merchant | None:
        if not head.target.startswith(MERCHANTS):
            return None
        return self._book.merchant(head.target[len(MERCHANTS) :].split("?", 1)[0].split("/", 1)[0])

    # --- answers

    def _answer(self, behaviour: Behaviour, head: Head) -> None:
        if behaviour.at_once is not None:
            self._write(behaviour.at_once)
            self._finish(behaviour, head)
        elif not behaviour.dead:
            self._start(self._play(behaviour, head))

    def _finish(self, behaviour: Behaviour, head: Head) -> None:
        self._answered()
        self._busy = False
        self._stale = behaviour.end == "stale_next"
        if behaviour.end in ("close", "stale") or head.closes:
            self.close()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)

    async def _obey(self, head: Head, body: bytes) -> None:
        self._book.connections -= self._counted
        self._counted = False
        behaviour = await self._control(head.method, head.target, body)
        await self._play(behaviour, head)

    async def _play(self, behaviour: Behaviour, head: Head) -> None:
        self._write(behaviour.interims)
        if behaviour.latency_s:
            await asyncio.sleep(behaviour.latency_s)
        if behaviour.cut:
            if behaviour.cut == "inside":
                self._write(behaviour.head + behaviour.body[: len(behaviour.body) // 2])
            self._cut(behaviour)
            return
        if behaviour.raw is not None:
            self._write(behaviour.raw)
        else:
            await self._send(behaviour.head, behaviour.head_byte_s)
            for piece in behaviour.pieces():
                await self._send(piece, behaviour.body_byte_s)
        self._task = None
        self._finish(behaviour, head)
        self._advance()

    def _cut(self, behaviour: Behaviour) -> None:
        if behaviour.reset:
            self.reset()
        else:
            self.close()

    async def _send(self, data: bytes, byte_s: float) -> None:
        if not byte_s:
            self._write(data)
            await self._room.wait()
            return
        for at in range(len(data)):
            await asyncio.sleep(byte_s)
            self._write(data[at : at + 1])

    def _write(self, data: bytes) -> None:
        if data and not self._left and self._transport is not None:
            self._transport.write(data)
