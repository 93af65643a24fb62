"""`POST /hooks/pancake/{secret}`: Pancake's own webhooks, answered 200 once they are stored, and only then.

Pancake signs nothing, so the address is the secret. It suspends an address that fails too often (over 80 % and 300
requests in 30 minutes) until somebody switches it on again by hand; so what is not for us is refused with a 200.
"""

import asyncio
import hmac
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from loguru import logger
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .. import tracing
from ..errors import Misuse, Transient
from ..rules.pancake_event import page_of
from ..sync.known_pages import KnownPages
from .answers import as_json, problem
from .intake import Intake

MOST_BYTES = 256 * 1024
BODY_S = 10.0  # for a body to arrive
TELL_EVERY_S = 600.0
AGAIN = {"Retry-After": "2"}
ROUTE = "/hooks/pancake/{secret}"


class _TooLarge(Exception):
    pass


class Strangers:
    """Counts events of pages that are not ours, and tells of them now and then: they may come by the thousand."""

    def __init__(self) -> None:
        self.count = 0
        self._told = 0
        self._told_at = -TELL_EVERY_S

    def met(self, page_id: str) -> None:
        """One more."""
        self.count += 1
        if time.monotonic() - self._told_at >= TELL_EVERY_S:
            logger.warning(
                "events of pages that are not ours were not taken", page_id=page_id[:64], events=self.count - self._told
            )
            self._told, self._told_at = self.count, time.monotonic()


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the endpoint uses. `secret`: as UTF-8; None where none is set, and then nobody gets in."""

    secret: bytes | None
    pages: KnownPages
    intake: Intake
    strangers: Strangers

    def lets_in(self, secret: str) -> bool:
        """Whether it is the secret; takes the same time for every wrong one of a length."""
        return self.secret is not None and hmac.compare_digest(secret.encode(), self.secret)


async def pancake_hook(scope: Scope, receive: Receive, send: Send) -> None:
    """The endpoint as an ASGI app: below `Hooks` nothing of the request is looked at before the secret is."""
    request = Request(scope, receive)
    try:
        answer = await _answer(request)
    except ClientDisconnect:
        return
    await answer(scope, receive, send)


async def _answer(request: Request) -> Response:
    hooks: Hooks = request.state.hooks
    if not hooks.lets_in(request.path_params["secret"]):
        return problem(HTTPStatus.NOT_FOUND, "there is nothing here")
    if request.method != "POST":
        return problem(HTTPStatus.METHOD_NOT_ALLOWED, "events are posted", headers={"Allow": "POST"})
    with _traced(request) as span:
        answer = await _judged(hooks, request)
        tracing.answered(span, answer.status_code, faults_from=HTTPStatus.INTERNAL_SERVER_ERROR)
        return answer


@contextmanager
def _traced(request: Request) -> Iterator[tracing.Span | None]:
    """The span of a request that was let in, below its caller's; the secret stays out of it."""
    above = tracing.given(request.headers.get("traceparent", ""))
    about: dict[str, tracing.Value] = {"http.request.method": request.method, "http.route": ROUTE}
    span = tracing.begin(f"{request.method} {ROUTE}", "server", parent=above, attributes=about)
    token = tracing.current.set(span.traceparent if span else tracing.decided(above))
    try:
        yield span
    except BaseException as e:
        if span:
            span.end(type(e).__name__)
        raise
    else:
        if span:
            span.end()
    finally:
        tracing.current.reset(token)


async def _judged(hooks: Hooks, request: Request) -> Response:
    received_at = time.time()
    try:
        async with asyncio.timeout(BODY_S):
            event = orjson.loads(await _body(request))
    except _TooLarge:
        return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"an event is at most {MOST_BYTES} bytes long")
    except TimeoutError:
        return problem(HTTPStatus.REQUEST_TIMEOUT, f"the event did not arrive within {BODY_S:g} s")
    except orjson.JSONDecodeError:
        return problem(HTTPStatus.BAD_REQUEST, "the body is no JSON")
    if not isinstance(event, dict):
        return problem(HTTPStatus.BAD_REQUEST, "an event is a JSON object")
    return await _taken(hooks, event, received_at)


async def _taken(hooks: Hooks, event: dict[str, Any], received_at: float) -> Response:
    page_id, names = page_of(event), hooks.pages.last()
    # where the list was never read, the job decides; an event without a page is for it to judge, too
    if page_id is not None and names is not None and names.ours(page_id) is None:
        hooks.strangers.met(page_id)
        return as_json({"accepted": False, "reason": "the page is not one of ours"})
    try:
        await hooks.intake.take(event, received_at)
    except Transient:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "events cannot be stored now; send it again", headers=AGAIN)
    except Misuse:
        return problem(HTTPStatus.BAD_REQUEST, "the event is nested too deep, or too large as a whole")
    return as_json({"accepted": True})


async def _body(request: Request) -> bytes:
    """The body, read no further than `MOST_BYTES`, whatever length it claims or whether it claims one."""
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed) > MOST_BYTES:
        raise _TooLarge
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise _TooLarge
    return bytes(body)
