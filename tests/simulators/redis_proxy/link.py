"""One client's connection, joined to the one opened to Redis for it."""

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from tests.simulators.redis_proxy.plan import Command, Cut, Plan, Where
from tests.simulators.redis_proxy.resp import Value, Values

#: Linux's SIOCOUTQNSD: how many bytes the kernel holds that it has not sent yet.
UNSENT = 0x894B
#: How long to wait before looking again whether the client took what is still meant for it.
LOOK_AGAIN_S = 0.001
CONFIRMED = frozenset(b"subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe".split())
PUBLISHED = CONFIRMED | {b"message", b"pmessage", b"smessage"}


@dataclass(slots=True)
class Waiting:
    """A command without its reply; SUBSCRIBE and its kin have one per channel."""

    name: bytes
    replies: int
    cut: Cut | None = None
    where: Where | None = None

    @classmethod
    def for_reply(cls, command: Command) -> "Waiting":
        """Count the replies a command will have."""
        name = command[0].lower()
        return cls(name, max(1, len(command) - 1) if name in CONFIRMED else 1)


class End(asyncio.Protocol):
    """One of the two sockets of a link; in `ends` as long as it is open."""

    def __init__(self, link: "Link", ends: set["End"], take: Callable[[bytes], None], over: Callable[[], None]) -> None:
        self.link, self._ends, self._take, self._over = link, ends, take, over
        self.transport: asyncio.Transport | None = None
        self.full = False  # the peer takes bytes more slowly than they come

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._ends.add(self)
        self.link.regulate()

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def eof_received(self) -> bool:
        self._over()
        return True  # stay open for what the other side still says

    def connection_lost(self, exc: Exception | None) -> None:
        self._ends.discard(self)
        self.link.close()

    def pause_writing(self) -> None:
        self.full = True
        self.link.regulate()

    def resume_writing(self) -> None:
        self.full = False
        self.link.regulate()

    def write(self, data: bytes) -> None:
        """Send; without a connection to nobody."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)


class Link:
    """Passes bytes on as they come, and keeps count of commands and replies so that a cut falls between two of them.

    MONITOR and CLIENT REPLY OFF, which break the rule of one reply per command, are passed on but spoil the count.
    """

    def __init__(self, plan: Plan, client: socket.socket, ends: set[End]) -> None:
        self._plan, self._socket, self._loop = plan, client, asyncio.get_running_loop()
        self.client = End(self, ends, self._from_client, lambda: self._pass_on(b""))
        self.server = End(self, ends, self._from_server, self.close)
        self._commands, self._replies = Values(), Values(keep=1)
        self._waiting: deque[Waiting] = deque()
        self._subscribed = False
        self._planned: Waiting | None = None  # once set, nothing more of the client's is passed on
        self._ending = False  # the cut has come: the client gets nothing more either
        self._streamed = 0  # bytes of the unfinished reply that are with the client already
        #: (time.monotonic() it is due at, bytes; none = the client has closed its side)
        self._late: deque[tuple[float, bytes]] = deque()

    def close(self) -> None:
        """Close both sides, after sending what is under way."""
        for end in (self.client, self.server):
            if end.transport is not None:
                end.transport.close()

    def reset(self) -> None:
        """Break both sides off at once; the client gets a RST."""
        with contextlib.suppress(OSError):  # closed already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for end in (self.client, self.server):
            if end.transport is not None:
                end.transport.abort()
        if self.client.transport is None:
            self._socket.close()

    def regulate(self) -> None:
        """Read from each side only while the network is there and the other side takes it."""
        for end, other in ((self.client, self.server), (self.server, self.client)):
            if end.transport is None or end.transport.is_closing():
                continue
            if self._plan.frozen or other.full:
                end.transport.pause_reading()
            else:
                end.transport.resume_reading()

    # --- from the client to Redis

    def _from_client(self, data: bytes) -> None:
        if self._planned is not None:
            return
        at = -self._commands.unfinished
        for raw, items in self._commands.feed(data):
            command = items or raw.split()  # the latter as a person at a terminal types it
            waiting = Waiting.for_reply(command)
            self._waiting.append(waiting)
            met = self._plan.meet(command)
            if met:
                waiting.cut, waiting.where = met
                self._planned = waiting
                # what of it went on with earlier bytes is no whole command to Redis
                data = data[: max(0, at if waiting.where == "before" else at + len(raw))]
                break
            at += len(raw)
        if data:
            self._pass_on(data)
        self._cut_before()

    def _pass_on(self, data: bytes) -> None:
        if self._plan.latency_s > 0 or self._late:
            self._late.append((time.monotonic() + self._plan.latency_s, data))
            if len(self._late) == 1:
                self.release()
        else:
            self._to_server(data)

    def release(self) -> None:
        """Pass on what has been delayed long enough; a frozen network keeps it until the thaw calls again."""
        while self._late and not self._plan.frozen:
            left_s = self._late[0][0] - time.monotonic()
            if left_s > 0:
                self._loop.call_later(left_s, self.release)
                return
            self._to_server(self._late.popleft()[1])

    def _to_server(self, data: bytes) -> None:
        if data:
            self.server.write(data)
        elif self.server.transport is not None and not self.server.transport.is_closing():
            self.server.transport.write_eof()

    # --- from Redis to the client

    def _from_server(self, data: bytes) -> None:
        if self._ending:
            return
        if self._planned is None:
            self.client.write(data)
            for reply in self._replies.feed(data):
                self._answered(reply)
            self._streamed = self._replies.unfinished
            return
        for reply in self._replies.feed(data):
            if self._answered(reply) is self._planned:
                if self._planned.where == "inside":
                    self.client.write(reply.raw[: len(reply.raw) // 2])
                self._end()
                return
            self.client.write(reply.raw[self._streamed :])
            self._streamed = 0
        self._cut_before()

    def _answered(self, reply: Value) -> Waiting | None:
        """Return whose reply this is; None for what Redis says unasked."""
        head = self._waiting[0] if self._waiting else None
        kind = reply.items[0] if reply.items else b""
        listening = self._subscribed or (head is not None and head.name in CONFIRMED)
        if reply.raw[:1] == b">" or (listening and reply.raw[:1] == b"*" and kind in PUBLISHED):
            if kind in CONFIRMED:
                self._subscribed = not reply.raw.endswith(b":0\r\n")
            if head is None or kind != head.name:
                return None
            head.replies -= 1
            if head.replies:
                return head
        if head is not None:
            self._waiting.popleft()
        return head

    # --- the cut

    def _cut_before(self) -> None:
        planned = self._planned
        if planned and planned.where == "before" and self._waiting[0] is planned and not self._ending:
            self._end()

    def _end(self) -> None:
        self._ending = True
        if self.client.transport is not None and not self.client.transport.is_closing():
            # a RST would take with it what the client is still to get
            if self.client.transport.get_write_buffer_size() or _unsent(self._socket):
                self._loop.call_later(LOOK_AGAIN_S, self._end)
                return
            if self._planned and self._planned.cut:
                self._planned.cut.note()
        self.reset()


def _unsent(sock: socket.socket) -> int:
    if sys.platform != "linux":
        return 0
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), UNSENT, bytes(4)))[0])
