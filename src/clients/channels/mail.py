"""E-mail by the shop's own SMTP server, encrypted unless it is told otherwise, one connection a message.

A message has the same Message-ID in every try, so that servers and readers that look for doubles find them.
"""

import asyncio
import hashlib
import re
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import formatdate, parseaddr
from typing import Any

import aiosmtplib

from ...errors import Permanent, Transient
from ...rules.redact import redact
from ...settings.channels import ChannelSettings
from .note import Note, Unsure
from .wording import as_html, clean, cut, plain, title_of

AT_ONCE = 3  # connections: many servers take no more from one client
LONGEST = 100_000  # characters
QUIT_S = 1.0
ENCODING = "quoted-printable"  # what every server takes, whatever it says of 8BITMIME
PERMANENT = 500  # codes from here on are for good (RFC 5321, 4.2.1)
ADVICE = "check ALERT_SMTP_HOST, ALERT_SMTP_PORT and ALERT_SMTP_TLS"


class Mail:
    """Sends by one server."""

    def __init__(self, settings: ChannelSettings, context: Callable[[], ssl.SSLContext]) -> None:
        self._settings = settings
        self._context = context
        self._few = asyncio.Semaphore(AT_ONCE)

    def missing(self, target: str) -> str | None:
        """None where there is a server and a sender."""
        unset = [
            name
            for name, value in (
                ("ALERT_SMTP_HOST", self._settings.smtp_host),
                ("ALERT_SMTP_FROM", self._settings.smtp_from),
            )
            if not value
        ]
        return f"set {' and '.join(unset)}" if unset else None

    async def send(self, target: str, note: Note) -> str | None:
        """Hand it to the server; returns its Message-ID."""
        to = _mailbox(target)
        message = _message(note, str(self._settings.smtp_from), to)
        stage = _Stage()
        await self._within(self._hand_over(to, message, stage), stage)
        return str(message["Message-ID"])

    async def check(self) -> tuple[bool, str] | None:
        """Connects, logs in where a user is set, and leaves again."""
        if self.missing(""):
            return None
        await self._within(self._look_in(), _Stage())
        how = {"starttls": "STARTTLS", "tls": "TLS", "none": "no encryption"}[self._settings.smtp_tls]
        user = f", logged in as {self._settings.smtp_user}" if self._settings.smtp_user else ""
        return True, f"{self._where}, {how}{user}"

    @property
    def _where(self) -> str:
        return f"{self._settings.smtp_host}:{self._settings.smtp_port or self._settings.smtp_default_port}"

    async def _hand_over(self, to: str, message: EmailMessage, stage: "_Stage") -> None:
        async with self._few:
            smtp = await self._connected()
            try:
                sender = _mailbox(parseaddr(str(self._settings.smtp_from))[1])
                is_plain = (sender + to).isascii()
                if not is_plain:
                    await smtp.ehlo()  # without a login nobody asked yet what it can do
                if not is_plain and not smtp.supports_extension("smtputf8"):
                    raise Permanent(f"e-mail: {self._where} takes no addresses with letters beyond ASCII")
                encoding = "ascii" if is_plain else "utf-8"
                await smtp.mail(sender, options=[] if is_plain else ["SMTPUTF8"], encoding=encoding)
                await smtp.rcpt(to, encoding=encoding)
                content = message.as_bytes(policy=SMTP if is_plain else SMTPUTF8)
                stage.is_sent = True
                await smtp.data(content)
                stage.is_taken = True
                with suppress(aiosmtplib.SMTPException):
                    await smtp.quit(timeout=QUIT_S)
            finally:
                smtp.close()

    async def _look_in(self) -> None:
        smtp = await self._connected()
        try:
            await smtp.noop()
        finally:
            smtp.close()

    async def _connected(self) -> aiosmtplib.SMTP:
        settings = self._settings
        smtp = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port or settings.smtp_default_port,
            username=settings.smtp_user,
            password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
            local_hostname=_own_name(),
            timeout=settings.channel_timeout_seconds,
            use_tls=settings.smtp_tls == "tls",
            start_tls=settings.smtp_tls == "starttls",  # and no message without it
            tls_context=self._context() if settings.smtp_tls != "none" else None,
        )
        try:
            await smtp.connect()
        except BaseException:
            smtp.close()
            raise
        return smtp

    async def _within(self, work: Coroutine[Any, Any, None], stage: "_Stage") -> None:
        """Do it within one deadline, and raise ours for what the server or the library raises."""
        error: Exception
        try:
            async with asyncio.timeout(self._settings.channel_timeout_seconds):
                await work
                return
        except (aiosmtplib.SMTPException, OSError) as e:  # TimeoutError is an OSError
            error = self._ours(e, stage)
        if not stage.is_taken:
            raise error

    def _ours(self, error: Exception, stage: "_Stage") -> Exception:
        """Without the server's words where they may repeat what was sent to log in."""
        if isinstance(error, aiosmtplib.SMTPAuthenticationError):
            advice = "check ALERT_SMTP_USER and ALERT_SMTP_PASSWORD"
            return _by_code(error.code)(f"e-mail: {self._where} refused the login ({error.code}); {advice}")
        if isinstance(error, aiosmtplib.SMTPResponseException):
            words = ""
            if isinstance(
                error, aiosmtplib.SMTPSenderRefused | aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPDataError
            ):
                words = f" {cut(redact(' '.join(clean(error.message).split())), 200)}"
            return _by_code(error.code)(f"e-mail: {self._where} refused it ({error.code}{words})")
        if isinstance(error, aiosmtplib.SMTPTimeoutError | TimeoutError):
            words = f"{self._where} gave no answer in {self._settings.channel_timeout_seconds:g} s"
        elif isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
            words = f"no encrypted connection to {self._where} (is its certificate valid for that name?); {ADVICE}"
        elif isinstance(error, aiosmtplib.SMTPServerDisconnected):
            words = f"{self._where} cut the connection"
        elif isinstance(error, OSError):
            words = f"{self._where} cannot be reached; {ADVICE}"
        else:  # it does not offer STARTTLS or a login
            return Permanent(f"e-mail: {self._where}: {cut(redact(str(error)), 120)}; {ADVICE}")
        return (Unsure if stage.is_sent else Transient)(f"e-mail: {words}")


class _Stage:
    """How far a message came: `is_sent` from the first byte of it on, `is_taken` once the server said so."""

    def __init__(self) -> None:
        self.is_sent = False
        self.is_taken = False


def _by_code(code: int) -> type[Permanent | Transient]:
    return Permanent if code >= PERMANENT else Transient


def _mailbox(address: str) -> str:
    """With the domain as DNS has it. Raises Permanent on what cannot be one."""
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError as e:
        raise Permanent(f"e-mail: {domain!r} cannot be a domain") from e


def _message(note: Note, sender: str, to: str) -> EmailMessage:
    name, address = parseaddr(sender)
    message = EmailMessage(policy=SMTPUTF8)
    message["From"] = _address(_mailbox(address), clean(name))
    message["To"] = _address(to)
    message["Subject"] = title_of(note)
    message["Date"] = formatdate()
    # hashed: an id of ours may hold what a header must not
    digest = hashlib.sha256(f"{note.note_id}\n{to}".encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@{_mailbox(address).rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: holiday answers keep quiet
    if note.severity in ("high", "critical"):
        message["Importance"] = "high"
    message.set_content(plain(note, LONGEST), cte=ENCODING)
    message.add_alternative(as_html(note), subtype="html", cte=ENCODING)
    return message


def _address(mailbox: str, name: str = "") -> Address:
    local, _, domain = mailbox.rpartition("@")
    return Address(name, local, domain)


def _own_name() -> str:
    """What to say in EHLO. Not `getfqdn`, which aiosmtplib would take: it may ask a DNS server that hangs."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?", name) else "localhost"
