"""Jobs that somebody stops, and the number that tells a later holder of a job from an earlier one."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from src.deps import Deps
from src.engine.claims import Claims, given_back
from src.engine.letters import current_call
from src.engine.queue import Queue
from src.engine.ticks import Ticks
from src.errors import Transient
from src.settings import Settings
from tests.harness.jobs import job as job_of
from tests.harness.lanes import House, serving, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


async def hold(deps: Deps, name: str = "") -> str:
    await asyncio.Event().wait()
    return "never"


async def chore(deps: Deps) -> str:
    return "done"


async def is_running(house: House, number: int = 1) -> None:
    async def look() -> bool:
        return house.running == number

    await until(look)


async def stop_marked(house: House) -> list[str]:
    """What a worker's scheduler does each second."""
    _, stopped = await Ticks(house.redis).look()
    house.lanes.slots.stop(stopped)
    return stopped


async def test_a_job_that_runs_is_stopped_by_its_worker_and_is_over(settings: Settings) -> None:
    """Its end is known, in Redis and in the history; nothing of it runs again, and its unique key is free."""
    job = job_of(hold, "reports", unique_key=lambda name="": name)
    async with serving(settings, job, history=True, keep_result_seconds=60) as house:
        job_id = await house.enqueue("hold", name="x")
        await is_running(house)
        assert (await house.queue.cancel(job_id)).word == "running"
        assert await stop_marked(house) == [job_id]
        info = await house.ended(job_id)
        assert (info.state, info.error) == ("cancelled", "it was stopped while it ran")
        assert (await house.queue.cancel(job_id)).word == "unknown"
        assert await stop_marked(house) == []
        again = await house.enqueue("hold", name="x")
        assert again != job_id
        assert await house.deps.dead_letters.count() == 0
        await house.queue.cancel(again)
        await is_running(house)
        await stop_marked(house)
        await house.settled()
    async with serving(settings) as house:
        ends = [run["end"] async for run in house.deps.database["job_runs"].find({"jobId": job_id})]
    assert ends == ["cancelled"]


async def test_a_job_that_waits_is_over_at_once(settings: Settings) -> None:
    """Due, to come later, or behind another of its group: no worker is asked."""
    async with serving(settings, job_of(hold, "reports"), job_of(chore, "reports")) as house:
        first = await house.put("hold", {}, group="g")
        await is_running(house)
        behind, last = await house.put("chore", {}, group="g"), await house.put("chore", {}, group="g")
        later = await house.put("chore", {}, delay_s=60)
        assert [(await house.queue.cancel(job_id)).word for job_id in (behind, later)] == ["removed", "removed"]
        assert await house.queue.jobs([behind, later]) == [None, None]
        await house.queue.cancel(first)
        await stop_marked(house)
        await house.settled()  # the last one of the group ran
        assert await house.queue.job(last) is None or (await house.ended(last)).state == "done"


async def test_a_job_that_fails_before_its_worker_hears_of_it_does_not_run_again(settings: Settings) -> None:
    """Between the word and the worker's next look it was put off: it is over, and what lines up behind it goes on."""
    gate, runs = asyncio.Event(), list[str]()

    async def fails(deps: Deps) -> str:
        runs.append("fails")
        await gate.wait()
        raise Transient("away", retry_after_s=3_600.0)

    async with serving(settings, job_of(fails, "reports"), job_of(chore, "reports"), keep_result_seconds=60) as house:
        first = await house.put("fails", {}, group="g")
        behind = await house.put("chore", {}, group="g")
        await is_running(house)
        assert (await house.queue.cancel(first)).word == "running"
        gate.set()
        assert (await house.ended(first)).state == "cancelled"
        assert (await house.ended(behind)).state == "done"
        assert await stop_marked(house) == []
    assert runs == ["fails"]


async def test_a_job_that_is_given_back_before_its_worker_hears_of_it_is_ended_by_the_next(
    settings: Settings, redis: Redis
) -> None:
    """As of a worker that is asked to end."""
    queue = Queue(redis, {"hold": job_of(hold, "reports").declaration})
    await queue.put([queue.prepare("hold", {}, job_id="x")])
    claims = Claims(redis, "theirs", lease_s=5, head_start_s=30)
    (job,) = (await claims.claim([("reports", 0.0, 1.0)], 1, suspects=1)).jobs
    assert (await queue.cancel("x")).word == "running"
    await claims.finish([given_back(job)])
    async with serving(settings, job_of(hold, "reports"), keep_result_seconds=60) as house:
        assert (await house.ended("x")).state == "cancelled"


async def test_nothing_is_stopped_twice_or_by_mistake(settings: Settings) -> None:
    """An id nobody has heard of, and one that ended between the question and the answer."""
    async with serving(settings, job_of(chore, "reports"), keep_result_seconds=60) as house:
        done = await house.enqueue("chore")
        await house.ended(done)
        assert (await house.queue.cancel(done)).word == "unknown"
        assert (await house.queue.cancel("nobody")).word == "unknown"
        house.lanes.slots.stop(["nobody", done])
        assert (await house.ended(done)).outcome == "done"


@pytest.mark.parametrize("is_flushed", [False, True], ids=["as it goes", "Redis forgot"])
async def test_each_holder_of_a_job_has_a_higher_number(settings: Settings, redis: Redis, is_flushed: bool) -> None:
    """Also the one after a holder that died, and one after Redis lost everything."""
    first, second = (Claims(redis, token, lease_s=0.05, head_start_s=30) for token in ("a", "b"))
    queue, seen = Queue(redis, {"chore": job_of(chore, "reports").declaration}), list[int]()
    keys_ = [("reports", 0.0, 1.0)]
    await queue.put([queue.prepare("chore", {}, job_id="x")])
    for claims in (first, second, first):
        if is_flushed and seen:
            await redis.flushdb()
            await queue.put([queue.prepare("chore", {}, job_id="x")])

        async def claimed(claims: Claims = claims) -> Any:
            return (await claims.claim(keys_, 5, suspects=5)).jobs

        (job,) = await until(claimed)
        seen.append(job.fence)
    assert seen == sorted(set(seen))
    assert seen[0] > 0


async def test_a_job_knows_its_number_however_it_came(settings: Settings) -> None:
    """Claimed or handed over, one after the other."""
    seen: list[int] = []

    async def note(deps: Deps) -> str:
        call = current_call.get()
        assert call is not None
        seen.append(call.fence)
        return "noted"

    async with serving(settings, job_of(note, "reports"), keep_result_seconds=60) as house:
        for _ in range(5):
            await house.ended(await house.enqueue("note"))
        await house.queue.pause("reports")
        waiting = await house.enqueue("note")
        await house.queue.resume("reports")
        await house.ended(waiting)
    assert seen == sorted(set(seen))
    assert len(seen) == 6


@pytest.fixture
async def redis(settings: Settings) -> Any:
    async with Redis.from_url(settings.redis.address.get_secret_value()) as connection:
        yield connection
