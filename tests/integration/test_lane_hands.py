"""What jobs ask of the queue they run in: to wait without a slot, and to let others run sooner."""

import asyncio

import pytest

from src.deps import Deps
from src.engine import keys
from src.errors import Permanent, Snooze, Transient
from src.settings import Settings
from tests.harness.jobs import job
from tests.harness.lanes import Gate, serving

pytestmark = pytest.mark.anyio


async def test_waiting_without_a_slot_lets_others_run(settings: Settings) -> None:
    """Ten jobs that wait for the eleventh do not keep it out of the only slot, and never run two at once."""
    came, inside, most = asyncio.Event(), 0, 0

    async def waits(deps: Deps, number: int) -> str:
        nonlocal inside, most
        await deps.hands.off_slot(came.wait())
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        return "done"

    async def comes(deps: Deps) -> str:
        came.set()
        return "done"

    async with serving(settings, job(waits), job(comes), max_concurrent_jobs=1) as house:
        for number in range(10):
            await house.enqueue("waits", number=number)
        await house.enqueue("comes")
        await house.settled()
        assert house.running == 0
    assert most == 1


async def test_a_job_cut_while_it_waits_without_a_slot_is_given_back(settings: Settings) -> None:
    """A shutdown does not wait for what waits; another worker has the job at once, and its slot is not lost."""
    gate = Gate()

    async def waits(deps: Deps) -> str:
        await deps.hands.off_slot(gate.enter("waits"))
        return "done"

    async with serving(settings, job(waits), max_concurrent_jobs=1) as house:
        job_id = await house.enqueue("waits")
        await gate.has(1)
        assert house.running == 0
        assert await house.lanes.drain(5.0, asyncio.Event()) == 0
        info = await house.queue.job(job_id)
        assert info
        assert info.state == "pending"
        gate.open()
        async with serving(settings, job(waits), max_concurrent_jobs=1, keep_result_seconds=60) as other:
            assert (await other.ended(job_id)).attempt == 1


async def test_a_waiting_job_can_be_told_to_hurry(settings: Settings) -> None:
    """What waits for its time runs now; what has no time to wait for is not touched."""

    async def runs(deps: Deps) -> str:
        return "done"

    async with serving(settings, job(runs), keep_result_seconds=60) as house:
        job_id = await house.put("runs", delay_s=3600)
        await house.queue.hurry([(job_id, 7200), ("nobody", 0)])
        info = await house.queue.job(job_id)
        assert info
        assert info.state == "scheduled"
        await house.queue.hurry([(job_id, 0)])
        assert (await house.ended(job_id)).outcome == "done"


async def test_a_running_job_told_to_hurry_is_due_when_it_is_put_back(settings: Settings) -> None:
    """Whoever calls cannot know whether the job has already said that it waits: neither order may lose the call."""
    gate, runs = Gate(), 0

    async def snoozes(deps: Deps) -> str:
        nonlocal runs
        runs += 1
        if runs == 1:
            await gate.enter("first")
            raise Snooze("not yet", after_s=3600)
        return "done"

    async with serving(settings, job(snoozes), keep_result_seconds=60) as house:
        job_id = await house.enqueue("snoozes")
        await gate.has(1)
        await house.queue.hurry([(job_id, 0)])
        gate.open()
        assert (await house.ended(job_id)).outcome == "done"


async def test_jobs_of_a_group_run_one_after_the_other_in_their_order(settings: Settings) -> None:
    """Each waits for the one before to be over, failures and retries included; other jobs are not held up."""
    order: list[int] = []
    tries = 0

    async def grouped(deps: Deps, number: int) -> str:
        nonlocal tries
        if number == 3 and tries < 2:
            tries += 1
            raise Transient("not yet", retry_after_s=0.05)
        if number == 5:
            raise Permanent("never")
        order.append(number)
        return "done"

    async def free(deps: Deps) -> str:
        return "done"

    async with serving(settings, job(grouped), job(free), keep_result_seconds=60) as house:
        queue = house.queue
        ids = await queue.put([queue.prepare("grouped", {"number": number}, group="g") for number in range(8)])
        other = await house.enqueue("free")
        assert (await house.ended(other)).outcome == "done"
        assert [(await house.ended(job_id)).state for job_id in ids].count("dead") == 1
        assert order == [0, 1, 2, 3, 4, 6, 7]
        assert await house.redis.keys("folkform:group*") == []


async def test_a_group_goes_on_when_its_first_job_is_gone(settings: Settings) -> None:
    """A job that somebody removed from Redis does not hold the others for ever."""

    async def grouped(deps: Deps, number: int) -> str:
        return "done"

    async with serving(settings, job(grouped), keep_result_seconds=60) as house:
        queue = house.queue
        first = queue.prepare("grouped", {"number": 1}, group="g", delay_s=3600)
        second = queue.prepare("grouped", {"number": 2}, group="g")
        await queue.put([first, second])
        await queue.hurry([(second.job_id, 0)])  # it is not its turn
        info = await queue.job(second.job_id)
        assert info
        assert info.state in ("pending", "scheduled")
        await house.redis.delete(keys.JOB + first.job_id)
        await queue.hurry([(second.job_id, 0)])
        assert (await house.ended(second.job_id)).outcome == "done"
