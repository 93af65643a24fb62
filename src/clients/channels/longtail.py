"""Everything else, SMS gateways among it, by Apprise (github.com/caronc/apprise), which is an extra of its own.

Apprise blocks, has no deadline for a call as a whole, and says only whether it went well. So each message has a thread
of its own that nobody waits for at the end, of which there are few; who comes when all are stuck is sent away. What it
logs may hold addresses, which are secrets as a whole: only the HTTP status is read out of it, and nothing passed on.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pydantic import SecretStr

from ...errors import Permanent, Transient
from ...settings.channels import ChannelSettings
from .note import Note, Unsure
from .pace import Limit, Pace
from .wording import plain, title_of

if TYPE_CHECKING:
    from apprise.plugins.base import NotifyBase

THREADS = 8
LONGEST = 20_000  # characters; Apprise cuts further to what each service takes
HOW = "ALERT_APPRISE_URLS=<name>=<an address as Apprise writes it>"
_LOGGERS = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib")
_SEVERITIES = {"warning": "warning", "high": "warning", "critical": "failure"}
_STATUS = re.compile(r"error=(\d{3})\b")
TOO_MANY, TIMED_OUT, SERVER_ERROR = 429, 408, 500


class LongTail:
    """Sends to the addresses whose names are set."""

    def __init__(self, settings: ChannelSettings) -> None:
        self._urls: Mapping[str, SecretStr] = settings.apprise_urls
        self._timeout_s = settings.channel_timeout_seconds
        self._pace = Pace("Apprise", settings.channel_timeout_seconds)
        self._free = asyncio.Semaphore(THREADS)

    def missing(self, target: str) -> str | None:
        """None where there is an address of that name, and Apprise."""
        if target not in self._urls:
            return f"no address of the name {target}: set {HOW}"
        return None if find_spec("apprise") else "Apprise is not installed: pip install folkform-worker[apprise]"

    async def send(self, target: str, note: Note) -> str | None:
        """Send it; Apprise gives no id. Where it does not say why it failed, the message may have arrived."""
        await self._pace.turn(Limit(target, 1, 1))
        url, name = self._urls[target].get_secret_value(), f"Apprise ({target})"
        answer: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
                self._start(url, note, answer)
                outcome = await answer
        except TimeoutError:
            if not answer.cancelled():  # the wait for a thread was what took so long
                raise Transient(f"{name}: all {THREADS} threads are stuck; nothing was sent") from None
            raise Unsure(f"{name}: no end in {self._timeout_s:g} s; the message may have arrived") from None
        outcome.judge(name)
        return None

    async def check(self) -> tuple[bool, str] | None:
        """Apprise can read the addresses; whether they work only a message tells."""
        if not self._urls:
            return None
        if lacking := self.missing(next(iter(self._urls))):
            return False, lacking
        unread = [name for name, url in self._urls.items() if not await asyncio.to_thread(_is_readable, url)]
        if unread:
            return False, f"Apprise cannot read the address of {', '.join(unread)}: see its documents, and {HOW}"
        return True, f"{len(self._urls)} addresses set, not checkable without a message: {', '.join(self._urls)}"

    def _start(self, url: str, note: Note, answer: "asyncio.Future[_Outcome]") -> None:
        loop = asyncio.get_running_loop()

        def work() -> None:
            outcome = _notify(url, note)
            with suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(done, outcome)

        def done(outcome: _Outcome) -> None:
            self._free.release()
            if not answer.done():
                answer.set_result(outcome)

        # a daemon: a call that hangs must not keep the process from ending
        threading.Thread(target=work, name="apprise", daemon=True).start()


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What Apprise said, and the HTTP status it logged, where it did."""

    is_sent: bool
    is_readable: bool = True
    status: int | None = None

    def judge(self, name: str) -> None:
        """Raise what follows where it was not sent."""
        status = self.status
        if self.is_sent:
            return
        if not self.is_readable:
            raise Permanent(f"{name}: Apprise cannot read the address: see its documents, and {HOW}")
        if status is None:
            raise Unsure(f"{name}: it failed without a status; the message may have arrived")
        if status in (TOO_MANY, TIMED_OUT) or status >= SERVER_ERROR:
            raise Transient(f"{name}: it failed ({status})")
        raise Permanent(f"{name}: refused ({status}); is the address right? See {HOW}")


class _Statuses(logging.Handler):
    """Reads the HTTP status out of what Apprise logs in the calling thread, and lets nothing through."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.of_thread = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        if found := _STATUS.search(record.getMessage()):
            self.of_thread.status = int(found[1])


@cache
def _statuses() -> _Statuses:
    handler = _Statuses()
    for name in _LOGGERS:
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(logging.WARNING)
    return handler


def _service(url: str) -> "NotifyBase | None":
    from apprise import Apprise, AppriseAsset  # the extra may not be installed, and loading it takes a while

    asset = AppriseAsset(storage_mode="memory", http_redirects=False, secure_logging=True, interpret_emojis=False)
    service = Apprise.instantiate(url, asset=asset)
    if service is not None:
        service.redirects = False  # even where the address asks for it
    return service


def _is_readable(url: SecretStr) -> bool:
    _statuses()
    try:
        return _service(url.get_secret_value()) is not None
    except Exception:  # noqa: BLE001 - a plugin's bug; its words may hold the address
        return False


def _notify(url: str, note: Note) -> _Outcome:
    statuses = _statuses()
    statuses.of_thread.status = None
    try:
        service = _service(url)
        if service is None:
            return _Outcome(is_sent=False, is_readable=False)
        is_sent = service.notify(
            title=title_of(note), body=_body(note), notify_type=_SEVERITIES.get(note.severity, "info")
        )
        return _Outcome(is_sent=bool(is_sent), status=statuses.of_thread.status)
    except Exception:  # noqa: BLE001 - a plugin's bug is an answer too; its traceback may hold the address
        return _Outcome(is_sent=False, status=statuses.of_thread.status)


def _body(note: Note) -> str:
    """Without the title, which goes by itself."""
    return plain(replace(note, title=""), LONGEST) or title_of(note)
