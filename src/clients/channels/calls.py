"""One HTTP call to a provider: one deadline for all of it, no redirect, no proxy, and no address in any word about it.

Addresses of channels are secrets (Telegram's token and Slack's key stand in the path), so httpx' client, which logs
them, is left out, and its errors, which know them, are replaced by ours.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson

from ... import tracing
from ...errors import Permanent, Transient
from ...rules.delivery import held_s
from ..outgoing import outgoing
from .note import Unsure

LONGEST_ANSWER = 256 * 1024  # bytes; what comes after is not read
CONNECTIONS = 20  # to one provider at once
KEPT_S = 5.0  # idle connections: one that the provider closes just then leaves open whether a message arrived
TOO_MANY, SERVER_ERROR, GATEWAY_FAULTS = 429, 500, (502, 504)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `retry_after_s`: what the provider asks for, or None."""

    status: int
    body: bytes
    retry_after_s: float | None = None

    @property
    def text(self) -> str:
        """The body as text, for the short words that Slack answers with."""
        return self.body.decode(errors="replace")

    def json(self) -> dict[str, Any]:
        """The body as an object; empty where it is none."""
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}


class Caller:
    """Calls one provider. Closed by who made it."""

    def __init__(self, name: str, timeout_s: float, context: Callable[[], ssl.SSLContext]) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._context = context  # reading the authorities takes a while: not before there is something to send
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def post(
        self,
        url: str,
        *,
        json: object = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        is_message: bool = True,
    ) -> Answer:
        """Send `json` or `form`, and return whatever came back.

        Raises Transient where nothing was sent, and Unsure where a message was, but no whole answer came.
        """
        if form is not None:
            content, kind = urlencode(form).encode(), "application/x-www-form-urlencoded"
        else:
            content, kind = orjson.dumps(json), "application/json"
        stage = _Stage(counts=is_message)
        return await self._call("POST", url, {"Content-Type": kind, **(headers or {})}, content, stage)

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask, and return whatever came back. Raises Transient."""
        return await self._call("GET", url, headers or {}, b"", _Stage(counts=False))

    async def aclose(self) -> None:
        """Close the connections."""
        if self._transport is not None:
            await self._transport.aclose()

    async def _call(self, method: str, url: str, headers: Mapping[str, str], content: bytes, stage: "_Stage") -> Answer:
        try:
            with outgoing(self._name, method, url) as span:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._exchange(_request(method, url, headers, content, stage))
                tracing.answered(span, answer.status)
                return answer
        except TimeoutError:
            words = f"no answer in {self._timeout_s:g} s"
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeError):
            raise Permanent(f"{self._name}: its address, or a token in a header, cannot be sent as it is") from None
        except httpx.TransportError as e:
            words = _in_words(e)
        # outside of the handlers: the error of httpx must not come along as the context of ours
        if stage.is_sent:
            raise Unsure(f"{self._name}: {words}; the message may have arrived")
        raise Transient(f"{self._name}: {words}; nothing was sent")

    async def _exchange(self, request: httpx.Request) -> Answer:
        if self._transport is None:
            limits = httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=KEPT_S)
            self._transport = httpx.AsyncHTTPTransport(verify=self._context(), trust_env=False, limits=limits)
        response = await self._transport.handle_async_request(request)
        try:
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) >= LONGEST_ANSWER:
                    break
        finally:
            await response.aclose()
        asked = held_s(response.headers.get("retry-after", ""), datetime.now(UTC))
        return Answer(response.status_code, bytes(body), asked or None)

    def judge(self, answer: Answer, advice: str) -> None:
        """Raise what every provider means alike: 429, 3xx, 5xx and a missing page; pass everything else.

        `advice`: what to do where there is nobody of that name. A gateway that gave up may have handed it on.
        """
        status = answer.status
        if status == TOO_MANY:
            raise self.too_many(answer.retry_after_s)
        if status in GATEWAY_FAULTS:
            raise Unsure(f"{self._name}: its gateway gave up ({status}); the message may have arrived")
        if status >= SERVER_ERROR:
            raise Transient(f"{self._name}: it failed ({status})", retry_after_s=answer.retry_after_s)
        if httpx.codes.is_redirect(status):
            raise Permanent(f"{self._name}: it answered with a redirect ({status}), which is not followed; {advice}")

    def too_many(self, retry_after_s: float | None) -> Transient:
        """The error for a refusal because of volume."""
        asked = retry_after_s is not None
        return Transient(f"{self._name}: too many messages (429)", retry_after_s=retry_after_s, is_exact=asked)


class _Stage:
    """How far a call came. `counts`: it carries a message, which is sent or not."""

    def __init__(self, *, counts: bool) -> None:
        self.is_sent = False
        self._counts = counts

    async def note(self, event: str, _info: Mapping[str, Any]) -> None:
        """Called by httpcore; from the first byte of the body on, the provider may act on it."""
        if event.endswith("send_request_body.started"):
            self.is_sent = self._counts


def _request(method: str, url: str, headers: Mapping[str, str], content: bytes, stage: _Stage) -> httpx.Request:
    ours = {"Accept-Encoding": "identity", "User-Agent": "folkform-worker"}
    return httpx.Request(
        method, url, headers={**ours, **headers}, content=content or None, extensions={"trace": stage.note}
    )


def _in_words(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectError):
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return "its TLS certificate is not valid"
        return "it cannot be reached"
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return "the connection was cut"
    return f"the call failed ({type(error).__name__})"
