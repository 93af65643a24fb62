"""What we need is looked at: changes are told once, a blip is not, and no secret of an address gets out."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from src.clients import mongo
from src.clients.probe import status_of
from src.clients.rate_limit import RateLimiter
from src.deps import Deps, open_deps
from src.engine.inline import run_to_end
from src.errors import PageUnavailable, Permanent, RateLimited, TokenRejected, Transient
from src.jobs import ALL_JOBS
from src.monitoring import away
from src.monitoring.away import look_or_tell
from src.monitoring.health import look_around, notice_key
from src.settings import AlertSettings, MonitorSettings, PancakeSettings, Settings
from tests.harness.alerts import START, Hands, Post
from tests.simulators.channels import Fault, Provider, running
from tests.simulators.channels.provider import Call

pytestmark = pytest.mark.anyio

OFFICE = "telegram:-9"
GONE = Fault(503)


class Site(Provider):
    """A shop's site: `/moved` redirects, `/closed` refuses who has no right, all else is well."""

    def answer(self, call: Call) -> web.Response:
        if call.path == "/moved":
            return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})
        if call.path == "/closed":
            return web.Response(status=204 if "Authorization" in call.headers else 401)
        return web.Response(text="x" * 100_000)


@dataclass
class Checked(Post):
    """Channels that say how they are."""

    findings: list[tuple[str, bool, str]] = field(default_factory=list)
    checks: int = 0

    async def check(self) -> list[tuple[str, bool, str]]:
        self.checks += 1
        return self.findings


@dataclass
class Lookout:
    """Everything, looked at when a test says so, at the time it says."""

    deps: Deps
    post: Checked
    time: list[float] = field(default_factory=lambda: [float(START)])

    async def look(self, minutes: int = 1) -> list[str]:
        """Look once a minute; returns the titles of what was told in the office."""
        before = len(self.post.sent)
        for _ in range(minutes):
            self.time[0] += 60.0
            await ALL_JOBS["check_health"].run(self.deps)
        for to in await self.deps.outbox.addresses(self.deps.now()):
            await run_to_end(ALL_JOBS, self.deps, "send_alerts", {"to": to}, max_tries=1)
        return [note.title for to, note in self.post.sent[before:] if to == OFFICE]

    async def states(self) -> dict[str, str]:
        return {name: health.state for name, health in (await self.deps.health_checks.all()).items()}

    def watch(self, urls: str, **more: Any) -> None:
        monitor = MonitorSettings(_env_file=None, health_urls=urls, health_timeout_seconds=0.3, **more)
        self.deps = replace(self.deps, settings=self.deps.settings.replace(monitor=monitor))


@pytest.fixture
async def lookout(settings: Settings) -> AsyncIterator[Lookout]:
    alerts = AlertSettings(_env_file=None, operations_to=(OFFICE,), language="en")
    settings = settings.replace(alerts=alerts, pancake=PancakeSettings(max_calls_per_second=0))
    async with open_deps(settings) as deps:
        found = Lookout(deps, Checked())
        found.deps = replace(deps, hands=Hands(), channels=found.post, now=lambda: found.time[0])  # type: ignore[arg-type]
        yield found


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running(Site()) as server:
        yield server


async def test_all_is_well(lookout: Lookout, site: Site) -> None:
    """Our own servers, and addresses: 2xx and 3xx are well, a redirect is not followed."""
    lookout.watch(f"shop={site.url}/,moved={site.url}/moved,login={site.url}/closed#401")
    assert await lookout.look() == []
    assert await lookout.states() == dict.fromkeys(("mongodb", "redis", "url:login", "url:moved", "url:shop"), "up")


async def test_only_the_third_failure_is_told_and_the_return_once(lookout: Lookout, site: Site) -> None:
    lookout.watch(f"shop={site.url}/")
    await lookout.look()
    site.fail(GONE, GONE)
    assert await lookout.look(3) == []
    site.fail(GONE, GONE, GONE, GONE)
    assert await lookout.look(3) == ["🔔 shop does not work: it answers with 503"]
    assert await lookout.look() == []
    assert await lookout.look() == ["✅ shop works again"]
    assert await lookout.look(2) == []


async def test_several_looks_must_be_well_where_that_is_set(lookout: Lookout, site: Site) -> None:
    lookout.watch(f"shop={site.url}/", health_failures=1, health_recoveries=2)
    site.fail(GONE)
    assert await lookout.look() == ["🔔 shop does not work: it answers with 503"]
    assert await lookout.look() == []
    assert await lookout.look() == ["✅ shop works again"]


async def test_another_worker_goes_on_where_the_last_one_stopped(lookout: Lookout, site: Site) -> None:
    """Its memory is in MongoDB; many at once tell no more than one does."""
    lookout.watch(f"shop={site.url}/", health_failures=1)
    site.fail(*[GONE] * 6)
    looked = await asyncio.gather(*(look_around(lookout.deps) for _ in range(5)))
    assert sum(each.told for each in looked) >= 1
    assert await lookout.look() == ["🔔 shop does not work: it answers with 503"]
    assert await lookout.deps.database["alerts"].count_documents({}) == 1


async def test_what_is_wrong_is_said_without_the_address(lookout: Lookout, site: Site) -> None:
    """A path or a query may hold a token."""
    lookout.watch(f"shop={site.url}/ping?token=s3cret", health_failures=1)
    for fault, words in (
        (Fault(silence="hang"), "no answer in 0.3 s"),
        (Fault(silence="cut"), "the connection was cut"),
        (Fault(404), "it answers with 404"),
    ):
        site.fail(fault)
        assert await lookout.look() == [f"🔔 shop does not work: {words}"]
        assert "s3cret" not in str(await lookout.deps.database["health_checks"].find_one({"name": "url:shop"}))
        assert await lookout.look() == ["✅ shop works again"]


async def test_checks_run_side_by_side(lookout: Lookout, site: Site) -> None:
    """Ten that hang cost no more time than one: the looks of a minute end within it."""
    lookout.watch(",".join(f"n{number}={site.url}/{number}" for number in range(10)), health_failures=1)
    site.fail(*[Fault(silence="hang")] * 10)
    async with asyncio.timeout(2.5):
        (told,) = await lookout.look()
    assert told == "🔔 10 notices"


async def test_what_is_no_longer_set_up_ends_without_a_word(lookout: Lookout, site: Site) -> None:
    """An alert about it would stay open for ever; that it works again nobody knows."""
    lookout.watch(f"shop={site.url}/", health_failures=1)
    site.fail(GONE)
    await lookout.look()
    lookout.watch("")
    assert await lookout.look(61) == []
    assert "url:shop" not in await lookout.states()
    assert await lookout.deps.alerts.by_key([notice_key("url:shop")]) == {}


async def test_channels_are_asked_every_five_minutes(lookout: Lookout) -> None:
    """Who is told that Telegram does not work is told otherwise than by Telegram."""
    lookout.watch("", health_failures=1)
    lookout.post.findings = [("telegram", True, "bot @shop_bot"), ("slack", True, "not checkable")]
    assert await lookout.look(11) == []
    assert lookout.post.checks == 3
    lookout.post.findings = [("telegram", False, "Telegram refuses 123456:" + "T" * 35)]
    assert await lookout.look(5) == []
    (notice,) = (await lookout.deps.alerts.by_key([notice_key("channel:telegram")])).values()
    assert notice.facts == {"name": "telegram", "error": "Telegram refuses 123456:***"}
    assert [to for to, _ in lookout.post.sent if to == OFFICE] == []


async def test_pancake_is_asked_for_the_tags_of_one_page(lookout: Lookout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a token to ask with; nothing is said of it before there is a page."""
    lookout.watch("", health_failures=1)
    await lookout.look()
    assert "pancake" not in await lookout.states()
    pancake = PancakeSettings(access_token=SecretStr("u"), max_calls_per_second=0)
    lookout.deps = replace(lookout.deps, settings=lookout.deps.settings.replace(pancake=pancake))
    await lookout.look()
    assert "pancake" not in await lookout.states()
    await lookout.deps.pages.upsert_named(["100"])
    answers: list[Exception | None] = [
        *(None, RateLimited("429"), PageUnavailable("this page's subscription is over")),  # these are answers
        TokenRejected("PANCAKE_ACCESS_TOKEN is not valid"),
        *(None, Transient("ConnectError; is Pancake reachable?"), None),
    ]

    async def tags(page_id: str, *, tries: int) -> list[Any]:
        assert (page_id, tries) == ("100", 1)
        error = answers.pop(0)
        if error is not None:
            raise error
        return []

    monkeypatch.setattr(lookout.deps.pancake, "tags", tags)
    told = [each for _ in range(7) for each in await lookout.look()]
    assert told == [
        "🚨 pancake does not work: PANCAKE_ACCESS_TOKEN is not valid",
        "✅ pancake works again",
        "🚨 pancake does not work: ConnectError; is Pancake reachable?",
        "✅ pancake works again",
    ]


async def test_a_page_that_is_held_back_says_nothing_of_pancake(lookout: Lookout) -> None:
    """A long backfill, or a pause Pancake asked for: the call would leave later than the look may take."""
    lookout.watch("", health_failures=1)
    pancake = PancakeSettings(access_token=SecretStr("u"))
    limiter = RateLimiter(lookout.deps.redis, 5.0)
    lookout.deps = replace(lookout.deps, settings=lookout.deps.settings.replace(pancake=pancake), limiter=limiter)
    await lookout.deps.pages.upsert_named(["100"])
    permit = await limiter.acquire("100")
    for retry_after_s in (2.0, 600.0):
        await limiter.refused("100", permit, retry_after_s)
        assert await lookout.look() == []
        assert "pancake" not in await lookout.states()


class TestMongoIsAway:
    """Nothing can be stored or looked up; who looks after the service is told all the same."""

    @pytest.fixture
    def apart(self, lookout: Lookout) -> Lookout:
        """The same, with its health checks in a database that does not answer."""
        checks = lookout.deps.health_checks.all
        self.is_away = True

        async def all_() -> Any:
            if self.is_away:
                raise mongo.OUTAGES[0]("mongod: connection refused")
            return await checks()

        lookout.deps.health_checks.all = all_  # type: ignore[method-assign]
        lookout.watch("")
        return lookout

    async def test_it_is_told_once_and_its_return_once(self, apart: Lookout) -> None:
        """Straight through the channels, at the third look; no job fails for it."""
        await self.looks(apart, 2)
        assert apart.post.sent == []
        await self.looks(apart, 5)
        ((to, note),) = apart.post.sent
        assert (to, note.title[:23]) == (OFFICE, "🚨 MongoDB does not work")
        self.is_away = False
        assert await apart.look() == ["ℹ️ MongoDB works again"]
        assert await apart.look(2) == []

    async def test_a_blip_is_not_told(self, apart: Lookout) -> None:
        for _ in range(3):
            self.is_away = True
            await self.looks(apart, 2)
            self.is_away = False
            await self.looks(apart, 1)
        assert apart.post.sent == []

    async def test_where_nobody_was_reached_the_next_look_tells(self, apart: Lookout) -> None:
        apart.post.faults[OFFICE] = [Transient("Telegram: it cannot be reached; nothing was sent")]
        await self.looks(apart, 3)
        assert apart.post.sent == []
        await self.looks(apart, 1)
        assert [to for to, _ in apart.post.sent] == [OFFICE]
        assert await apart.deps.redis.ttl(away.TOLD) > 0

    @staticmethod
    async def looks(lookout: Lookout, times: int) -> None:
        for _ in range(times):
            lookout.time[0] += 60.0
            await look_or_tell(lookout.deps)


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://127.0.0.1:1/?token=s3cret", "cannot be reached"), ("http://[::1", "cannot be read")],
)
async def test_a_probe_says_nothing_of_the_address(url: str, words: str) -> None:
    with pytest.raises((Transient, Permanent), match=words) as failed:
        await status_of(url, 1.0)
    assert "s3cret" not in str(failed.value)
    assert failed.value.__context__ is None or failed.value.__suppress_context__


async def test_a_name_and_a_password_in_an_address_are_used(site: Site) -> None:
    assert await status_of(f"{site.url.replace('//', '//user:p%40ss@')}/closed", 1.0) == 204
    assert site.calls[-1].headers["Authorization"] == "Basic dXNlcjpwQHNz"
