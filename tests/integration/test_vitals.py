"""What a worker tells of itself: metrics, health while all is well and while it is not, and what systemd hears."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import orjson
import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from redis.asyncio import Redis

from scripts._process import free_port
from src import meters
from src.catalog import CATALOG
from src.clients.merchants.gate import GATE
from src.clients.mongo import open_database
from src.clients.pancake.counted import counted
from src.clients.rate_limit import RateLimiter
from src.clients.redis import connect
from src.deps import Deps
from src.engine.metrics import RUNS
from src.engine.queue import Queue
from src.monitoring.gauges import MOST_PAGES, STALE_S, Gauges
from src.monitoring.vitals import BEAT_S, Pulse, Vitals, vitals
from src.settings import PancakeSettings, RedisSettings
from src.store.pages import Pages
from src.store.run_document import Run
from src.store.webhook_endpoints import Endpoint
from tests.harness.lanes import with_worker
from tests.unit.test_deploy import documented

pytestmark = pytest.mark.anyio


class Slots:
    """Lanes that claim, until they are told not to."""

    size, running = 10, 3

    def __init__(self) -> None:
        self.last: float | None = None

    @property
    def claimed_at(self) -> float:
        return time.monotonic() if self.last is None else self.last


@asynccontextmanager
async def watched(
    deps: Deps, slots: Slots | None = None, registry: CollectorRegistry | None = None
) -> AsyncIterator[int]:
    """A worker's vitals on a free port."""
    port = free_port()
    deps = replace(deps, settings=with_worker(deps.settings, metrics_port=port))
    async with vitals(deps, slots or Slots(), registry=registry or CollectorRegistry()):
        yield port


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


async def asked(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    return await asyncio.to_thread(ask, port, path, method)


async def test_a_worker_that_is_well_is_live_and_ready(deps: Deps) -> None:
    async with watched(deps) as port:
        assert (await asked(port, "/health/live"))[0] == 200
        status, body = await asked(port, "/health/ready")
        found = orjson.loads(body)
        assert (status, found["status"], found["because"]) == (200, "ready", [])
        assert set(found["checks"]) == {"event_loop", "redis", "mongodb", "lanes", "running"}
        assert await asked(port, "/health/ready", "HEAD") == (200, b"")
        assert (await asked(port, "/health/ready?pretty=1"))[0] == 200
    with pytest.raises(ConnectionError):
        await asked(port, "/health/live")


async def test_it_answers_while_the_event_loop_stands_still(deps: Deps) -> None:
    """The call is made by the event loop's own thread, so that nothing else can run meanwhile."""
    async with watched(deps) as port:
        assert ask(port, "/health/live")[0] == 200
        assert b"folkform_event_loop_lag_seconds" in ask(port, "/metrics")[1]


async def test_a_loop_that_stands_still_is_first_not_ready_and_then_dead(deps: Deps) -> None:
    gauges = Gauges(deps, Queue(deps.redis, CATALOG))
    await gauges.look()
    for stands_s, live, ready in ((5.0, 200, 200), (11.0, 200, 503), (121.0, 503, 503)):
        clock = [1000.0]
        pulse = Pulse(partial(clock.__getitem__, 0))
        known = Vitals(deps, Slots(), gauges, pulse)
        clock[0] += stands_s + BEAT_S
        assert known.live("").status == live
        assert known.ready("").status == ready
        assert [check.name for check in known.checks() if not check.is_ok] == ["event_loop"] * (ready == 503)
        pulse.beat()
        assert known.ready("").status == 200
        assert pulse.lag_s == pytest.approx(stands_s)  # a scrape that comes later sees it still


async def test_ready_says_which_part_is_not_well(deps: Deps) -> None:
    """Redis on a port nobody listens on, MongoDB that is closed, lanes that do not claim, and a shutdown."""
    settings = deps.settings.replace(redis=RedisSettings(url=SecretStr(f"redis://:hidden@127.0.0.1:{free_port()}/0")))
    slots = Slots()
    async with open_database(deps.settings.mongo) as database:
        gone = Pages(database)
    away = replace(deps, redis=connect(settings.redis, Redis, retries=0), pages=gone, stopping=asyncio.Event())
    gauges = Gauges(away, Queue(away.redis, CATALOG))
    await gauges.look()
    slots.last = away.monotonic() - 16
    away.stopping.set()
    reply = Vitals(away, slots, gauges, Pulse()).ready("")
    found = orjson.loads(reply.body)
    assert reply.status == 503
    assert {name for name, check in found["checks"].items() if not check["ok"]} == {
        *("redis", "mongodb", "lanes", "running")
    }
    assert len(found["because"]) == 4
    assert b"hidden" not in reply.body
    await away.redis.aclose(close_connection_pool=True)


async def test_what_others_wrote_stops_no_worker(deps: Deps) -> None:
    """A till's program that forgot its name, and documents that make no sense."""
    await deps.database["agents"].insert_one({"name": "till-7", "status": "online"})
    await deps.database["agents"].insert_one({"agentId": "till-8", "systemInfo": "x", "jobStatus": 5, "metrics": [1]})
    await deps.database["pages"].insert_one({"isActive": True, "isSync": True})
    assert [agent.agent_id for agent in await deps.agents.all()] == ["till-8"]
    assert await deps.pages.to_sync() == []
    async with watched(deps) as port:
        assert (await asked(port, "/health/ready"))[0] == 200
        assert families((await asked(port, "/metrics"))[1])["folkform_agents"]["agent", "missing"] == 1
    await deps.database["sync_state"].insert_one({"_id": "x", "stream": "posts", "pageId": "1", "covered": [[1]]})
    async with watched(deps) as port:
        assert (await asked(port, "/health/ready"))[0] == 200


async def test_full_slots_are_no_reason_to_claim(deps: Deps) -> None:
    slots = Slots()
    slots.last, slots.running = time.monotonic() - 100, slots.size
    async with watched(deps, slots) as port:
        assert (await asked(port, "/health/ready"))[0] == 200


async def test_a_port_that_is_taken_costs_the_metrics_only(deps: Deps) -> None:
    with socket.create_server(("", 0)) as taken:
        settings = with_worker(deps.settings, metrics_port=taken.getsockname()[1])
        async with vitals(replace(deps, settings=settings), Slots(), registry=CollectorRegistry()):
            await deps.redis.ping()


async def test_without_a_port_nothing_is_looked_at(deps: Deps) -> None:
    registry = CollectorRegistry()
    settings = with_worker(deps.settings, metrics_port=0)
    async with vitals(replace(deps, settings=settings), Slots(), registry=registry):
        assert not list(registry.collect())
        assert not RUNS.is_on
    RUNS.is_on = True


def families(body: bytes) -> dict[str, dict[tuple[str, ...], float]]:
    """By Prometheus' own parser: sample -> values of its labels, in the order they are written -> value."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.fixture
async def shop(deps: Deps) -> Deps:
    """More pages than have labels of their own, read until half a minute ago or worse; jobs, endpoints, workers."""
    now = deps.now()
    page_ids = [f"{number:04}" for number in range(MOST_PAGES + 10)]
    await deps.pages.upsert_named(page_ids)
    marks = [
        {
            "_id": f"customers:{page_id}",
            "stream": "customers",
            "pageId": page_id,
            "covered": [[0, 9], [20, int(now) - 30]],
        }
        for page_id in page_ids[:-1]
    ]
    marks[-1]["covered"] = [[0, int(now) - 900]]
    await deps.database["sync_state"].insert_many(marks)
    await deps.agents.check_in("worker-1", datetime.fromtimestamp(now, UTC), kind="worker")
    for number in range(3):
        endpoint = Endpoint(f"ep_{number}", "m1", "https://shop.example/hook", ())
        await deps.merchants.endpoints.add(endpoint)
    await deps.merchants.endpoints.disable("ep_2", "for the test")
    await deps.merchants.endpoints.failed("ep_1", datetime.fromtimestamp(now, UTC))
    await deps.redis.execute_command("HSET", GATE + "ep_1", "fails", 99, "until", (now + 60) * 1000)
    at = datetime.fromtimestamp(now - 3_600, UTC)
    await deps.schedules.add("hourly", {"job": "sync_pages", "schedule": "@every 20m", "isEnabled": True}, at)
    await deps.schedules.add("paused", {"job": "sync_pages", "schedule": "@every 20m", "isEnabled": False}, at)
    queue = Queue(deps.redis, CATALOG)
    await queue.put([queue.prepare("sync_pages", {}) for _ in range(4)])
    await queue.pause("reports")
    limiter = RateLimiter(deps.redis, 4.0)
    for page_id in (page_ids[0], page_ids[-1]):
        await limiter.acquire(page_id)
    await deps.redis.execute_command("HSET", f"folkform:rate:{{{page_ids[-1]}}}", "rate", 1.5)
    settings = deps.settings.replace(pancake=PancakeSettings(max_calls_per_second=4, access_token=SecretStr("unused")))
    return replace(deps, limiter=limiter, settings=settings)


async def test_the_metrics_show_what_lies_in_the_servers(shop: Deps) -> None:
    async with watched(shop) as port:
        found = families((await asked(port, "/metrics"))[1])
    jobs, lags = found["folkform_lane_jobs"], found["folkform_sync_lag_seconds"]
    assert jobs["sync", "pending"] == 4
    assert jobs["webhooks", "pending"] == 0
    assert found["folkform_lane_oldest_seconds"]["sync",] >= 0
    assert (found["folkform_lane_paused"]["reports",], found["folkform_lane_paused"]["sync",]) == (1, 0)
    assert found["folkform_pages"][()] == MOST_PAGES + 10
    unread = {"customers": 1, "conversations": MOST_PAGES + 10, "posts": MOST_PAGES + 10}
    assert found["folkform_sync_pages_unread"] == {(stream,): count for stream, count in unread.items()}
    assert len(lags) == MOST_PAGES + 1
    assert 29 <= lags["0000", "customers"] < 60
    assert 899 <= lags["other", "customers"] < 930
    assert found["folkform_pancake_rate_calls_per_second"] == {("0000",): 4.0, ("other",): 1.5}
    assert found["folkform_webhook_endpoints"] == {
        ("closed",): 1,
        ("open",): 1,
        ("half_open",): 0,
        ("held",): 0,
        ("disabled",): 1,
    }
    assert found["folkform_agents"]["worker", "online"] == 1
    assert found["folkform_schedule_late_seconds"].keys() == {("hourly",)}
    assert 1_200 <= found["folkform_schedule_late_seconds"]["hourly",] <= 3_600
    assert found["folkform_ready"] == dict.fromkeys(
        [(name,) for name in ("event_loop", "redis", "mongodb", "lanes", "running")], 1
    )


async def test_what_is_exported_is_what_is_documented(shop: Deps) -> None:
    """Name by name and label by label; and Prometheus' own checker has nothing to say about any of it."""
    RUNS.count(Run("sync_pages", "1", "sync", "w", 1, 0.0, 1.0, 0.1, "done", "", "", ""), is_known=True)
    meters.RETRIES.add("sync_pages", "redis")
    meters.ROWS.add("customers", "inserted")
    meters.WEBHOOK_SECONDS.add((), 0.1)
    with counted("/tags"):
        pass
    async with watched(shop, registry=REGISTRY) as port:
        body = (await asked(port, "/metrics"))[1].decode()
    exported: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            name = sample.name if family.type != "histogram" else family.name
            if name.startswith("folkform_") and not name.endswith("_created"):
                exported.setdefault(name, set()).update(sample.labels.keys() - {"le"})
    assert exported == documented()
    if promtool := shutil.which("promtool"):
        done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, text=True, check=False)  # noqa: ASYNC221, S603
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


async def test_what_is_old_is_not_shown(shop: Deps) -> None:
    """A gauge that stands still would look like one that is well."""
    clock = [0.0]
    gauges = Gauges(replace(shop, monotonic=lambda: clock[0]), Queue(shop.redis, CATALOG))
    await gauges.look()
    assert {"folkform_lane_jobs", "folkform_pages"} <= {family.name for family in gauges.collect()}
    clock[0] += STALE_S + 1
    assert [family.name for family in gauges.collect()] == ["folkform_snapshot_age_seconds"]


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        yield listening


async def test_systemd_is_told_by_the_event_loop(deps: Deps, systemd: socket.socket) -> None:
    """Ready, alive again and again, and stopping as soon as that is asked for, while jobs still run."""
    deps = replace(deps, settings=with_worker(deps.settings, metrics_port=0), stopping=asyncio.Event())

    async def heard() -> str:
        return (await asyncio.to_thread(systemd.recv, 4096)).decode()

    async with vitals(deps, Slots(), registry=CollectorRegistry()):
        assert (await heard()).startswith("READY=1")
        for _ in range(2):
            assert await heard() == "WATCHDOG=1\nSTATUS=3 of 10 slots taken, 0 jobs wait"
        deps.stopping.set()
        told = [await heard()]
        while "STOPPING=1" not in told:
            told.append(await heard())
        assert "WATCHDOG=1\nSTATUS=ending, 3 of 10 slots taken, 0 jobs wait" in (await heard(), *told)
    RUNS.is_on = True
