"""Lanes under jobs, neighbours and servers that do not keep to the rules: no job goes round for ever, no loop ends."""

import asyncio
import pickle
import time
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from src.deps import Deps
from src.engine import keys
from src.engine.dead_letters import replay, replay_one
from src.errors import Misuse, Permanent, Snooze, Transient
from src.settings import Settings
from src.store.dead_letters import Wanted
from tests.harness.jobs import job as job_of
from tests.harness.lanes import Gate, House, serving, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
SOON: dict[str, Any] = {"retry_base_s": 0.01, "retry_cap_s": 0.02}


async def echo(deps: Deps, word: str = "hello") -> str:
    return word


ECHO = job_of(echo)


async def test_a_job_that_is_cancelled_from_within_spends_its_tries(settings: Settings) -> None:
    """A library that lets a cancellation of its own escape must not send the job round at full speed for ever."""
    calls = 0

    async def entangled(deps: Deps) -> str:
        nonlocal calls
        calls += 1
        inner = asyncio.create_task(asyncio.sleep(60))
        inner.cancel()
        await inner
        return "never"

    async with serving(settings, job_of(entangled, max_tries=2, **SOON)) as house:
        info = await house.ended(await house.enqueue("entangled"))
        assert (info.state, info.attempt, calls) == ("dead", 2, 2)
        assert "cancelled" in str(info.error)


@pytest.mark.parametrize("error", [Transient, Permanent, ValueError], ids=["transient", "permanent", "bug"])
async def test_an_error_in_words_that_no_utf8_holds_is_kept(settings: Settings, error: type[Exception]) -> None:
    """File names of other systems come as lone surrogates: such an error ends its job like any other."""

    async def broken(deps: Deps) -> str:
        raise error("no file b\udce9b\udce9.csv")

    async with serving(settings, job_of(broken, max_tries=2, **SOON), history=True) as house:
        job_id = await house.enqueue("broken")
        info = await house.ended(job_id)
        assert info.state == "dead"
        assert "no file b" in str(info.error)
        assert "no file b" in (await house.letter(job_id))["error"]


@pytest.mark.parametrize(
    "outcome", ["b\udce9b", object(), b"bytes", None], ids=["surrogate", "object", "bytes", "none"]
)
async def test_an_outcome_that_json_cannot_hold_is_an_outcome_all_the_same(settings: Settings, outcome: Any) -> None:
    """The work is done; to do it again every five seconds because of its last word helps nobody."""
    calls = 0

    async def odd(deps: Deps) -> str:
        nonlocal calls
        calls += 1
        return outcome  # type: ignore[no-any-return]

    async with serving(settings, job_of(odd), history=True) as house:
        info = await house.ended(await house.enqueue("odd"))
        assert (info.state, calls) == ("done", 1)


async def test_an_error_without_words_is_an_error(settings: Settings) -> None:
    """A job that failed for good is never shown as done because its exception said nothing."""

    async def silent(deps: Deps) -> str:
        raise Permanent("")

    async with serving(settings, job_of(silent)) as house:
        info = await house.ended(await house.enqueue("silent"))
        assert (info.state, info.outcome) == ("dead", None)
        assert info.error


@pytest.mark.parametrize("enqueued_ms", [2**62, -(2**62)], ids=["far future", "far past"])
async def test_a_producer_with_a_mad_clock_harms_only_itself(settings: Settings, enqueued_ms: int) -> None:
    """One absurd time stamp must not end the history of all jobs."""
    async with serving(settings, ECHO, history=True) as house:
        job: dict[str, Any] = {"t": None, "f": "echo", "a": [], "k": {}, "et": enqueued_ms}
        await house.put_raw("sync", "mad-1", orjson.dumps(job))
        await house.ended("mad-1")
        await house.ended(await house.enqueue("echo"))
        database = house.deps.job_runs
    async with serving(settings, ECHO) as house:
        assert database is not house.deps.job_runs
        assert await house.deps.database["job_runs"].count_documents({"job": "echo"}) >= 1


async def test_an_id_that_is_no_text_stops_nobody(settings: Settings) -> None:
    """Another program's bytes in arq's default queue do not stop the lanes."""
    async with serving(settings, ECHO) as house:
        await house.redis.zadd(keys.FRONT_DOOR, {b"\xff\xfe": 1})
        await house.queue.resume("sync")
        for _ in range(3):
            assert (await house.ended(await house.enqueue("echo"))).state == "done"


async def test_a_free_slot_takes_what_came_while_all_were_taken(settings: Settings) -> None:
    """A job enqueued while the house is full starts when a slot is free, not when somebody looks again."""
    gate, starts = Gate(), list[float]()

    async def first(deps: Deps) -> str:
        await gate.enter("first")
        starts.append(time.monotonic())
        return "done"

    async def second(deps: Deps) -> str:
        starts.append(time.monotonic())
        return "done"

    waits = []
    async with serving(settings, job_of(first), job_of(second), max_concurrent_jobs=1) as house:
        for number in range(6):
            gate, starts = Gate(), []
            await house.enqueue("first")
            await gate.has(1)
            job_id = await house.enqueue("second")
            await house.queue.resume("sync")  # wakes once more: the lanes have looked, and no slot was free
            await asyncio.sleep(0.02 * number)  # another moment of their clock each time
            gate.open()
            await house.ended(job_id)
            waits.append(starts[1] - starts[0])
    assert sorted(waits)[3] < 0.05
    assert sum(waits) < 0.3


async def test_a_flushed_redis_costs_the_jobs_in_it_and_nothing_else(settings: Settings) -> None:
    """Whoever empties Redis under running workers need not restart them: running jobs end, new ones run."""
    gate = Gate()

    async def wait(deps: Deps) -> str:
        await gate.enter("wait")
        return "done"

    async with serving(settings, job_of(wait), ECHO) as house:
        job_id = await house.enqueue("wait")
        await gate.has(1)
        await house.redis.flushall()
        await house.redis.script_flush()
        info = await house.ended(await house.enqueue("echo"))
        assert (info.state, info.lane) == ("done", "sync")
        gate.open()
        await until(lambda: _is_idle(house))
        assert await house.queue.job(job_id) is None
        assert (await house.ended(await house.enqueue("echo", word="again"))).outcome == "again"
        stats = await house.queue.stats()
        assert (stats["sync"].active, stats["sync"].pending, stats["sync"].scheduled) == (0, 0, 0)


async def _is_idle(house: House) -> bool:
    return house.running == 0


async def test_a_job_that_goes_on_at_once_never_waits_for_a_lease(settings: Settings) -> None:
    """Renewals, ends and claims cross on the wire, and no job is taken for running that is not."""
    ends_at, last, longest_s = time.monotonic() + 1.5, dict[int, float](), 0.0

    async def parts(deps: Deps, number: int) -> str:
        nonlocal longest_s
        now = time.monotonic()
        longest_s = max(longest_s, now - last.get(number, now))
        last[number] = now
        if now < ends_at:
            raise Snooze("there is more", after_s=0.001)
        return "done"

    async with serving(settings, job_of(parts), lease_seconds=2) as house:
        for number in range(30):
            await house.enqueue("parts", number=number)
        await house.settled()
    assert longest_s < 1


async def test_a_drain_leaves_no_job_with_a_worker_that_is_gone(settings: Settings) -> None:
    """Orderly ends under full load, again and again: what is not done waits for the next worker, free of any kill."""
    ran: list[int] = []

    async def count(deps: Deps, number: int) -> str:
        ran.append(number)
        return "done"

    async with Redis.from_url(settings.redis.address.get_secret_value()) as redis:
        async with serving(settings, job_of(count)) as house:
            await house.queue.pause("sync")
            await house.queue.put([house.queue.prepare("count", {"number": n}) for n in range(3_000)])
            await house.queue.resume("sync")
        for _ in range(10):
            async with serving(settings, job_of(count), max_concurrent_jobs=20) as house:
                assert house.running == 0
                seen = len(ran)
                await until(lambda seen=seen: _has_more(ran, seen))  # type: ignore[misc]
            assert await redis.hlen(keys.RUNNING + "sync") == 0
            assert not [name async for name in redis.scan_iter(keys.IN_PROGRESS + "*")]
            if len(ran) >= 3_000:
                break
        assert len(ran) == len(set(ran))


async def _has_more(ran: list[int], seen: int) -> bool:
    return len(ran) > seen


async def test_what_was_set_aside_as_no_json_stays_set_aside(settings: Settings) -> None:
    """A replay of it would only come back: the person is told, and the letters beside it are replayed all the same."""
    async with serving(settings, ECHO) as house:
        await house.put_raw("sync", "pickle-1", pickle.dumps({"f": "echo"}))
        await house.put_raw("sync", "later-1", b'{"v":2,"f":"echo","a":[],"k":{},"et":1}')
        for job_id in ("pickle-1", "later-1"):
            await house.ended(job_id)
        with pytest.raises(Misuse, match="drop it"):
            await replay_one(house.deps, house.queue, "pickle-1")
        replayed = await replay(house.deps, house.queue, Wanted())
        assert (replayed.matching, replayed.enqueued, list(replayed.refused)) == (2, 1, ["job:pickle-1"])
        again = await house.ended("replay:later-1:1")
        assert again.state == "dead"
        assert (await house.letter("later-1"))["count"] == 2
