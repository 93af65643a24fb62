"""The shared rate limit against a real Redis; a second process is a second limiter on a connection of its own."""

import asyncio
import itertools
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from scripts._process import free_port
from scripts._services import Service, start_redis
from src.clients.rate_limit import (
    ASK_AGAIN_S,
    CAREFUL_PART,
    LONGEST_PAUSE_S,
    REDIS_ANSWERS_S,
    Permit,
    RateLimiter,
)
from src.clients.redis import open_redis
from src.errors import Snooze
from src.rules.rate import MARGIN
from src.settings import RedisSettings, Settings
from tests.conftest import CACHE

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
PAGE = "tt_1:2"
CEILING = 20.0  # calls per second


@pytest.fixture
def prefix() -> str:
    return f"test:{uuid.uuid4().hex}:"


@asynccontextmanager
async def limiters(settings: Settings, prefix: str, *ceilings: float) -> AsyncIterator[list[RateLimiter]]:
    async with open_redis(settings.redis) as one, open_redis(settings.redis) as other:
        connections = itertools.cycle((one, other))
        yield [RateLimiter(next(connections), ceiling, prefix=prefix) for ceiling in ceilings]


async def permits(limiter: RateLimiter, calls: int, page_id: str = PAGE) -> list[Permit]:
    """The permits of so many calls, one after the other."""
    found = [await limiter.acquire(page_id) for _ in range(calls)]
    return [permit for permit in found if permit is not None]


def slots(*granted: list[Permit]) -> list[float]:
    return sorted(float(permit.slot) for permits in granted for permit in permits)


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


async def test_two_processes_share_one_rate(settings: Settings, prefix: str) -> None:
    """Both are served, evenly spaced, and together they use the rate."""
    async with limiters(settings, prefix, CEILING, CEILING) as (one, other):
        first, second = await asyncio.gather(permits(one, 8), permits(other, 8))
    times = slots(first, second)
    assert len(times) == 16
    assert min(gaps(times)) >= 1 / CEILING - 0.001
    assert times[-1] - times[0] >= 15 / CEILING - 0.001


async def test_pages_do_not_wait_for_each_other(settings: Settings, prefix: str) -> None:
    async with limiters(settings, prefix, 0.5) as (one,):
        times = slots(*await asyncio.gather(*(permits(one, 1, f"page{number}") for number in range(5))))
    assert times[-1] - times[0] < 1.0


async def test_a_refusal_slows_every_process(settings: Settings, prefix: str) -> None:
    """The rate becomes what went through, for who was refused and for who was not."""
    async with limiters(settings, prefix, CEILING, CEILING) as (one, other):
        granted = await permits(one, 10)
        await one.refused(PAGE, granted[-1])
        state = await other.current(PAGE)
        assert state is not None
        assert state.rate == pytest.approx(9 * MARGIN)
        after = await permits(other, 2)
    times = slots(after)
    assert times[0] - float(granted[-1].slot) >= 1 - 9 / CEILING
    assert gaps(times)[0] >= 1 / state.rate - 0.001


async def test_one_wave_of_refusals_slows_once(settings: Settings, prefix: str) -> None:
    """Calls that left before the first refusal was known are refused too; two processes report at the same time."""
    async with limiters(settings, prefix, CEILING, CEILING) as (one, other):
        granted = await permits(one, 8)
        reports = [(one, granted[5]), (other, granted[6]), (one, granted[7])]
        await asyncio.gather(*(limiter.refused(PAGE, permit) for limiter, permit in reports))
        state = await one.current(PAGE)
    assert state is not None
    assert (state.streak, state.version) == (1, 1)


async def test_a_refusal_is_not_lost_when_the_state_changes_meanwhile(settings: Settings, prefix: str) -> None:
    """Calls that go through keep writing the state; the refusal is then computed anew."""
    async with limiters(settings, prefix, 20.0, 40.0) as (low, high):
        (permit,) = await permits(high, 1)
        assert permit.rate == 40.0
        await asyncio.gather(permits(low, 1), high.refused(PAGE, permit), low.refused(PAGE, permit))
        state = await high.current(PAGE)
    assert state is not None
    assert state.lowered > 0
    assert state.rate <= 20.0


async def test_retry_after_holds_every_process(settings: Settings, prefix: str) -> None:
    """Also one of a refusal that is otherwise no news."""
    async with limiters(settings, prefix, CEILING, CEILING) as (one, other):
        granted = await permits(one, 2)
        await one.refused(PAGE, granted[0], retry_after_s=0.2)
        await other.refused(PAGE, granted[1], retry_after_s=0.7)
        told_at = time.monotonic()
        times = slots(*await asyncio.gather(permits(one, 1), permits(other, 1)))
    assert time.monotonic() - told_at >= 0.6
    assert times[0] - float(granted[1].slot) >= 0.7


@pytest.mark.parametrize(("asked_s", "after_s"), [(90.0, 90.0), (1e12, LONGEST_PAUSE_S)], ids=["far", "absurd"])
async def test_a_far_slot_gives_the_job_back(settings: Settings, prefix: str, asked_s: float, after_s: float) -> None:
    """For every process, without waiting, and for no longer than anyone would believe."""
    async with limiters(settings, prefix, CEILING, CEILING) as (one, other):
        (permit,) = await permits(one, 1)
        await one.refused(PAGE, permit, retry_after_s=asked_s)
        for limiter in (one, other):
            with pytest.raises(Snooze) as caught:
                await limiter.acquire(PAGE)
            assert after_s - 5 < caught.value.after_s <= after_s


async def test_more_callers_than_the_rate_can_serve_are_given_back(settings: Settings, prefix: str) -> None:
    """Those whose turn comes in time are served, the others do not hold their jobs."""
    async with open_redis(settings.redis) as redis:
        limiter = RateLimiter(redis, 10.0, prefix=prefix, longest_wait_s=0.35)
        found = await asyncio.gather(*(limiter.acquire(PAGE) for _ in range(8)), return_exceptions=True)
    served = [permit for permit in found if isinstance(permit, Permit)]
    assert 2 <= len(served) <= 4
    assert [caught.after_s for caught in found if isinstance(caught, Snooze)] == [0.35] * (8 - len(served))


async def test_a_cancelled_caller_takes_nothing_with_it(settings: Settings, prefix: str) -> None:
    """Ten that wait are cancelled; the next call leaves as if they had never come."""
    async with limiters(settings, prefix, 2.0) as (one,):
        (first,) = await permits(one, 1)
        waiting = [asyncio.create_task(one.acquire(PAGE)) for _ in range(10)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        (second,) = await permits(one, 1)
    assert float(second.slot) - float(first.slot) < 2 / 2.0


async def test_no_cancellation_is_lost_on_the_way_to_redis(settings: Settings, prefix: str) -> None:
    """Whenever it comes: a job that is told to stop would otherwise call on."""

    async def call_on(limiter: RateLimiter, page_id: str) -> None:
        while True:
            await limiter.acquire(page_id)

    async with limiters(settings, prefix, 1000.0) as (one,):
        tasks = [asyncio.create_task(call_on(one, f"page{number}")) for number in range(40)]
        for turns, task in enumerate(tasks):
            for _ in range(turns % 8):
                await asyncio.sleep(0)
            task.cancel()
        _, lost = await asyncio.wait(tasks, timeout=2.0)
        for task in lost:
            task.cancel()
    assert not lost


async def test_a_lower_setting_holds_from_the_first_call_on(settings: Settings, prefix: str) -> None:
    """A new deployment with another ceiling finds the state that the old one left."""
    async with limiters(settings, prefix, CEILING, 8.0) as (old, new):
        await permits(old, 3)
        times = slots(await permits(new, 3))
        state = await new.current(PAGE)
    assert min(gaps(times)) >= 1 / 8.0 - 0.001
    assert state is not None
    assert state.rate == 8.0


async def test_no_setting_means_no_limit(settings: Settings, prefix: str) -> None:
    async with limiters(settings, prefix, 0.0) as (one,):
        assert await one.acquire(PAGE) is None
        await one.refused(PAGE, None, 60.0)
        assert await one.current(PAGE) is None


async def test_what_is_known_outlives_any_pause_and_is_forgotten_after(settings: Settings, prefix: str) -> None:
    async with limiters(settings, prefix, CEILING) as (one,), open_redis(settings.redis) as redis:
        (permit,) = await permits(one, 1)
        await one.refused(PAGE, permit, retry_after_s=1e12)
        keys = await redis.keys(f"{prefix}*")
        lives_s = [await redis.ttl(key) for key in keys]
    assert keys
    assert min(lives_s) > LONGEST_PAUSE_S


def own_redis(port: int) -> Service:
    return start_redis(None, CACHE, port=port, environ={})


def at(port: int, settings: Settings) -> Settings:
    return settings.replace(redis=RedisSettings(url=SecretStr(f"redis://127.0.0.1:{port}/0")))


async def test_redis_stopped_means_a_careful_rate_of_ones_own_and_back(settings: Settings, prefix: str) -> None:
    """The known rate's eighth: calls are neither refused nor let loose; a refusal then still holds the page."""
    port = free_port()
    server = own_redis(port)
    try:
        async with limiters(at(port, settings), prefix, 80.0) as (one,):
            (permit,) = await permits(one, 1)
            server.stop()
            started = time.monotonic()
            assert [await one.acquire(PAGE) for _ in range(6)] == [None] * 6
            took_s = time.monotonic() - started
            assert 5 / (80.0 * CAREFUL_PART) <= took_s < REDIS_ANSWERS_S + 2.0
            await one.refused(PAGE, permit, retry_after_s=60.0)
            with pytest.raises(Snooze):
                await one.acquire(PAGE)
            server = own_redis(port)
            ends = time.monotonic() + ASK_AGAIN_S + 5.0
            while await one.acquire("other") is None:  # the careful rate spaces the questions
                assert time.monotonic() < ends
    finally:
        server.stop()


async def test_a_redis_that_hangs_holds_no_call_for_long(settings: Settings, prefix: str) -> None:
    """Only the first caller waits for it; the next ones do not ask for a while."""
    server = own_redis(free_port())
    assert server.pid is not None
    try:
        async with limiters(settings.replace(redis=RedisSettings(url=SecretStr(server.url))), prefix, 80.0) as (one,):
            await permits(one, 1)
            os.kill(server.pid, signal.SIGSTOP)
            started = time.monotonic()
            assert await asyncio.gather(*(one.acquire(PAGE) for _ in range(5))) == [None] * 5
            assert time.monotonic() - started < REDIS_ANSWERS_S + 2.0
    finally:
        os.kill(server.pid, signal.SIGCONT)
        server.stop()
