"""What can be seen of lanes and jobs in every state, and what it costs to look."""

import asyncio
import time
from typing import Any

import pytest

from src.clients.redis import open_redis
from src.deps import Deps
from src.engine import keys
from src.engine.queue import Queue
from src.errors import Permanent, Snooze, Transient
from src.settings import Settings
from tests.harness.jobs import job as job_of
from tests.harness.lanes import Gate, serving, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


async def test_a_lane_shows_its_jobs_in_every_state(settings: Settings) -> None:
    """The figures a person decides by: each job is counted once, where it is."""
    gate = Gate()

    async def hold(deps: Deps) -> str:
        await gate.enter("hold")
        return "done"

    async def fail(deps: Deps) -> str:
        raise Transient("not now", retry_after_s=60)

    async def snooze(deps: Deps) -> str:
        raise Snooze("not yet", after_s=60)

    async def refuse(deps: Deps) -> str:
        raise Permanent("never")

    jobs = [job_of(run, "reports") for run in (hold, fail, snooze, refuse)]
    async with serving(settings, *jobs, max_concurrent_jobs=2) as house:
        started = time.time()
        dead = await house.enqueue("refuse")
        await house.ended(dead)
        failed, snoozed = await house.enqueue("fail"), await house.enqueue("snooze")
        later = await house.put("hold", delay_s=60)

        async def waits() -> bool:
            stats = (await house.queue.stats())["reports"]
            return (stats.retry, stats.scheduled) == (1, 2)

        await until(waits)
        running = [await house.enqueue("hold") for _ in range(2)]
        await gate.has(2)
        waiting = [await house.enqueue("hold") for _ in range(3)]
        before = time.time()
        await asyncio.sleep(0.05)
        stats = (await house.queue.stats())["reports"]
        assert (stats.pending, stats.active, stats.scheduled, stats.retry) == (3, 2, 2, 1)
        assert (stats.processed, stats.failed, stats.paused) == (1, 1, False)
        assert time.time() - before <= stats.latency_s + 0.02 < time.time() - started + 0.02
        assert (await house.queue.stats())["webhooks"].latency_s == 0.0

        states: dict[str, Any] = {}
        for job_id in (dead, failed, snoozed, later, running[0], waiting[0]):
            info = await house.queue.job(job_id)
            assert info is not None
            assert info.lane == "reports"
            assert started - 1 <= info.enqueued_at <= time.time() + 0.01
            states[job_id] = (info.state, info.job, info.attempt, info.error)
        assert states == {
            dead: ("dead", "refuse", 1, "never"),
            failed: ("retry", "fail", 2, "not now"),
            snoozed: ("scheduled", "snooze", 1, None),
            later: ("scheduled", "hold", 1, None),
            running[0]: ("active", "hold", 1, None),
            waiting[0]: ("pending", "hold", 1, None),
        }
        active = await house.queue.job(running[0])
        assert active is not None
        assert active.started_at == pytest.approx(before, abs=2)
        assert await house.queue.job("nobody") is None
        gate.open()
        for job_id in running + waiting:
            assert (await house.ended(job_id)).state == "done"
        stats = (await house.queue.stats())["reports"]
        assert (stats.pending, stats.active, stats.processed, stats.failed) == (0, 0, 6, 1)


async def test_a_delayed_job_waits_from_when_it_is_due(settings: Settings) -> None:
    """A latency alarm must not ring for jobs that were meant for later, with priority or without."""
    async with serving(settings, job_of(_chore)) as house:
        await house.queue.pause("sync")
        for priority in (0, 3):
            await house.put("_chore", delay_s=0.5, priority=priority)
        due_at = time.time() + 0.5

        async def due() -> bool:
            await house.queue.resume("reports")  # wakes the lanes: they move what is due to its place
            return (await house.queue.stats())["sync"].pending == 2

        async def moved() -> bool:
            (_, score), *_ = await house.redis.zrange("sync", 0, 0, withscores=True)
            return bool(score < time.time() * 1000 - 60_000)

        await until(due)
        await until(moved)
        stats = (await house.queue.stats())["sync"]
        assert 0 <= stats.latency_s <= time.time() - due_at + 0.05


async def _chore(deps: Deps) -> str:
    return "done"


async def test_looking_costs_the_same_however_full_the_lanes_are(settings: Settings) -> None:
    """A dashboard may look each second at a lane of a hundred thousand jobs."""
    async with open_redis(settings.redis) as redis:
        queue = Queue(redis, {lane: job_of(_chore, lane).declaration for lane in ("sync", "reports")})

        async def calls() -> int:
            before = await redis.info("stats")
            await queue.stats()
            after = await redis.info("stats")
            return int(after["total_commands_processed"] - before["total_commands_processed"])

        await queue.put([queue.prepare("sync", {}), queue.prepare("reports", {})])
        await queue.stats()
        few = await calls()
        await queue.put([queue.prepare("sync", {}) for _ in range(5_000)])
        await queue.put([queue.prepare("sync", {}, delay_s=60, priority=number % 2) for number in range(5_000)])
        assert await calls() == few
        stats = (await queue.stats())["sync"]
        assert (stats.pending, stats.scheduled) == (5_001, 5_000)


async def test_a_unique_key_is_held_until_its_job_has_ended(settings: Settings) -> None:
    """One pass a page: a second one is the first while that waits, runs or is retried, and a new one afterwards.

    With results kept too: a kept result does not stand in the way of the next pass.
    """
    gate, fail = Gate(), False

    async def one(deps: Deps, page_id: str) -> str:
        await gate.enter(page_id)
        if fail:
            raise Permanent("refused")
        return "done"

    job = job_of(one, unique_key=lambda page_id: page_id)
    async with serving(settings, job, keep_result_seconds=60) as house:
        await house.queue.pause("sync")
        first = await house.enqueue("one", page_id="1")
        assert await house.enqueue("one", page_id="1") == first
        await house.queue.resume("sync")
        await gate.has(1)
        assert await house.enqueue("one", page_id="1") == first
        assert await house.enqueue("one", page_id="2") != first
        gate.open()
        assert (await house.ended(first)).state == "done"
        fail = True
        second = await house.enqueue("one", page_id="1")
        assert second != first
        assert (await house.ended(second)).state == "dead"
        third = await house.enqueue("one", page_id="1")
        assert third not in (first, second)
        await house.ended(third)
        assert [key async for key in house.redis.scan_iter(keys.UNIQUE + "*")] == []


async def test_a_unique_job_that_waits_for_its_next_try_is_still_the_one(settings: Settings) -> None:
    """Its place in another lane, and minutes of backoff, change nothing about that."""

    async def fail(deps: Deps) -> str:
        raise Transient("not now", retry_after_s=60)

    job = job_of(fail, "webhooks", retry_lane="webhooks_retry", unique_key=lambda: "only")
    async with serving(settings, job) as house:
        first = await house.enqueue("fail")

        async def waits() -> bool:
            return (await house.queue.stats())["webhooks_retry"].retry == 1

        await until(waits)
        assert await house.enqueue("fail") == first
        stats = await house.queue.stats()
        assert (stats["webhooks"].pending, stats["webhooks"].scheduled, stats["webhooks_retry"].scheduled) == (0, 0, 0)


async def test_a_child_belongs_to_the_trace_of_its_parent(settings: Settings) -> None:
    """What one event set going is found again in the history, job by job, by one id."""
    children: list[bool] = []

    async def parent(deps: Deps) -> str:
        children.append(await CHILD.spawn(deps, page_id="1"))
        children.append(await CHILD.spawn(deps, page_id="1"))
        return "enqueued"

    async def child(deps: Deps, page_id: str) -> str:
        return "done"

    CHILD = job_of(child, unique_key=lambda page_id: page_id)  # noqa: N806 - as the jobs call each other
    async with serving(settings, job_of(parent, "reports"), CHILD, job_of(_chore), history=True) as house:
        await house.queue.pause("sync")
        await house.ended(await house.enqueue("parent"))
        await house.enqueue("_chore")
        await house.queue.resume("sync")
        await house.settled()
    async with serving(settings) as house:
        traces = {run["job"]: run["traceId"] async for run in house.deps.database["job_runs"].find()}
    assert children == [True, False]
    assert len(traces["parent"]) == 32
    assert traces["child"] == traces["parent"] != traces["_chore"]


async def test_every_run_is_in_the_history_those_of_the_last_second_too(settings: Settings) -> None:
    """A worker that ends takes no run with it."""

    async def fail(deps: Deps) -> str:
        raise Transient("not now", retry_after_s=60)

    jobs = (job_of(_chore, "reports"), job_of(fail))
    async with serving(settings, *jobs, history=True) as house:
        ids = [await house.enqueue("_chore") for _ in range(50)]
        failed = await house.enqueue("fail")
        for job_id in ids:
            await house.ended(job_id)

        async def waits() -> bool:
            return (await house.queue.stats())["sync"].retry == 1

        await until(waits)
    async with serving(settings) as house:
        runs = [run async for run in house.deps.database["job_runs"].find()]
    assert sorted(run["jobId"] for run in runs) == sorted([*ids, failed])
    by_id = {run["jobId"]: run for run in runs}
    done, again = by_id[ids[0]], by_id[failed]
    assert (done["job"], done["lane"], done["end"], done["outcome"], done["attempt"]) == (
        *("_chore", "reports", "done", "done", 1),
    )
    assert (again["end"], again["error"]) == ("retry", "not now")
    assert done["enqueuedAt"] <= done["startedAt"]
    assert 0 <= done["durationMs"] < 1_000
