"""Several workers on one Redis: each job runs once, and what one worker leaves another goes on with."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from src.clients.redis import open_redis
from src.deps import Deps
from src.engine import keys
from src.engine.job import Job
from src.settings import RedisSettings, Settings
from tests.harness.jobs import job as job_of
from tests.harness.lanes import Gate, serving, until
from tests.simulators.redis_proxy import running

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(40)]


async def test_no_job_runs_twice_side_by_side(settings: Settings) -> None:
    """A thousand jobs, three workers, one run each; and every worker has its part of them."""
    ran: Counter[int] = Counter()
    workers: Counter[str] = Counter()

    def work(worker: str) -> Job[Any]:
        async def count(deps: Deps, number: int) -> str:
            ran[number] += 1
            workers[worker] += 1
            await asyncio.sleep(0.001 * (number % 5))
            return "counted"

        return job_of(count)

    async with AsyncExitStack() as stack:
        houses = [await stack.enter_async_context(serving(settings, work(name))) for name in ("one", "two", "three")]
        queues = [house.queue for house in houses]
        jobs = [queues[0].prepare("count", {"number": number}) for number in range(1_000)]
        await asyncio.gather(*(queues[part % 3].put(jobs[part::10]) for part in range(10)))
        await houses[0].settled()
        stats = (await queues[0].stats())["sync"]
    assert ran == Counter(range(1_000))
    assert len(workers) == 3
    assert (stats.processed, stats.failed) == (1_000, 0)


async def test_jobs_enqueued_one_by_one_to_idle_workers_run_once(settings: Settings) -> None:
    """Idle workers compete for every single job, and one of them gets it."""
    ran: Counter[int] = Counter()

    async def count(deps: Deps, number: int) -> str:
        ran[number] += 1
        return "counted"

    async with serving(settings, job_of(count)) as one, serving(settings, job_of(count)):
        for number in range(200):
            job_id = await one.enqueue("count", number=number)
            if number % 20 == 0:
                await one.ended(job_id)
        await one.settled()
    assert ran == Counter(range(200))


async def test_what_a_drained_worker_gives_back_runs_elsewhere_at_once(settings: Settings) -> None:
    """A deploy costs a long job its progress, not a try and not a lease's time."""
    gates = {"one": Gate(), "two": Gate()}

    def hold(worker: str) -> Job[Any]:
        async def hold(deps: Deps) -> str:
            await gates[worker].enter("hold")
            return worker

        return job_of(hold)

    async with serving(settings, hold("two"), lanes=("reports",)) as other:
        async with serving(settings, hold("one")) as house:
            job_id = await house.enqueue("hold")
            await gates["one"].has(1)
            hurry = asyncio.Event()
            hurry.set()
            assert await house.lanes.drain(0.0, hurry) == 1
            info = await other.queue.job(job_id)
            assert info is not None
            assert (info.state, info.attempt) == ("pending", 1)
            assert not await other.redis.exists(keys.TRIES + job_id)
        gates["two"].open()
        async with serving(settings, hold("two")) as third:
            ended = await third.ended(job_id)
            assert (ended.outcome, ended.attempt) == ("two", 1)


async def test_a_claim_under_way_at_the_end_leaves_nothing_behind(settings: Settings) -> None:
    """A worker told to end while Redis answers it must not take jobs into its grave."""
    ran = 0

    async def count(deps: Deps) -> str:
        nonlocal ran
        ran += 1
        return "counted"

    url = settings.redis.address.get_secret_value()
    async with running(url) as proxy, Redis.from_url(url) as redis:
        far = settings.replace(redis=RedisSettings(url=SecretStr(proxy.url)))
        for number in range(5):
            async with serving(far, job_of(count)) as house, open_redis(settings.redis) as near:
                job = house.queue.prepare("count", {})
                await house.settled()
                proxy.latency_s = 0.05 + 0.01 * number
                await near.set(keys.JOB + job.job_id, job.payload)
                await near.zadd("sync", {job.job_id: 1})
                seen = proxy.seen["EVALSHA"]
                await near.publish(keys.WAKE, "sync")
                await until(lambda seen=seen: _is_above(proxy.seen["EVALSHA"], seen))  # type: ignore[misc]
                await house.lanes.drain(5.0, asyncio.Event())
                proxy.latency_s = 0
            assert await redis.hlen(keys.RUNNING + "sync") == 0
            info = await _info(settings, job.job_id)
            assert info in ("done", "pending")
            await redis.flushall()


async def _is_above(number: int, floor: int) -> bool:
    return number > floor


async def _info(settings: Settings, job_id: str) -> str:
    async with serving(settings, lanes=("reports",)) as house:
        info = await house.queue.job(job_id)
        assert info is not None
        return info.state
