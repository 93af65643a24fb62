"""The door for Pancake's own events: who gets in, what is taken, and that 200 means stored."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from typing import Any

import orjson
import pytest
from loguru import logger
from pydantic import SecretStr
from redis.asyncio import Redis

from src.api.hooks import MOST_BYTES
from src.deps import Deps
from src.engine import keys
from src.engine.wire import deserialize
from src.settings import MongoSettings, RedisSettings, Settings, load_settings
from tests.conftest import Servers
from tests.harness.hooks import PAGE, SECRET, Door, messaging, open_door, with_hooks
from tests.simulators.redis_proxy import running as proxied

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all tests here, because most of them share an app."""
    return "asyncio"


@pytest.fixture(scope="module")
async def app(servers: Servers) -> AsyncIterator[Door]:
    settings = load_settings(None).replace(redis=RedisSettings(url=SecretStr(servers.redis_url)))
    async with open_door(with_hooks(settings, PAGE, "zl_55")) as door:
        yield door


@pytest.fixture
async def redis(servers: Servers) -> AsyncIterator[Redis]:
    """An empty one."""
    async with Redis.from_url(servers.redis_url) as redis:
        await redis.flushdb()
        yield redis


@pytest.fixture
def door(app: Door, redis: Redis) -> Door:
    """That of a shop with two pages."""
    return app


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Everything that is logged meanwhile."""
    lines = StringIO()
    sink = logger.add(lines, level="TRACE")
    handler = logging.StreamHandler(lines)
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)
    logger.remove(sink)


async def stored(redis: Redis) -> list[dict[str, Any]]:
    """The arguments of the jobs that wait."""
    ids = await redis.zrange("sync", 0, -1)
    return [deserialize(await redis.get(keys.JOB + job_id.decode()))["k"] for job_id in ids]


async def test_200_means_that_the_event_waits_in_redis(door: Door, redis: Redis) -> None:
    """Pancake sends nothing twice that was answered 200."""
    before = time.time()
    answer = await door.post(messaging())
    assert (answer.status_code, answer.json()) == (200, {"accepted": True})
    (job,) = await stored(redis)
    assert job["event"] == messaging()
    assert before <= job["received_at"] <= time.time()


async def test_many_at_once_are_all_stored(door: Door, redis: Redis) -> None:
    """They share calls to Redis, and each is answered for itself."""
    answers = await asyncio.gather(*(door.post(messaging(f"m_{n}")) for n in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    ids = {job["event"]["data"]["message"]["id"] for job in await stored(redis)}
    assert ids == {f"m_{n}" for n in range(100)}


async def test_a_wrong_secret_finds_nothing(door: Door, redis: Redis) -> None:
    """Whoever guesses learns not even that there is something."""
    for wrong in ("x", SECRET[:-1], SECRET + "x", "", "é", f"{SECRET}/", "%00", "%ff", f"{SECRET}/x"):
        answer = await door.client.post(f"/hooks/pancake/{wrong}", json=messaging())
        assert answer.status_code == 404, wrong
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await door.client.get("/hooks/pancake/x")).status_code == 404  # and a wrong method tells no more
    assert (await door.client.get(door.url)).status_code == 405
    assert await stored(redis) == []


async def test_without_a_secret_nobody_gets_in(settings: Settings) -> None:
    """No setting, no door."""
    async with open_door(with_hooks(settings, PAGE, secret=None)) as door:
        assert (await door.post(messaging())).status_code == 404
        assert (await door.client.post("/hooks/pancake/None", json=messaging())).status_code == 404
        assert (await door.client.post("/hooks/pancake/", json=messaging())).status_code == 404


NO_EVENTS = {
    "empty": (b"", 400),
    "cut": (b"{", 400),
    "list": (b"[]", 400),
    "text": (b'"text"', 400),
    "no UTF-8": (b"\xff\xfe", 400),
    "half a character": (b'{"a": "\\ud800"}', 400),
    "deep": (b'{"page_id": "' + PAGE.encode() + b'", "data": ' + b"[" * 300 + b"]" * 300 + b"}", 400),
    "deeper": (b'{"a": ' + b"[" * 2000 + b"]" * 2000 + b"}", 400),
    "grows as a job": (b'{"page_id": "' + PAGE.encode() + b'", "n": [' + b"1e15," * 40_000 + b"1]}", 400),
    "large": (b" " * (MOST_BYTES + 1), 413),
}


async def test_what_is_no_event_is_refused(door: Door, redis: Redis) -> None:
    """As RFC 9457 has it, and with nothing of the body in the answer."""
    for name, (body, status) in NO_EVENTS.items():
        answer = await door.client.post(door.url, content=body)
        assert answer.status_code == status, name
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert set(answer.json()) == {"type", "title", "status", "detail"}
    assert await stored(redis) == []


async def test_a_body_of_unknown_length_is_read_no_further_than_the_cap(door: Door) -> None:
    """A length that is not told, or told wrong, opens nothing."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 64 * MOST_BYTES:
            sent += 65_536
            yield b" " * 65_536

    answer = await door.client.post(door.url, content=endless())
    assert answer.status_code == 413
    small = await door.client.post(door.url, content=_in_pieces(orjson.dumps(messaging())))
    assert small.status_code == 200


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


async def test_an_event_of_the_largest_size_is_taken(door: Door, redis: Redis) -> None:
    """What the cap lets in fits into a job."""
    event = messaging()
    event["data"]["message"]["message"] += "x" * (MOST_BYTES - len(orjson.dumps(event)))
    body = orjson.dumps(event)
    assert len(body) == MOST_BYTES
    assert (await door.client.post(door.url, content=body)).status_code == 200
    assert len(await stored(redis)) == 1


async def test_a_strangers_page_is_refused_without_a_failure(door: Door, redis: Redis, log: StringIO) -> None:
    """Failures would make Pancake suspend the hook for all pages; a thousand strangers are one line in the log."""
    for number in range(3):
        answer = await door.post(messaging(page_id=f"99900{number}"))
        assert answer.status_code == 200
        assert answer.json()["accepted"] is False
    assert await stored(redis) == []
    assert log.getvalue().count("were not taken") == 1


async def test_a_page_is_known_with_and_without_its_channel(door: Door, redis: Redis) -> None:
    """Pancake leaves the prefix out on one side or the other, and writes ids as numbers."""
    ids: tuple[Any, ...] = ("zl_55", "55", 55)
    for page_id in ids:
        answer = await door.post({**messaging(), "page_id": page_id})
        assert answer.json() == {"accepted": True}
    assert len(await stored(redis)) == len(ids)


async def test_a_subscription_event_needs_no_page(door: Door, redis: Redis) -> None:
    """It names none."""
    event = {"event_type": "subscription", "data": {"subscription": {"id": "A1"}}}
    assert (await door.post(event)).json() == {"accepted": True}
    assert len(await stored(redis)) == 1


async def test_the_stored_pages_are_those_that_are_synced(settings: Settings, deps: Deps) -> None:
    """Where no page is named in the settings; one that the shop switched off is a stranger."""
    await deps.pages.upsert_named([PAGE, "off", "gone"])
    await deps.database["pages"].update_one({"pageId": "off"}, {"$set": {"isSync": False}})
    await deps.pages.deactivate_others([PAGE, "off"])
    async with open_door(with_hooks(settings)) as door:
        taken = [(await door.post(messaging(page_id=page_id))).json()["accepted"] for page_id in (PAGE, "off", "gone")]
    assert taken == [True, False, False]


async def test_without_mongodb_every_page_is_taken(settings: Settings, redis: Redis) -> None:
    """Nothing is lost for a list that cannot be read: the job decides."""
    away = MongoSettings(uri=SecretStr("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"), database="away")
    async with open_door(with_hooks(settings).replace(mongo=away)) as door:
        assert (await door.post(messaging())).json() == {"accepted": True}
    assert len(await stored(redis)) == 1


async def test_without_redis_it_says_so_soon_and_tells_when_to_come_again(settings: Settings) -> None:
    """Not a 200, and not a wait beyond Pancake's patience; and it starts without Redis, too."""
    away = RedisSettings(url=SecretStr("redis://127.0.0.1:1/0"))
    async with open_door(with_hooks(settings, PAGE).replace(redis=away)) as door:
        begun = time.monotonic()
        answer = await door.post(messaging())
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert time.monotonic() - begun < 3.0
        ready, live = await door.client.get("/health/ready"), await door.client.get("/health/live")
        assert (ready.status_code, live.status_code) == (503, 200)


async def test_a_redis_that_hangs_costs_the_deadline_and_no_more(servers: Servers, redis: Redis) -> None:
    """A connection that is open and never answers is the worst of outages; when it answers again, all is well."""
    async with proxied(servers.redis_url) as proxy:
        near = load_settings(None).replace(redis=RedisSettings(url=SecretStr(proxy.url)))
        async with open_door(with_hooks(near, PAGE)) as door:
            assert (await door.post(messaging("m_0"))).status_code == 200
            proxy.freeze()
            begun = time.monotonic()
            answers = await asyncio.gather(*(door.post(messaging(f"m_{n}")) for n in range(20)))
            assert {answer.status_code for answer in answers} == {503}
            assert time.monotonic() - begun < 4.0
            proxy.thaw()
            assert (await door.post(messaging("last"))).status_code == 200
    assert {"m_0", "last"} <= {job["event"]["data"]["message"]["id"] for job in await stored(redis)}


async def test_over_a_bad_network_200_still_means_stored_and_once(servers: Servers, redis: Redis) -> None:
    """A connection that drops before, in or after a call is met by the same call again."""
    async with proxied(servers.redis_url) as proxy:
        near = load_settings(None).replace(redis=RedisSettings(url=SecretStr(proxy.url)))
        async with open_door(with_hooks(near, PAGE)) as door:
            proxy.cut_randomly(0.2, 5)
            answers = [await asyncio.gather(*(door.post(messaging(f"m_{n}_{m}")) for m in range(5))) for n in range(10)]
            proxy.clear()
            assert (await door.post(messaging("last"))).status_code == 200
    taken = {f"m_{n}_{m}" for n, row in enumerate(answers) for m, each in enumerate(row) if each.status_code == 200}
    ids = [job["event"]["data"]["message"]["id"] for job in await stored(redis)]
    assert len(taken) > 25
    assert taken <= set(ids)
    assert len(ids) == len(set(ids))


async def test_it_is_ready_while_redis_answers(door: Door) -> None:
    """What a load balancer asks."""
    assert (await door.client.get("/health/ready")).json() == {"status": "ready"}
    assert (await door.client.get("/health/live")).json() == {"status": "live"}
    assert (await door.client.get("/elsewhere")).headers["content-type"] == "application/problem+json"


async def test_nothing_of_secret_or_customer_is_logged(settings: Settings, log: StringIO) -> None:
    """Neither by us nor by uvicorn, whatever becomes of the event."""
    async with open_door(with_hooks(settings, PAGE)) as door:
        await door.post(messaging(text="điều bí mật"))
        await door.post(messaging(page_id="999", text="điều bí mật"))
        await door.client.post(door.url, content=b"{ dieu bi mat")
        await door.client.post(f"{door.url}x", json=messaging(text="điều bí mật"))
        await door.client.get(door.url)
    assert SECRET not in log.getvalue()
    assert "bí mật" not in log.getvalue()
    assert "bi mat" not in log.getvalue()
