"""What jobs ask of the queue they run in: to wait without a slot, and to let others run sooner."""

import asyncio

import pytest

from src.deps import Deps
from src.errors import Snooze
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
