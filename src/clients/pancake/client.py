"""The endpoints we read, one method each: paced per page, retried with jitter, typed, no token in any error."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from ... import tracing
from ...errors import Malformed, RateLimited, TokenRejected, Transient
from ...rules.retry import wait_s
from ...settings import PancakeSettings
from ..outgoing import outgoing
from ..rate_limit import Permit, RateLimiter
from . import models
from .counted import counted
from .replies import body_of
from .tokens import PageTokens, TokenStore

TRIES = 5
TOKENS = 4  # that of the settings, the stored, the listed and a minted one
CONNECT_S = 5.0
LONGEST_HERE_S = 8.0  # between two tries of one call
USER_KEY = "user"  # the rate limit's key for calls that concern no single page
CUSTOMERS_PER_CALL = 100
POSTS_PER_CALL = 30
CONVERSATIONS_PER_CALL = 60
MESSAGES_PER_CALL = 30

M = TypeVar("M")
Params = Mapping[str, str | int | None]


@dataclass(frozen=True, slots=True)
class Listing:
    """One answer of a list.

    `rows` are raw objects, not yet validated. `total` is what the answer says, or None. `as_of` is the last Unix
    second the answer certainly knew of, by Pancake's own clock; `asked_at` is when we asked, by ours.
    """

    rows: list[Any]
    total: int | None
    as_of: int
    asked_at: datetime


class PancakeClient:
    """Reads Pancake. Takes an open httpx client and closes nothing."""

    def __init__(self, http: httpx.AsyncClient, settings: PancakeSettings, limiter: RateLimiter) -> None:
        self._http = http
        self._settings = settings
        self._limiter = limiter
        self._skew_s = 0.0  # Pancake's clock minus ours, by the last answer
        self.tokens: PageTokens

    def server_now(self) -> int:
        """The present Unix second by Pancake's clock, as far as its answers told; ours before the first."""
        return int(time.time() + self._skew_s)

    async def pages(self) -> list[tuple[models.Page, models.Raw]]:
        """Every page the user token sees, each with its raw object; unreadable entries are left out.

        Documented as `{"pages": [...]}`, measured as `{"categorized": {"activated": [...], ...}}`; both are read.
        """
        body = (await self._user_call("GET", "/v1/pages")).body
        return list(_pages_of(body))

    async def page_customers(
        self,
        page_id: str,
        *,
        since: int,
        until: int,
        page_number: int = 1,
        order_by: Literal["updated_at", "inserted_at"] = "updated_at",
    ) -> Listing:
        """Customers of [since, until], newest first, 100 a call. Pancake's own default order is `inserted_at`."""
        params: Params = {
            "since": since,
            "until": until,
            "page_number": page_number,
            "page_size": CUSTOMERS_PER_CALL,
            "order_by": order_by,
        }
        return await self._list(page_id, "/page_customers", "customers", params)

    async def conversations(
        self, page_id: str, *, since: int, until: int, after_id: str | None = None, order_by: str = "updated_at"
    ) -> Listing:
        """Conversations (v2) of [since, until], newest first, 60 a call; `after_id` is the last one already seen."""
        params: Params = {"since": since, "until": until, "order_by": order_by, "last_conversation_id": after_id}
        return await self._list(page_id, "/conversations", "conversations", params, version=2)

    async def messages(self, page_id: str, conversation_id: str, *, skip_newest: int = 0) -> Listing:
        """Up to 30 messages before the newest `skip_newest`; in either order, so sort them yourself."""
        path = f"/conversations/{_path(conversation_id)}/messages"
        return await self._list(page_id, path, "messages", {"current_count": skip_newest or None})

    async def posts(self, page_id: str, *, since: int, until: int, page_number: int = 1) -> Listing:
        """Posts inserted in [since, until], newest first, 30 a call."""
        params: Params = {"since": since, "until": until, "page_number": page_number, "page_size": POSTS_PER_CALL}
        return await self._list(page_id, "/posts", "posts", params)

    async def users(self, page_id: str) -> list[models.User]:
        """The page's staff, without those who were removed."""
        reply = await self._page_call(page_id, "/users", {})
        return _typed(models.User, reply.body.get("users"), f"users of page {page_id}")

    async def tags(self, page_id: str, *, tries: int = TRIES) -> list[models.Tag]:
        """The page's tags; the cheapest call there is, so also the check whether a page answers."""
        reply = await self._page_call(page_id, "/tags", {}, tries=tries)
        return _typed(models.Tag, reply.body.get("tags"), f"tags of page {page_id}")

    async def mint_page_token(self, page_id: str) -> str:
        """Make a new page token. It kills the old one; call it only through `PageTokens`."""
        path = f"/v1/pages/{_path(page_id)}/generate_page_access_token"
        token = (await self._user_call("POST", path, tries=1)).body.get("page_access_token")
        if not isinstance(token, str) or not token:
            raise Malformed(f"POST {path}: no page_access_token in the answer")
        return token

    async def listed_token(self, page_id: str) -> str | None:
        """The page's token as list-pages shows it, which it does for some pages only."""
        for page, _ in await self.pages():
            if page.id == page_id:
                return page.settings.page_access_token if page.settings else None
        return None

    async def _list(self, page_id: str, path: str, key: str, params: Params, *, version: int = 1) -> Listing:
        reply = await self._page_call(page_id, path, params, version=version)
        rows = reply.body.get(key)
        if not isinstance(rows, list):
            raise Malformed(f"GET {path} of page {page_id}: no list of {key} in the answer")
        total = reply.body.get("total")
        return Listing(
            rows=rows, total=total if isinstance(total, int) else None, as_of=reply.as_of, asked_at=reply.asked_at
        )

    async def _page_call(
        self, page_id: str, path: str, params: Params, *, version: int = 1, tries: int = TRIES
    ) -> "_Reply":
        token = await self.tokens.current(page_id)
        full_path = f"/public_api/v{version}/pages/{_path(page_id)}{path}"
        for _ in range(TOKENS):
            try:
                return await self._call(page_id, "GET", full_path, {**params, "page_access_token": token}, tries=tries)
            except TokenRejected:
                token = await self.tokens.after_refusal(page_id, token)
        raise TokenRejected(f"GET {full_path}: {TOKENS} page tokens were refused, a new one among them")

    async def _user_call(self, method: str, path: str, *, tries: int = TRIES) -> "_Reply":
        token = self._settings.access_token
        if token is None:
            raise TokenRejected("no user token: set PANCAKE_ACCESS_TOKEN (Pancake: Account -> Personal Settings)")
        try:
            return await self._call(USER_KEY, method, path, {"access_token": token.get_secret_value()}, tries=tries)
        except TokenRejected as e:
            raise TokenRejected(
                f"{e}: PANCAKE_ACCESS_TOKEN is not valid (any more); take a new one from Account -> Personal Settings"
            ) from e

    async def _call(self, key: str, method: str, path: str, params: Params, *, tries: int = TRIES) -> "_Reply":
        for attempt in range(1, tries + 1):
            permit = await self._limiter.acquire(key)
            try:
                with counted(path):
                    return await self._send(method, path, params)
            except Transient as e:
                await self._before_next_try(e, key, permit, attempt, last=attempt == tries)
        raise AssertionError("unreachable")

    async def _before_next_try(
        self, e: Transient, key: str, permit: Permit | None, attempt: int, *, last: bool
    ) -> None:
        if isinstance(e, RateLimited):
            await self._limiter.refused(key, permit, e.retry_after_s)
        if last or (e.retry_after_s or 0) > LONGEST_HERE_S:
            raise e  # a long pause is the job's to take, not to be slept away inside a call
        if not (isinstance(e, RateLimited) and permit):  # else the limiter holds the whole page back
            await asyncio.sleep(wait_s(attempt, random.random, hint_s=e.retry_after_s, cap_s=LONGEST_HERE_S))

    async def _send(self, method: str, path: str, params: Params) -> "_Reply":
        """One call, and its answer as it is to be understood."""
        asked_at, started = time.time(), time.monotonic()
        with outgoing(f"Pancake {path.rpartition('/')[2]}", method, self._settings.base_url) as span:
            response = await self._answer(method, path, params)
            elapsed_s = time.monotonic() - started
            tracing.answered(span, response.status_code)
            body = body_of(response)
        return _Reply(body, self._as_of(response, asked_at, elapsed_s), datetime.fromtimestamp(asked_at, UTC))

    async def _answer(self, method: str, path: str, params: Params) -> httpx.Response:
        """The only place that touches the network."""
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):  # httpx' own restarts with each chunk
                return await self._http.request(
                    method, path, params={name: value for name, value in params.items() if value is not None}
                )
        except TimeoutError as e:
            raise Transient(f"{method} {path}: no answer in {self._settings.timeout_seconds:g} s") from e
        except httpx.HTTPError as e:
            # `from None`: the text of httpx' error may hold the URL, and the URL the token
            raise Transient(
                f"{method} {path}: {type(e).__name__} at {self._settings.base_url}; is Pancake reachable?"
            ) from None

    def _as_of(self, response: httpx.Response, asked_at: float, elapsed_s: float) -> int:
        """By Pancake's `Date` where there is one, less the time the answer took: it is stamped when it leaves."""
        try:
            date = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return int(asked_at)
        self._skew_s = date - (asked_at + elapsed_s)
        return int(date - elapsed_s)


@dataclass(frozen=True, slots=True)
class _Reply:
    body: dict[str, Any]
    as_of: int
    asked_at: datetime


@asynccontextmanager
async def open_pancake(
    settings: PancakeSettings,
    limiter: RateLimiter,
    store: TokenStore,
    lock: Callable[[str], AbstractAsyncContextManager[object]],
    *,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[PancakeClient]:
    """A client with its page tokens wired. `transport` is the test seam; production leaves it None."""
    async with httpx.AsyncClient(
        base_url=settings.base_url,
        timeout=httpx.Timeout(settings.timeout_seconds, connect=CONNECT_S),
        limits=httpx.Limits(max_connections=200, max_keepalive_connections=100),
        transport=transport,
    ) as http:
        client = PancakeClient(http, settings, limiter)
        has_user_token = settings.access_token is not None
        client.tokens = PageTokens(
            settings.page_tokens,
            store,
            listed=client.listed_token if has_user_token else None,
            mint=client.mint_page_token if has_user_token and settings.allow_token_minting else None,
            lock=lock,
        )
        yield client


def _path(part: str) -> str:
    return quote(part, safe=":@")  # ids such as tt_0:1:.. were measured to work with a raw colon


def _pages_of(body: dict[str, Any]) -> list[tuple[models.Page, models.Raw]]:
    categorized = body.get("categorized")
    if isinstance(categorized, dict):
        groups = [(name == "activated", categorized.get(name)) for name in ("activated", "hidden", "inactivated")]
    else:
        groups = [(True, body.get("pages", body.get("data")))]
    if not isinstance(groups[0][1], list):
        raise Malformed("GET /v1/pages: no list of pages in the answer")
    found = []
    for activated, rows in groups:
        for raw in rows if isinstance(rows, list) else ():
            try:
                page = models.Page.model_validate(raw)
            except ValidationError:
                continue
            found.append((page.model_copy(update={"is_activated": activated and page.is_activated}), raw))
    return found


def _typed(model: type[M], rows: object, what: str) -> list[M]:
    try:
        return TypeAdapter(list[model]).validate_python(rows)  # type: ignore[valid-type]
    except ValidationError as e:
        raise Malformed(f"{what}: {e.error_count()} unreadable fields in the answer") from e
