"""Agents check in; who does not is told of once, whoever looks, whatever is killed, and once more when it is back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from src.deps import Deps, open_deps
from src.engine.inline import run_to_end
from src.errors import Misuse
from src.jobs import ALL_JOBS
from src.monitoring import away
from src.monitoring.agents import check_in, look_at_agents, notice_key, remove
from src.monitoring.away import look_or_tell
from src.monitoring.present import present, usual_name
from src.settings import AlertSettings, MonitorSettings, Settings
from tests.harness.alerts import START, Hands, Post

pytestmark = pytest.mark.anyio

OFFICE = "telegram:-9"
MINUTE = 60.0


@dataclass
class Room:
    """Agents, looked at when a test says so, at the time it says."""

    deps: Deps
    post: Post
    hands: Hands
    time: list[float] = field(default_factory=lambda: [float(START)])

    async def after(self, minutes: float, *, looks: int = 1) -> list[str]:
        """Let the time pass, look, send; returns the titles of what came."""
        self.time[0] += minutes * MINUTE
        before = len(self.post.sent)
        await asyncio.gather(*(look_at_agents(self.deps) for _ in range(looks)))
        for to in await self.deps.outbox.addresses(self.deps.now()):
            await run_to_end(ALL_JOBS, self.deps, "send_alerts", {"to": to}, max_tries=1)
        return [note.title for to, note in self.post.sent[before:] if to == OFFICE]

    async def check_in(self, agent_id: str, **told: Any) -> bool:
        return await check_in(self.deps.agents, agent_id, now=self.deps.now(), **told)

    async def state(self, agent_id: str) -> tuple[bool, bool]:
        """Whether it is online, and whether it is missed."""
        (found,) = [agent for agent in await self.deps.agents.all() if agent.agent_id == agent_id]
        return found.is_online, found.is_missing


@pytest.fixture
async def room(settings: Settings) -> AsyncIterator[Room]:
    settings = settings.replace(alerts=AlertSettings(_env_file=None, operations_to=(OFFICE,), language="en"))
    async with open_deps(settings) as deps:
        found = Room(deps, Post(), Hands())
        found.deps = replace(deps, hands=found.hands, channels=found.post, now=lambda: found.time[0])  # type: ignore[arg-type]
        yield found


async def test_who_is_silent_too_long_is_told_of_once(room: Room) -> None:
    """After five minutes, not before, and however often is looked."""
    assert await room.check_in("till-7") is False
    assert await room.after(5) == []
    assert await room.after(0.1) == ["🔔 Agent till-7 has been gone for 5 min"]
    assert await room.state("till-7") == (False, True)
    assert await room.after(1) == await room.after(60) == []


async def test_its_return_is_told_once(room: Room) -> None:
    await room.check_in("till-7")
    await room.after(6)
    assert await room.check_in("till-7") is True
    assert await room.check_in("till-7") is False
    assert await room.after(1) == ["✅ Agent till-7 is back"]
    assert await room.after(1) == []
    assert await room.after(6) == ["🔔 Agent till-7 has been gone for 8 min"]


async def test_many_looks_at_once_tell_once(room: Room) -> None:
    """Two workers, or a job that was taken for dead and was not."""
    for number in range(5):
        await room.check_in(f"till-{number}")
    (digest,) = await room.after(6, looks=8)
    assert digest == "🔔 5 notices"
    assert await room.deps.database["alerts"].count_documents({}) == 5
    for number in range(5):
        await room.check_in(f"till-{number}")
    (digest,) = await room.after(1, looks=8)
    assert digest.startswith("✅")


async def test_a_look_that_is_cut_off_is_made_good(room: Room) -> None:
    """It was found to be offline, and nobody was told: the next look tells."""
    await room.check_in("till-7")

    class Cut(Exception):
        pass

    async def cut(*_: Any) -> None:
        raise Cut

    room.time[0] += 6 * MINUTE
    add, room.deps.outbox.add = room.deps.outbox.add, cut  # type: ignore[method-assign,assignment]
    with pytest.raises(Cut):
        await look_at_agents(room.deps)
    room.deps.outbox.add = add  # type: ignore[method-assign]
    assert await room.state("till-7") == (False, True)
    assert await room.after(0) == ["🔔 Agent till-7 has been gone for 6 min"]


async def test_who_was_back_before_it_was_told_is_not_told_of(room: Room) -> None:
    await room.check_in("till-7")
    room.time[0] += 6 * MINUTE
    await look_at_agents(room.deps)
    await room.check_in("till-7")
    assert await room.after(0) == []


async def test_who_is_removed_is_not_missed_until_it_comes_again(room: Room) -> None:
    """Nor is anything said of its end; and removing twice is a wrong call."""
    await room.check_in("till-7")
    await room.after(6)
    assert await remove(room.deps, "till-7") is True
    assert await remove(room.deps, "till-7") is False
    assert await room.deps.agents.all() == []
    assert await room.after(10) == []
    assert await room.deps.alerts.by_key([notice_key("till-7")]) == {}
    assert await room.check_in("till-7") is False
    assert await room.after(6) == ["🔔 Agent till-7 has been gone for 6 min"]


async def test_what_is_not_told_stays_as_it_was(room: Room) -> None:
    """A sign of life without facts takes none away."""
    await room.check_in("till-7", system_info={"os": "linux"}, metrics={"cpu": 4}, job_status=[{"name": "sync"}])
    await room.check_in("till-7", metrics={"cpu": 9})
    (agent,) = await room.deps.agents.all()
    assert (agent.system_info, agent.metrics, agent.job_status) == ({"os": "linux"}, {"cpu": 9}, ({"name": "sync"},))


async def test_a_late_sign_of_life_does_not_turn_time_back(room: Room) -> None:
    await room.check_in("till-7")
    await check_in(room.deps.agents, "till-7", now=room.deps.now() - 600)
    assert await room.after(1) == []


async def test_many_first_signs_at_once_are_one_agent(room: Room) -> None:
    assert await asyncio.gather(*(room.check_in("till-7") for _ in range(20))) == [False] * 20
    assert len(await room.deps.agents.all()) == 1


async def test_a_name_nobody_could_read_is_refused(room: Room) -> None:
    for agent_id in ("", "  ", "a\nb", "x" * 129):
        with pytest.raises(Misuse, match="characters"):
            await room.check_in(agent_id)
    assert await room.deps.agents.all() == []


async def test_a_worker_that_ends_says_goodbye(room: Room) -> None:
    """So a deploy is no alert; and while it runs it tells how it is."""
    came = asyncio.Event()
    check_in_ = room.deps.agents.check_in

    async def heard(*args: Any, **told: Any) -> bool:
        was_missed = await check_in_(*args, **told)
        came.set()
        return was_missed

    room.deps.agents.check_in = heard  # type: ignore[method-assign]
    async with present(room.deps, "worker@host:1"):
        await came.wait()
        (worker,) = await room.deps.agents.all()
        assert worker.is_online
        assert worker.metrics["memoryMb"] > 1
        assert usual_name(room.deps).endswith(f":{worker.system_info['pid']}")
    assert await room.state("worker@host:1") == (False, False)
    assert await room.after(600) == []


async def test_a_worker_checks_in_often_enough_whatever_is_set(room: Room) -> None:
    """One that is waited for no longer than its own check-ins take would be gone each minute."""
    monitor = MonitorSettings(_env_file=None, worker_offline_seconds=0.03, worker_check_in_seconds=60)
    deps = replace(room.deps, settings=room.deps.settings.replace(monitor=monitor))
    signs, thrice, check_in_ = list[str](), asyncio.Event(), room.deps.agents.check_in

    async def heard(agent_id: str, *args: Any, **told: Any) -> bool:
        signs.append(agent_id)
        if len(signs) == 3:
            thrice.set()
        return await check_in_(agent_id, *args, **told)

    room.deps.agents.check_in = heard  # type: ignore[method-assign]
    async with present(deps, "worker@host:1"):
        await thrice.wait()


async def test_the_job_looks_and_has_the_staff_sampled(room: Room) -> None:
    """One sample a minute of every page that is synced."""
    await room.deps.pages.upsert_named(["100", "200"])
    await room.check_in("till-7")
    room.time[0] += 6 * MINUTE
    outcome = await ALL_JOBS["check_agents"].run(room.deps)
    assert (outcome, outcome.details["told"], outcome.details["pages"]) == ("checked", 1, 2)  # type: ignore[attr-defined]
    sampled = [arguments["page_id"] for name, arguments in room.hands.spawned if name == "sync_page_staff"]
    assert sampled == ["100", "200"]


async def test_who_could_not_check_in_is_not_missed(room: Room) -> None:
    """While MongoDB was away nobody could; after it they have as long as ever."""
    await room.check_in("till-7")
    await room.deps.redis.set(away.AWAY, 3)
    assert await room.after(30) == []
    assert await look_or_tell(room.deps)
    assert await room.after(4) == []
    assert 0 < await room.deps.redis.ttl(away.BACK) <= room.deps.settings.monitor.agent_offline_seconds
    await room.deps.redis.delete(away.BACK)
    assert await room.after(1) == ["🔔 Agent till-7 has been gone for 35 min"]
