"""One call to a merchant's endpoint and what came of it: guarded, bounded in time and bytes, its connection kept."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache, partial

import httpx

from ... import tracing
from ...errors import Misuse
from ...rules.webhook_url import check_url
from ...settings.webhooks import WebhookSettings
from ..outgoing import outgoing
from .body import shown_body
from .faults import fault_of
from .guard import Guard, Resolve, system_resolve
from .pools import Origin, Pool, Pools
from .stream import ATTEMPT, Attempt

BODY_S = 2.0  # for the body, once the head is there: the status says all that counts
PLANS = 1_024  # URLs whose parts are kept
LONGEST_HEADER = 100  # characters kept of a header of the answer
END_S = 1.0  # for the event loop to close aborted sockets

# they frame the message or are made from the URL: a merchant's own headers must not change either
_OURS = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"te", b"trailer")
) | {b"accept-encoding", b"keep-alive", b"proxy-connection"}

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call. `ms` is all of it; a second connection for a stale one included."""

    status: int | None  # None: no whole head of an answer came
    ms: float
    error: str  # why none came, in words for the merchant, without secrets; "" where one came
    response: str = ""  # the first 1 KiB of its body, decompressed, with replacement characters where it is no text
    retry_after: str = ""  # headers as they came, "" where there was none
    control: str = ""  # `webhook-delivery`, in lower case
    is_ours: bool = False  # no answer came through a fault of ours: not to be charged to the merchant


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is the same for every call of one URL."""

    url: httpx.URL
    origin: Origin
    head: tuple[tuple[bytes, bytes], ...]


class Sender:
    """Sends webhooks. Made and closed by `open_sender`."""

    def __init__(self, settings: WebhookSettings, resolve: Resolve, context: ssl.SSLContext) -> None:
        self._timeout_s = settings.timeout_seconds
        self._plan = lru_cache(PLANS)(partial(_plan, allow_http=settings.allow_http))
        self._pools = Pools(lambda origin: Pool(origin, Guard(settings, resolve), context))

    async def send(self, url: str, headers: Headers, body: bytes) -> Answer:
        """POST `body`, and say what came of it within `timeout_seconds`. Raises nothing but CancelledError.

        Follows no redirect, keeps no cookie, asks no proxy. Where a kept connection turns out to have been closed
        before a byte of the answer came, it is sent once more on a new one: the receiver may get it twice, and knows it
        by its `webhook-id`. Of `headers`, those that frame the message are replaced by ours.
        """
        with outgoing("merchant", "POST", url) as span:
            answer = await self._sent(url, headers, body)
            if answer.status is not None:
                tracing.answered(span, answer.status)
            elif span is not None:
                span.fail(answer.error)
        return answer

    async def _sent(self, url: str, headers: Headers, body: bytes) -> Answer:
        clock = asyncio.get_running_loop().time
        begun, attempt, reply = clock(), Attempt(), _Reply()
        token = ATTEMPT.set(attempt)
        error, is_ours = "", False
        try:
            await self._exchange(url, headers, body, attempt, reply)
        except Exception as e:  # noqa: BLE001 - whatever a stranger's server provokes is an answer, not a failure
            if reply.response is None:
                error, is_ours = fault_of(e, attempt, self._timeout_s)
        finally:
            ATTEMPT.reset(token)
        ms = (clock() - begun) * 1000
        if reply.response is None:
            return Answer(None, ms, error, is_ours=is_ours)
        found = reply.response.headers
        return Answer(
            reply.response.status_code,
            ms,
            error="",
            response=shown_body(reply.raw, found.get("content-encoding", "")),
            retry_after=found.get("retry-after", "")[:LONGEST_HEADER],
            control=found.get("webhook-delivery", "")[:LONGEST_HEADER].lower(),
        )

    async def aclose(self) -> None:
        """Close every connection; a call that is under way ends with an error."""
        if lost := [stream.lost for stream in self._pools.close()]:
            await asyncio.wait(lost, timeout=END_S)

    async def _exchange(self, url: str, headers: Headers, body: bytes, attempt: Attempt, reply: "_Reply") -> None:
        plan = self._plan(url)
        request = _request(plan, headers, body)
        with self._pools.use(plan.origin) as pool:
            async with asyncio.timeout(self._timeout_s) as deadline:
                try:
                    reply.response = response = await _answer(pool, request, attempt)
                    end = asyncio.get_running_loop().time() + BODY_S
                    deadline.reschedule(min(end, deadline.when() or end))
                    async for part in response.aiter_raw():
                        reply.raw.append(part)
                except BaseException as e:
                    pool.is_doubtful = pool.is_doubtful or isinstance(e, asyncio.CancelledError)
                    # httpcore waits while it closes, so a second cancellation would leave the connection open
                    if attempt.stream:
                        attempt.stream.abort()
                    raise


class _Reply:
    """What came so far: the head, and the body as it came off the connection."""

    __slots__ = ("raw", "response")

    def __init__(self) -> None:
        self.response: httpx.Response | None = None
        self.raw: list[bytes] = []


@asynccontextmanager
async def open_sender(settings: WebhookSettings, *, resolve: Resolve | None = None) -> AsyncIterator[Sender]:
    """A sender whose connections are closed at the end, those in use as well.

    `resolve` stands in for the system's resolver in tests. Certificates are checked against certifi's authorities, or
    those of SSL_CERT_FILE or SSL_CERT_DIR where set, which is for merchants in `allowed_networks`.
    """
    sender = Sender(settings, resolve or system_resolve, httpx.create_ssl_context())
    try:
        yield sender
    finally:
        await sender.aclose()


async def _answer(pool: Pool, request: httpx.Request, attempt: Attempt) -> httpx.Response:
    try:
        return await pool.transport.handle_async_request(request)
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
        if not attempt.is_stale:
            raise
    # the server closed it while it was kept
    await pool.transport.drop_idle()
    return await pool.transport.handle_async_request(request)


def _plan(url: str, *, allow_http: bool) -> _Plan:
    try:
        target = check_url(url, allow_http=allow_http)
    except ValueError as e:
        raise Misuse(str(e)) from e
    parsed = httpx.URL(target.url)
    head = ((b"Host", parsed.netloc), (b"Accept-Encoding", b"identity"))
    return _Plan(parsed, (target.scheme, target.host, target.port), head)


def _request(plan: _Plan, headers: Headers, body: bytes) -> httpx.Request:
    raw = [*plan.head, (b"Content-Length", b"%d" % len(body))]
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        key = name.encode("ascii")
        if key.lower() not in _OURS:
            raw.append((key, value.encode("ascii")))
    return httpx.Request("POST", plan.url, headers=raw, stream=httpx.ByteStream(body))
