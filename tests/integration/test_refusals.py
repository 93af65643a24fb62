"""Servers that are there and say no: a full Redis, a letter or a run MongoDB cannot hold; letters that come back."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from src.clients.redis import be_patient, connect
from src.deps import Deps
from src.engine.dead_letters import replay, replay_one
from src.engine.front_door import FrontDoor
from src.engine.history import History
from src.errors import Permanent, Transient
from src.settings import Settings
from src.store.dead_letters import Wanted
from src.store.run_document import Run
from tests.harness.jobs import job as job_of
from tests.harness.lanes import serving, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def full(servers: Any, settings: Settings) -> AsyncIterator[Redis]:
    """A connection to a Redis that is full once the test says so, and no longer when the test is over."""
    async with Redis.from_url(servers.redis_url) as redis:
        try:
            yield redis
        finally:
            await redis.config_set("maxmemory", 0)


async def _greet(deps: Deps, number: int) -> str:
    return "greeted"


async def test_workers_empty_a_full_redis(settings: Settings, full: Redis) -> None:
    """It is the workers who make room: they claim and finish while nothing more can be enqueued."""
    async with serving(settings, job_of(_greet)) as house:
        await house.queue.pause("sync")
        ids = [await house.enqueue("_greet", number=number) for number in range(20)]
        await full.config_set("maxmemory", 1)
        await full.execute_command("SREM", "folkform:paused", "sync")

        async def are_gone() -> bool:
            return not await full.exists(*(f"arq:job:{job_id}" for job_id in ids))

        await until(are_gone)
        assert await full.zcard("sync") == 0


async def test_a_full_redis_does_not_end_arqs_worker(settings: Settings, full: Redis) -> None:
    """arq's Worker would end with the first refusal of its sign of life."""
    door = connect(settings.redis, FrontDoor, retries=1)
    patience = await be_patient(door)
    await full.config_set("maxmemory", 1)
    sign = asyncio.create_task(door.psetex("beat", 5000, b"alive"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(sign), 0.3)
    await full.config_set("maxmemory", 0)
    await asyncio.wait_for(sign, 5)
    patience.end()
    await door.aclose(close_connection_pool=True)
    assert await full.get("beat") == b"alive"


async def test_a_full_redis_costs_a_job_no_letter(settings: Settings, full: Redis) -> None:
    """What a job asks of a full Redis may be had later, so the job is tried again."""

    async def note(deps: Deps) -> str:
        await full.config_set("maxmemory", 1)
        try:
            await deps.redis.set("note", "x")
        finally:
            await full.config_set("maxmemory", 0)
        return "noted"

    async with serving(settings, job_of(note)) as house:
        job_id = await house.enqueue("note")

        async def waits() -> str | None:
            try:
                info = await house.queue.job(job_id)
            except Transient:  # asked in the moment in which it is full
                return None
            return info.error if info and info.state in ("retry", "pending") and info.error else None

        assert "Redis" in await until(waits)


def _nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


async def test_a_letter_mongodb_cannot_hold_is_kept_as_text(settings: Settings) -> None:
    """MongoDB takes a hundred levels; a job with more would else fail for good again and again."""

    async def refuse(deps: Deps, payload: list[Any]) -> str:
        raise Permanent("refused")

    async with serving(settings, job_of(refuse)) as house:
        job_id = await house.enqueue("refuse", payload=_nested(180))
        assert (await house.ended(job_id)).state == "dead"
        letter = await house.letter(job_id)
    assert letter["arguments"]["shown"].startswith("{'payload': [[[")
    assert letter["error"] == "refused"


async def test_a_run_mongodb_cannot_hold_takes_no_other_with_it(deps: Deps) -> None:
    """The history goes on without it, and says so."""
    history = History(deps.job_runs, deps.run_minutes, days=1)
    for number in range(9):
        error = "x" * (17 * 2**20 if number == 4 else 1)
        history.add(Run("greet", str(number), "sync", "w", 1, 1.0, 1.0, 0.1, "done", "ok", error, ""))
    await history.close()
    kept = {run["jobId"] async for run in deps.database["job_runs"].find()}
    assert kept == {str(number) for number in range(9)} - {"4"}


async def test_a_letter_that_comes_back_is_replayed_once(settings: Settings) -> None:
    """A replay of jobs that fail at once comes to its end, and each letter is open again."""

    async def refuse(deps: Deps, number: int) -> str:
        raise Permanent("refused")

    async with serving(settings, job_of(refuse)) as house:
        ids = [await house.enqueue("refuse", number=number) for number in range(30)]
        for job_id in ids:
            await house.ended(job_id)
        done = await replay(house.deps, house.queue, Wanted(job="refuse"), per_s=100_000)
        assert (done.matching, done.enqueued, done.refused) == (30, 30, {})
        await house.settled()
        soon = Wanted(until=datetime.now(UTC) + timedelta(hours=1))
        assert await house.deps.dead_letters.matching(soon) == 30


async def test_a_replay_tells_the_job_that_stands_for_it(settings: Settings) -> None:
    """Of a job that is unique and waits already, that one; and the letter is found by the id of the job that failed."""

    async def falter(deps: Deps, page: str) -> str:
        raise Permanent("refused") if page == "bad" else Transient("later", retry_after_s=60)

    job = job_of(falter, unique_key=lambda page: page)
    async with serving(settings, job) as house:
        job_id = await house.enqueue("falter", page="bad")
        await house.ended(job_id)
        assert (await house.letter(job_id))["jobId"] == "falter:bad"
        await house.queue.pause("sync")
        waiting = await house.enqueue("falter", page="bad")
        assert await replay_one(house.deps, house.queue, job_id) == waiting
