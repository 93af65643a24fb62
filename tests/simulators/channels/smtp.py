"""An SMTP server (RFC 5321) with STARTTLS (3207) or TLS, AUTH PLAIN and LOGIN (4954), SMTPUTF8 (6531) if wanted."""

import asyncio
import base64
import ssl
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Literal, cast

HOST = "127.0.0.1"
Step = Literal["connect", "ehlo", "auth", "mail", "rcpt", "data", "content", "quit"]


@dataclass(frozen=True)
class Received:
    """One message as it came."""

    sender: str
    to: str
    message: EmailMessage
    is_encrypted: bool
    user: str | None


@dataclass
class SmtpServer:
    """`faults`: at which step what is answered; an answer `hang` or `cut` is none at all.

    With `tls` it speaks TLS from the start where `implicit`, else it offers STARTTLS.
    """

    tls: ssl.SSLContext | None = None
    implicit: bool = False
    user: str | None = None
    password: str = ""
    smtputf8: bool = False
    faults: dict[Step, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    most_at_once: int = 0
    port: int = 0

    async def start(self) -> None:
        """Listen on a free port."""
        self.called = asyncio.Event()
        self._sessions: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, HOST, 0, ssl=self.tls if self.implicit else None)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close, with whoever is still there."""
        self._server.close()
        for task in self._sessions:
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.called.set()
        task = asyncio.create_task(self._serve(reader, writer))
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)
        self.most_at_once = max(self.most_at_once, len(self._sessions))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = writer.transport
        try:
            await _Session(self, reader, writer).run()
        except (OSError, EOFError):
            pass
        finally:
            if writer.transport is None:  # where it was lost in the handshake; asyncio's own __del__ wants one
                writer._transport = transport
            writer.transport.abort()


class _Session:
    def __init__(self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.is_encrypted, self.user = server.implicit, cast("str | None", None)
        self.sender = self.to = ""

    async def run(self) -> None:
        await self.say("connect", "220 mail.test ESMTP")
        while line := (await self.reader.readline()).decode():
            verb, _, rest = line.strip().partition(" ")
            step = getattr(self, f"do_{verb.lower()}", None)
            if step is None:
                await self.write("502 5.5.2 what?")
            elif await step(rest) is False:
                return

    async def say(self, step: Step, usual: str) -> bool:
        """The usual answer, unless something else is planned; whether all is well."""
        planned = self.server.faults.get(step, usual)
        if planned == "hang":
            await self.reader.read()  # until the client goes
            raise EOFError
        if planned == "cut":
            self.writer.transport.abort()
            raise EOFError
        await self.write(planned)
        return planned == usual

    async def write(self, line: str) -> None:
        self.writer.write(f"{line}\r\n".encode())
        await self.writer.drain()

    async def do_ehlo(self, _: str) -> None:
        offers = ["mail.test", "8BITMIME"]
        if self.server.tls and not self.is_encrypted:
            offers.append("STARTTLS")
        elif self.server.user:
            offers.append("AUTH PLAIN LOGIN")
        if self.server.smtputf8:
            offers.append("SMTPUTF8")
        lines = [f"250{' ' if offer == offers[-1] else '-'}{offer}" for offer in offers]
        await self.say("ehlo", "\r\n".join(lines))

    async def do_starttls(self, _: str) -> None:
        await self.write("220 go ahead")
        await self.writer.start_tls(cast("ssl.SSLContext", self.server.tls))
        self.is_encrypted = True

    async def do_auth(self, rest: str) -> None:
        kind, _, given = rest.partition(" ")
        if kind == "LOGIN":
            await self.write("334 UGFzc3dvcmQ6")
            user, given = base64.b64decode(given).decode(), (await self.reader.readline()).decode().strip()
            password = base64.b64decode(given).decode()
        else:
            _, user, password = base64.b64decode(given).decode().split("\0")
        if (user, password) == (self.server.user, self.server.password):
            if await self.say("auth", "235 2.7.0 welcome"):
                self.user = user
        else:
            await self.write(f"535 5.7.8 not you: {given} {password}")  # a server that repeats what it should not

    async def do_mail(self, rest: str) -> None:
        if self.server.user and not self.user:
            await self.write("530 5.7.0 log in first")
        elif await self.say("mail", "250 2.1.0 ok"):
            self.sender = rest.partition("<")[2].partition(">")[0]

    async def do_rcpt(self, rest: str) -> None:
        if await self.say("rcpt", "250 2.1.5 ok"):
            self.to = rest.partition("<")[2].partition(">")[0]

    async def do_data(self, _: str) -> None:
        if not await self.say("data", "354 go on"):
            return
        raw = await self.reader.readuntil(b"\r\n.\r\n")
        content = raw[:-3].replace(b"\r\n..", b"\r\n.")
        message = message_from_bytes(content, policy=default)
        self.server.received.append(Received(self.sender, self.to, message, self.is_encrypted, self.user))
        await self.say("content", "250 2.0.0 queued as 4ABC")

    async def do_noop(self, _: str) -> None:
        await self.write("250 2.0.0 ok")

    async def do_quit(self, _: str) -> bool:
        await self.say("quit", "221 2.0.0 bye")
        return False
