"""The client against a simulated Pancake: tokens that die, answers that are none, and no token in any word of it."""

import asyncio
import random
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from loguru import logger
from pydantic import SecretStr

from src.clients.pancake.client import TRIES, PancakeClient
from src.deps import Deps, open_deps
from src.errors import PageUnavailable, RateLimited, ServiceError, TokenRejected, Transient
from src.log import configure_logging
from src.settings import PancakeSettings, Settings
from tests.simulators.pancake import VirtualClock, World, running
from tests.simulators.pancake.page import Page
from tests.simulators.pancake.switches import Switches

pytestmark = pytest.mark.anyio

START_S = 1_780_000_000


@dataclass
class Bench:
    """A simulated account, a client of it, and what the client wrote to the log."""

    world: World
    deps: Deps
    log: StringIO
    user_calls: dict[str, dict[str, int]]

    @property
    def client(self) -> PancakeClient:
        return self.deps.pancake

    @property
    def page(self) -> Page:
        return next(iter(self.world.pages.values()))

    @property
    def calls(self) -> int:
        """Page-level calls that reached the simulator."""
        return len(self.page.traffic.accepted) + len(self.page.traffic.rejected)

    @property
    def minted(self) -> int:
        return sum(self.user_calls.get("mint", {}).values())

    def assert_no_token_in(self, text: str) -> None:
        tokens = {self.world.user_token, "wrong-token"}
        for page in self.world.pages.values():
            tokens |= {page.token, *page.superseded}
        shown = [token for token in tokens for form in {token, quote(token, safe="")} if form in text]
        assert shown == []

    async def error(self, kind: type[ServiceError]) -> str:
        """The text of the error a call ends with; neither it, nor its traceback, nor the log shows a token."""
        with pytest.raises(kind) as caught:
            await self.client.tags(self.page.page_id)
        assert type(caught.value) is kind
        self.assert_no_token_in("".join([repr(caught.value), *traceback.format_exception(caught.value)]))
        self.assert_no_token_in(self.log.getvalue())
        return str(caught.value)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full jitter with chance at 0 waits not at all."""
    monkeypatch.setattr(random, "random", lambda: 0.0)


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Every line at the lowest level, libraries' included."""
    stream = StringIO()
    configure_logging("TRACE", "json", stream=stream)
    yield stream
    logger.remove()


@asynccontextmanager
async def bench(
    settings: Settings,
    log: StringIO,
    *,
    token: str | None = "",
    user_token: bool = True,
    pages: int = 1,
    mint: bool = False,
    timeout_s: float = 20.0,
    **switches: Any,
) -> AsyncIterator[Bench]:
    """`token` is what PANCAKE_PAGE_TOKENS has for the first page: empty for the right one, None for nothing."""
    quiet = Switches(rate_limit=0, advance_s_per_call=0.0, token_in_list_pct=0.0)
    quiet.update(switches)
    world = World(pages=pages, customers=20, clock=VirtualClock(START_S), switches=quiet)
    page = next(iter(world.pages.values()))
    async with running(world) as simulator:
        pancake = PancakeSettings(
            base_url=simulator.base_url,
            access_token=SecretStr(world.user_token) if user_token else None,
            page_tokens={} if token is None else {page.page_id: SecretStr(token or page.token)},
            allow_token_minting=mint,
            max_calls_per_second=0,
            timeout_seconds=timeout_s,
        )
        async with open_deps(settings.replace(pancake=pancake)) as deps:
            yield Bench(world, deps, log, simulator.simulator.control.user_calls)


async def test_a_superseded_token_is_looked_up_again(settings: Settings, log: StringIO) -> None:
    """105: the list of pages shows the new one; it is used, stored for all processes, and none is made."""
    async with bench(settings, log, token_in_list_pct=100.0, mint=True) as b:
        await b.client.tags(b.page.page_id)
        b.world.rotate()
        assert await b.client.tags(b.page.page_id)
        assert await b.deps.pages.token(b.page.page_id) == b.page.token
        assert b.minted == 0
        b.assert_no_token_in(log.getvalue())


async def test_a_token_stored_by_another_process_is_taken(settings: Settings, log: StringIO) -> None:
    """105: whoever replaced the token stored it; neither list nor mint is asked."""
    async with bench(settings, log, mint=True) as b:
        await b.client.tags(b.page.page_id)
        b.world.rotate()
        await b.deps.pages.save_token(b.page.page_id, b.page.token)
        assert await b.client.tags(b.page.page_id)
        assert b.user_calls == {}


async def test_a_token_is_made_where_that_is_allowed_once_for_all_calls(settings: Settings, log: StringIO) -> None:
    """Twenty calls of two processes meet 105 at once: one mint, stored, and every call gets its answer."""
    async with bench(settings, log, mint=True) as b, open_deps(b.deps.settings) as other:
        page_id = b.page.page_id
        await asyncio.gather(b.client.tags(page_id), other.pancake.tags(page_id))
        b.world.rotate()
        answers = await asyncio.gather(
            *(client.tags(page_id) for client in (b.client, other.pancake) for _ in range(10))
        )
        assert all(answers)
        assert b.minted == 1
        assert b.page.generation == 3  # the first, the rotated, the minted
        assert await other.pages.token(page_id) == b.page.token
        b.assert_no_token_in(log.getvalue())


@pytest.mark.parametrize("as_401", [False, True], ids=["200", "401"])
async def test_without_leave_to_make_one_the_page_is_refused_with_advice(
    as_401: bool, settings: Settings, log: StringIO
) -> None:
    """105 in either form ends in a line that says which page and what to set; the shop's token is not touched."""
    async with bench(settings, log, auth_as_401=as_401) as b:
        b.world.rotate()
        text = await b.error(TokenRejected)
        assert b.page.page_id in text
        assert "PANCAKE_PAGE_TOKENS" in text
        assert b.minted == 0
        assert b.page.generation == 2


@pytest.mark.parametrize("as_401", [False, True], ids=["200", "401"])
async def test_a_wrong_token_is_refused_with_advice(as_401: bool, settings: Settings, log: StringIO) -> None:
    """102 in either form; without a user token there is nobody else to ask."""
    async with bench(settings, log, token="wrong-token", user_token=False, auth_as_401=as_401) as b:
        assert "its token was refused" in await b.error(TokenRejected)
        assert b.calls == 1


@pytest.mark.parametrize("as_401", [False, True], ids=["200", "401"])
async def test_a_user_token_that_ran_out_is_named(as_401: bool, settings: Settings, log: StringIO) -> None:
    """After its 90 days the line says which setting to renew, and where."""
    async with bench(settings, log, token=None, expire_user_token=True, auth_as_401=as_401) as b:
        text = await b.error(TokenRejected)
        assert "PANCAKE_ACCESS_TOKEN is not valid" in text
        assert "Personal Settings" in text


async def test_a_page_without_subscription_is_refused_alone(settings: Settings, log: StringIO) -> None:
    """122: no other token helps, so none is looked for; other pages answer."""
    async with bench(settings, log, pages=2, token=None, token_in_list_pct=100.0) as b:
        first, second = b.world.pages
        b.world.switches.update({"expire_page_subscription": [first]})
        assert "subscription is over" in await b.error(PageUnavailable)
        assert b.calls == 1
        assert await b.client.tags(second)


@pytest.mark.parametrize(
    ("switches", "kind", "words"),
    [
        ({"html_error_pct": 100.0}, Transient, "a web page came instead of JSON"),
        ({"cut_connection_pct": 100.0}, Transient, "is Pancake reachable?"),
        ({"page_failures": ["*"]}, Transient, "Pancake failed (500)"),
        ({"random_transient_pct": 100.0}, Transient, "Pancake failed"),
        ({"rate_limit": 1, "rate_limit_form": "empty"}, RateLimited, "429"),
        ({"rate_limit": 1, "rate_limit_form": "html"}, RateLimited, "429"),
        ({"rate_limit": 1, "rate_limit_form": "json"}, RateLimited, "429"),
        ({"rate_limit": 1, "rate_limit_form": "body_code"}, RateLimited, "429"),
    ],
    ids=["html", "cut", "500", "any passing failure", "429 empty", "429 html", "429 json", "429 in a 200"],
)
async def test_what_may_pass_is_tried_five_times_then_told(
    switches: dict[str, Any], kind: type[ServiceError], words: str, settings: Settings, log: StringIO
) -> None:
    """A hiccup is not worth a job's try; what stays is an error that names method and path."""
    async with bench(settings, log) as b:
        b.world.switches.update(switches)
        if "rate_limit" in switches:
            await b.client.tags(b.page.page_id)  # the one call that this second has room for
        before = b.calls
        text = await b.error(kind)
        assert words in text
        assert f"GET /api/public_api/v1/pages/{b.page.page_id}/tags" in text or kind is Transient
        assert "/tags" in text
        assert b.calls - before == TRIES


@pytest.mark.parametrize(
    "switches",
    [{"html_error_pct": 30.0}, {"cut_connection_pct": 30.0}, {"random_transient_pct": 30.0}],
    ids=["html", "cut", "any passing failure"],
)
async def test_what_passes_is_never_seen(switches: dict[str, Any], settings: Settings, log: StringIO) -> None:
    """With three calls of ten failing, ten requests in a row get their answers."""
    async with bench(settings, log) as b:
        b.world.switches.update(switches)
        for _ in range(10):
            assert len(await b.client.tags(b.page.page_id)) == 5
        assert b.calls > 10
        b.assert_no_token_in(log.getvalue())


async def test_a_call_that_hangs_ends_at_its_deadline(settings: Settings, log: StringIO) -> None:
    """The deadline is that of the whole call, however slowly the other side goes on talking."""
    async with bench(settings, log, timeout_s=0.1, hang_seconds=30.0, hang_pct=100.0) as b:
        async with asyncio.timeout(5):
            text = await b.error(Transient)
        assert "no answer in 0.1 s" in text
        assert b.calls == TRIES


async def test_an_answer_in_drops_ends_at_the_deadline_too(settings: Settings, log: StringIO) -> None:
    """httpx' own timeout begins anew with each drop."""

    class Drops(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b'{"success": true, "tags": ['
            while True:
                await asyncio.sleep(0.01)
                yield b" "

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=Drops())

    pancake = PancakeSettings(page_tokens={"1": SecretStr("wrong-token")}, max_calls_per_second=0, timeout_seconds=0.1)
    async with open_deps(settings.replace(pancake=pancake), transport=Transport()) as deps, asyncio.timeout(5):
        with pytest.raises(Transient, match=r"no answer in 0\.1 s"):
            await deps.pancake.tags("1")


async def test_nobody_there_is_said_so(settings: Settings, log: StringIO) -> None:
    """A refused connection names the address that was tried, and no token."""
    pancake = PancakeSettings(
        base_url="http://127.0.0.1:9/api", page_tokens={"1": SecretStr("wrong-token")}, max_calls_per_second=0
    )
    async with open_deps(settings.replace(pancake=pancake)) as deps:
        with pytest.raises(Transient, match=r"ConnectError at http://127\.0\.0\.1:9/api") as caught:
            await deps.pancake.tags("1")
    assert "wrong-token" not in "".join(traceback.format_exception(caught.value)) + log.getvalue()


@pytest.mark.parametrize("shape", ["categorized", "flat"])
async def test_pages_are_listed_in_both_shapes(shape: str, settings: Settings, log: StringIO) -> None:
    """The documented list and the measured one give the same pages."""
    async with bench(settings, log, pages=4, pages_shape=shape) as b:
        listed = [page for page, _ in await b.client.pages()]
        assert [page.id for page in listed] == list(b.world.pages)
        assert [page.name for page in listed] == [page.facts.name for page in b.world.pages.values()]
        assert all(page.is_activated for page in listed)
        b.assert_no_token_in(log.getvalue())


async def test_pages_that_are_not_activated_are_known_as_such(settings: Settings, log: StringIO) -> None:
    """Hidden and inactivated pages are listed but not in use; those without permission are not ours."""
    async with bench(settings, log, pages=4) as b:
        categories = ("activated", "hidden", "inactivated", "nopermission")
        for page, category in zip(b.world.pages.values(), categories, strict=True):
            page.category = category
        listed = {page.id: page.is_activated for page, _ in await b.client.pages()}
        assert list(listed.values()) == [True, False, False]
        assert list(listed) == list(b.world.pages)[:3]


async def test_customers_come_newest_first_with_their_total(settings: Settings, log: StringIO) -> None:
    """And with the second of Pancake's own clock up to which the answer certainly knew."""
    async with bench(settings, log, clock_skew_s=90.0) as b:
        answer = await b.client.page_customers(b.page.page_id, since=0, until=START_S)
        stamps = [row["updated_at"] for row in answer.rows]
        assert stamps == sorted(stamps, reverse=True)
        assert answer.total == len(answer.rows) == 20
        assert START_S + 80 <= answer.as_of <= START_S + 90
        assert abs(b.client.server_now() - START_S - 90) <= 2
