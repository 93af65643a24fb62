"""What runs when: priority and delay within a lane, weights between lanes, pauses, and lanes of a process's own."""

import asyncio
import time
from collections import Counter

import pytest

from src.deps import Deps
from src.engine import keys
from src.engine.job import Job
from src.rules.lanes import LANES
from src.settings import Settings
from tests.harness.jobs import job as job_of
from tests.harness.lanes import Gate, House, serving, until, with_head_start

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
FIVE = {"webhooks": 5, "periodic": 4, "webhooks_retry": 3, "monitoring": 2, "reports": 1}


class Notes:
    """What ran, in order and when."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at: dict[str, float] = {}

    async def write(self, deps: Deps, name: str) -> str:
        self.names.append(name)
        self.at[name] = time.time()
        return "written"

    def job(self, lane: str = "sync") -> Job[object]:
        async def note(deps: Deps, name: str) -> str:
            return await self.write(deps, name)

        return job_of(note, lane)


async def put(house: House, *names: str, priority: int = 0, delay_s: float = 0.0) -> None:
    await house.queue.put(
        [house.queue.prepare("note", {"name": name}, priority=priority, delay_s=delay_s) for name in names]
    )


async def has(notes: Notes, count: int) -> None:
    async def enough() -> bool:
        return len(notes.names) >= count

    await until(enough)


async def test_jobs_of_a_lane_run_in_order_and_those_with_priority_first(settings: Settings) -> None:
    """First come, first served; a job of higher priority goes before those that came in its head start."""
    notes = Notes()
    async with serving(settings, notes.job(), max_concurrent_jobs=1) as house:
        await house.queue.pause("sync")
        await put(house, "a", "b", "c")
        await put(house, "x", "y", priority=1)
        await put(house, "top", priority=2)
        await put(house, "d")
        await house.queue.resume("sync")
        await has(notes, 7)
        assert notes.names == ["top", "x", "y", "a", "b", "c", "d"]


async def test_low_priority_runs_within_its_head_start_whatever_comes(settings: Settings) -> None:
    """A stream of urgent jobs that never ends delays a plain one by their head start, and by no more."""
    ran: list[float] = []
    urgent = 0

    async def hurry(deps: Deps) -> str:
        nonlocal urgent
        urgent += 1
        await house.put("hurry", priority=1)
        await asyncio.sleep(0.003)
        return "hurried"

    async def plain(deps: Deps) -> str:
        ran.append(time.monotonic())
        return "done"

    async with serving(with_head_start(settings, 0.5), job_of(hurry), job_of(plain), max_concurrent_jobs=1) as house:
        for _ in range(20):
            await house.put("hurry", priority=1)
        started, before = time.monotonic(), urgent
        job_id = await house.enqueue("plain")
        await house.ended(job_id)
        assert urgent - before > 20
        assert 0.4 < ran[0] - started < 1.5
        await house.queue.pause("sync")


@pytest.mark.parametrize("priority", [0, 5], ids=["plain", "with priority"])
async def test_a_delayed_job_runs_when_it_is_due(settings: Settings, priority: int) -> None:
    """Never before, whatever its priority, and soon after: it wakes the lanes, which else look four times a second."""
    notes = Notes()
    async with serving(settings, notes.job()) as house:
        due = {}
        for number in range(9):
            delay_s = 0.3 + 0.11 * number
            due[str(number)] = time.time() + delay_s
            await put(house, str(number), delay_s=delay_s, priority=priority)
        await has(notes, 9)
        late = sorted(notes.at[name] - due[name] for name in due)
        assert late[0] > -0.002
        assert late[4] < 0.06
        assert late[-1] < 2


async def test_a_delayed_job_gets_its_head_start_once_it_is_due(settings: Settings) -> None:
    """An urgent job for later goes before the plain ones that wait when its time has come."""
    notes, gate = Notes(), Gate()

    async def block(deps: Deps) -> str:
        await gate.enter("block")
        return "done"

    async with serving(settings, notes.job(), job_of(block), max_concurrent_jobs=1) as house:
        await house.enqueue("block")
        await gate.has(1)
        await put(house, "plain 1", "plain 2")
        await put(house, "urgent", priority=1, delay_s=0.2)
        await put(house, "far", priority=9, delay_s=60)

        async def is_due() -> bool:
            stats = (await house.queue.stats())["sync"]
            return stats.pending == 3

        await until(is_due)
        gate.open()
        await has(notes, 3)
        assert notes.names == ["urgent", "plain 1", "plain 2"]
        assert (await house.queue.stats())["sync"].scheduled == 1


def _ending(lane: str, finished: list[str], seconds: float) -> Job[object]:
    async def end(deps: Deps, number: int) -> str:
        await asyncio.sleep(seconds)
        finished.append(lane)
        return "ended"

    end.__name__ = f"end_{lane}"
    return job_of(end, lane)


async def _fill(house: House, lanes: dict[str, int]) -> None:
    for lane in lanes:
        await house.queue.pause(lane)
    for lane, count in lanes.items():
        await house.queue.put([house.queue.prepare(f"end_{lane}", {"number": n}) for n in range(count)])
    await house.redis.execute_command(
        "SREM", keys.PAUSED, *lanes
    )  # all at once: the first would have the slots to itself for a while


class Unstalled:
    """A clock that stands still while the machine does: equal jobs are no longer equal where one was held up."""

    def __init__(self) -> None:
        self._now = self._seen = time.monotonic()

    def __call__(self) -> float:
        seen = time.monotonic()
        self._now += min(seen - self._seen, 0.001)
        self._seen = seen
        return self._now


@pytest.mark.parametrize(
    ("slots", "seconds"), [(20, 0.0), (50, 0.002), (7, 0.0)], ids=["no time", "two milliseconds", "few slots"]
)
async def test_full_lanes_finish_by_weight(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, slots: int, seconds: float
) -> None:
    """5,000 finished jobs of five full lanes stand 5:4:3:2:1, within a tenth."""
    clock = Unstalled()
    for module in ("lanes", "slots"):
        monkeypatch.setattr(f"src.engine.{module}.monotonic", clock)
    finished: list[str] = []
    jobs = [_ending(lane, finished, seconds) for lane in FIVE]
    async with serving(settings, *jobs, max_concurrent_jobs=slots, keep_result_seconds=0) as house:
        await _fill(house, {lane: 400 * weight for lane, weight in FIVE.items()})

        async def enough() -> bool:
            return len(finished) >= 5_000

        await until(enough)
        done = Counter(finished[:5_000])
        assert {lane: done[lane] for lane in FIVE} == {
            lane: pytest.approx(5_000 * weight / 15, rel=0.1) for lane, weight in FIVE.items()
        }


async def test_a_lane_alone_has_every_slot(settings: Settings) -> None:
    """Weights hold nothing back: the lightest lane fills the house when the others are empty."""
    gate = Gate()

    async def report(deps: Deps) -> str:
        await gate.enter("report")
        return "done"

    async with serving(settings, job_of(report, "reports"), max_concurrent_jobs=12) as house:
        await house.queue.put([house.queue.prepare("report", {}) for _ in range(20)])
        await gate.has(12)
        stats = (await house.queue.stats())["reports"]
        assert (house.running, stats.active, stats.pending) == (12, 12, 8)
        gate.open()
        await house.settled()
        assert len(gate.came) == 20


async def test_a_full_lane_leaves_room_for_the_next_one(settings: Settings) -> None:
    """A thousand slow reports wait, and a payment event is delivered all the same, in the first slot that is free."""
    gate = Gate()

    async def report(deps: Deps) -> str:
        await asyncio.sleep(0.01)
        return "done"

    async def deliver(deps: Deps) -> str:
        await gate.enter("deliver")
        return "done"

    async with serving(
        settings, job_of(report, "reports"), job_of(deliver, "webhooks"), max_concurrent_jobs=2
    ) as house:
        await house.queue.put([house.queue.prepare("report", {}) for _ in range(1_000)])
        gate.open()
        started = time.monotonic()
        await house.ended(await house.enqueue("deliver"))
        assert time.monotonic() - started < 1
        assert (await house.queue.stats())["reports"].pending > 500
        await house.queue.pause("reports")


async def test_a_pause_holds_for_every_worker_until_resumed(settings: Settings) -> None:
    """A person who pauses a lane pauses it everywhere, at once; running jobs end, other lanes go on."""
    notes, gate = Notes(), Gate()

    async def hold(deps: Deps) -> str:
        await gate.enter("hold")
        return "done"

    async def other(deps: Deps) -> str:
        return "done"

    jobs = (notes.job(), job_of(hold), job_of(other, "reports"))
    async with serving(settings, *jobs) as one, serving(settings, *jobs) as two:
        running = await one.enqueue("hold")
        await gate.has(1)
        await one.queue.pause("sync")
        await put(two, "a", "b")
        await put(two, "later", delay_s=0.05)
        gate.open()
        assert (await one.ended(running)).state == "done"
        for _ in range(5):  # both have looked many times by then
            assert (await two.ended(await two.enqueue("other"))).state == "done"
            await asyncio.sleep(0.06)
        assert notes.names == []
        stats = (await two.queue.stats())["sync"]
        assert (stats.paused, stats.pending) == (True, 3)
        resumed = time.time()
        await two.queue.resume("sync")
        await has(notes, 3)
        assert sorted(notes.names) == ["a", "b", "later"]
        assert max(notes.at.values()) - resumed < 1


async def test_a_worker_serves_its_own_lanes_only(settings: Settings) -> None:
    """WORKER_LANES keeps heavy lanes on machines of their own; the front door is served by all."""
    served: dict[str, set[str]] = {"one": set(), "two": set()}

    def jobs(name: str) -> list[Job[object]]:
        async def mark(deps: Deps) -> str:
            served[name].add("sync")
            return "done"

        async def note(deps: Deps) -> str:
            served[name].add("reports")
            return "done"

        return [job_of(mark, "sync"), job_of(note, "reports")]

    async with (
        serving(settings, *jobs("one"), lanes=("sync",)) as one,
        serving(settings, *jobs("two"), lanes=tuple(LANES.keys() - {"sync"})) as two,
    ):
        for house in (one, two):
            for name in ("mark", "note"):
                assert (await house.ended(await house.enqueue(name))).state == "done"
        assert served == {"one": {"sync"}, "two": {"reports"}}
