"""Calls of one worker that cross each other, and of two workers after Redis was away, in the order that hurts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from src.deps import Deps
from src.engine import keys
from src.engine.claims import Claims, again, ended, given_back
from src.engine.finisher import Finisher
from src.engine.queue import Queue
from tests.conftest import Servers
from tests.harness.jobs import job as job_of

pytestmark = pytest.mark.anyio
LANES = [("sync", 0.0, 1.0)]
LEASE_S = 2.0


@pytest.fixture
async def redis(servers: Servers) -> AsyncIterator[Redis]:
    async with Redis.from_url(servers.redis_url) as redis:
        await redis.flushdb()
        await redis.zadd("sync", {"job": 1})
        yield redis


def claims(redis: Redis, token: str) -> Claims:
    return Claims(redis, token, lease_s=LEASE_S, head_start_s=1.0)


@pytest.mark.parametrize("kind", ["again", "back"])
async def test_a_late_renewal_takes_nothing_that_was_let_go(redis: Redis, kind: str) -> None:
    """The renewal left before the job was given up and arrives after it: the job stays where anybody may have it."""
    ours = claims(redis, "ours")
    (job,) = (await ours.claim(LANES, 1, suspects=1)).jobs
    await ours.finish([given_back(job) if kind == "back" else again(job, 0.001, "1:0", "", 0, "sync")])
    await ours.renew([("sync", "job")])
    assert await redis.execute_command("HGET", keys.RUNNING + "sync", "job") is None
    await redis.zadd("sync", {"job": 1})
    (taken,) = (await claims(redis, "theirs").claim(LANES, 1, suspects=1)).jobs
    assert taken.killed == 0


async def test_a_renewal_takes_back_what_redis_forgot(redis: Redis) -> None:
    """A Redis that crashed has lost its last second, and with it that the job is ours."""
    ours = claims(redis, "ours")
    await ours.claim(LANES, 1, suspects=1)
    await redis.delete(keys.RUNNING + "sync", keys.IN_PROGRESS + "job")
    await redis.zadd("sync", {"job": 1})
    await ours.renew([("sync", "job")])
    assert (await claims(redis, "theirs").claim(LANES, 1, suspects=1)).jobs == []


async def test_an_enqueue_that_is_repeated_after_the_job_ended_stores_nothing(redis: Redis) -> None:
    """Its answer was lost, and the job was as quick; whether results are kept or not."""

    async def chore(deps: Deps) -> str:
        return "done"

    await redis.flushdb()
    queue, ours = Queue(redis, {"chore": job_of(chore).declaration}), claims(redis, "ours")
    job = queue.prepare("chore", {})
    await queue.put([job])
    (claimed,) = (await ours.claim(LANES, 1, suspects=1)).jobs
    await ours.finish([ended(claimed, "", 0, "", is_failed=False)])
    assert await queue.put([job]) == [job.job_id]
    assert await redis.zcard("sync") == 0


async def test_a_wait_that_no_clock_can_hold_keeps_no_other_end_from_being_written(redis: Redis) -> None:
    """A server may say any number when it is to be asked again; nor does a bug in one end."""
    await redis.zadd("sync", {"other": 2, "third": 3})
    ours = claims(redis, "ours")
    first, other, third = (await ours.claim(LANES, 3, suspects=1)).jobs
    finisher, written = Finisher(ours), list[str]()
    finisher.add(again(first, 1e20, "1:0", "", 0, "sync"))
    finisher.add(("end", "sync", other.job_id, object(), 0, "", "", ""))
    finisher.add(ended(third, "", 0, "", is_failed=False))
    keeping = asyncio.create_task(finisher.keep(lambda batch: written.extend(each[2] for each in batch)))
    await asyncio.wait_for(finisher.flushed(), 5)
    keeping.cancel()
    assert written == ["job", "other", "third"]
    assert set(await redis.zrange("sync", 0, -1)) == {b"job", b"other"}
    assert await redis.execute_command("HKEYS", keys.RUNNING + "sync") == [b"other"]


async def test_cancelling_one_in_line_leaves_the_first_its_time(redis: Redis) -> None:
    """The first of a group waits to be tried again; that another behind it is no more is none of its business."""

    async def chore(deps: Deps) -> str:
        return "done"

    await redis.flushdb()
    queue, ours = Queue(redis, {"chore": job_of(chore).declaration}), claims(redis, "ours")
    _, behind = await queue.put([queue.prepare("chore", {}, group="g") for _ in range(2)])
    (first,) = (await ours.claim(LANES, 2, suspects=1)).jobs
    await ours.finish([again(first, 600.0, "1:0", "", 0, "sync")])
    assert (await queue.cancel(behind)).word == "removed"
    assert (await ours.claim(LANES, 2, suspects=1)).jobs == []


@pytest.mark.parametrize("first", ["claim", "renew"])
async def test_nobody_is_taken_for_dead_right_after_redis_was_away(redis: Redis, first: str) -> None:
    """Whatever a worker says first to the Redis that is back, another one's job waits until that one can renew it."""
    await claims(redis, "theirs").claim(LANES, 1, suspects=1)
    await redis.zadd("sync", {"job": 1})  # the lease ran out meanwhile
    await redis.set(keys.BEAT, 1)
    ours = claims(redis, "ours")
    if first == "renew":
        await ours.renew([])
    assert (await ours.claim(LANES, 1, suspects=1)).jobs == []
    assert await claims(redis, "theirs").renew([("sync", "job")]) == []


async def test_a_claim_whose_answer_was_lost_counts_nobody_dead(redis: Redis) -> None:
    """It is given back, so that another worker that comes first does not hold us for dead."""
    ours = claims(redis, "ours")
    await ours.claim(LANES, 1, suspects=1)
    assert await ours.unheard(["sync"], []) == 1
    (taken,) = (await claims(redis, "theirs").claim(LANES, 1, suspects=1)).jobs
    assert taken.killed == 0


async def test_a_job_handed_over_while_redis_is_asked_is_not_given_back(redis: Redis) -> None:
    """It begins to run here after a claim was lost and before Redis says what runs here: one run is enough."""
    held = set[str]()

    class Meanwhile(Redis):
        async def execute_command(self, *args: Any, **options: Any) -> Any:
            if args[0] == "HGETALL":
                await redis.zadd("sync", {"handed": 1})
                (job,) = (await claims(redis, "ours").claim(LANES, 1, suspects=1)).jobs
                held.add(job.job_id)
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    async with Meanwhile(connection_pool=redis.connection_pool) as crossed:
        ours = claims(crossed, "ours")
        await ours.claim(LANES, 1, suspects=1)  # "job", and nobody hears of it
        assert await ours.unheard(["sync"], held) == 1
    (taken,) = (await claims(redis, "theirs").claim(LANES, 2, suspects=1)).jobs
    assert taken.job_id == "job"


async def test_a_job_handed_over_before_the_loop_stood_is_another_worker_s(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim before it is answered as late as the message is heard, and must not make it look young."""
    clock = [100.0]
    monkeypatch.setattr("src.engine.claims.monotonic", lambda: clock[0])

    class Standing(Redis):
        async def execute_command(self, *args: Any, **options: Any) -> Any:
            answer = await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
            clock[0] += 1.5
            return answer

    async with Standing(connection_pool=redis.connection_pool) as standing:
        ours = claims(standing, "ours")
        second, micro = await redis.time()
        await ours.claim(LANES, 1, suspects=1)
    assert ours.is_stale(second * 1000 + micro / 1000 + 300)
