"""A worker's own side of the gate: turns, and places that are given back whatever happens."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from src.catalog import send_webhook
from src.clients.merchants import turnstile as ours
from src.clients.merchants.gate import INSIDE, Gate, Limits
from src.clients.merchants.turnstile import Closed, Crowded, Permit, Turnstile
from src.clients.redis import open_redis
from src.deps import NoHands
from src.errors import Snooze
from src.settings import Settings
from src.store.webhook_endpoints import Endpoint
from src.webhooks import deliver
from src.webhooks.accept import NewEvent, now_ms
from src.webhooks.attempt import limits_of
from src.webhooks.submit import submit
from tests.harness.lanes import until
from tests.harness.merchants import EVENT, MERCHANT, Yard, reached, yard
from tests.simulators.merchant import Cycle, ok, slow, status

pytestmark = pytest.mark.anyio

T = TypeVar("T")
EP = "ep_1"
LIMITS = Limits(cap=4, rate_per_second=None, longest_s=5.0, breaker_failures=3, closed_s=0.2, closed_most_s=0.5)


@pytest.fixture
async def gates(settings: Settings) -> AsyncIterator[list[Gate]]:
    """Two workers' gates, on connections of their own."""
    async with AsyncExitStack() as stack:
        yield [Gate(await stack.enter_async_context(open_redis(settings.redis))) for _ in range(2)]


@pytest.fixture
def gate(gates: list[Gate]) -> Gate:
    return gates[0]


async def test_the_turnstile_keeps_both_limits(gates: list[Gate]) -> None:
    """The cap over two workers, and a worker's own number of calls; everybody has a turn in the end."""
    turnstiles = [Turnstile(gate, 5) for gate in gates]
    now, most = [{"a": 0, "b": 0, "c": 0} for _ in gates], {"a": 0, "all": 0}

    async def call(number: int) -> None:
        which, endpoint = number % 2, "abc"[number % 3]
        permit = await turnstiles[which].enter(endpoint, f"{number}", LIMITS)
        now[which][endpoint] += 1
        most["a"] = max(most["a"], *(sum(each[key] for each in now) for key in "abc"))
        most["all"] = max(most["all"], *(sum(each.values()) for each in now))
        await asyncio.sleep(0.002)
        now[which][endpoint] -= 1
        await turnstiles[which].leave(permit, 0.002, how="ok")

    async with asyncio.timeout(20):
        await asyncio.gather(*(call(number) for number in range(120)))
    assert most == {"a": LIMITS.cap, "all": 5}


async def test_a_closed_endpoint_refuses_all_in_line(gate: Gate) -> None:
    """Those who wait behind the one who hears it are told at once, and other endpoints have their places."""
    turnstile = Turnstile(gate, 10)
    limits = replace(LIMITS, cap=1)
    permit = await turnstile.enter(EP, "first", limits)
    waiting = [asyncio.create_task(turnstile.enter(EP, f"{number}", limits)) for number in range(5)]
    await asyncio.sleep(0)
    await turnstile.leave(permit, 0.1, how="fail", pause_s=5.0)
    async with asyncio.timeout(2):
        found = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, Closed) and each.why == "hold" and 4 < each.wait_s <= 5 for each in found)
    assert [each.is_scout for each in found if isinstance(each, Closed)] == [True, *[False] * 4]
    others = [await turnstile.enter(f"ep-{number}", "call", limits) for number in range(10)]
    assert len(others) == 10


async def test_a_caller_that_leaves_the_line_takes_no_place_with_it(gate: Gate) -> None:
    """Cancelled while it waits, or in the moment its turn has come."""
    turnstile, limits = Turnstile(gate, 1), replace(LIMITS, cap=1)
    for turns in range(6):
        permit = await turnstile.enter(EP, "first", limits)
        waits = asyncio.create_task(turnstile.enter(EP, "waits", limits))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(turnstile.leave(permit, 0.0, how="ok"))
        for _ in range(turns):
            await asyncio.sleep(0)
        waits.cancel()
        found = (await asyncio.gather(waits, leaving, return_exceptions=True))[0]
        if isinstance(found, Permit):
            await turnstile.leave(found, 0.0, how="ok")
        await gate.leave(EP, "waits", limits, how="none")  # where it was let in, and did not live to hear it
        assert turnstile.is_free(EP, limits)


async def test_too_many_in_line_are_sent_away(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold memory; when there is room again they are called back, each once and in their order."""
    monkeypatch.setattr(ours, "MOST_IN_LINE", 3)
    monkeypatch.setattr(ours, "FEW_IN_LINE", 2)
    monkeypatch.setattr(ours, "COMING_S", 0.0)
    turnstile, limits = Turnstile(gate, 10), replace(LIMITS, cap=1)
    permit = await turnstile.enter(EP, "first", limits)
    waiting = [asyncio.create_task(turnstile.enter(EP, f"{number}", limits)) for number in range(3)]
    await asyncio.sleep(0)
    for number in range(4):
        with pytest.raises(Crowded):
            await turnstile.enter(EP, f"more-{number}", limits)
        turnstile.sent_away(EP, f"job-{number}")
    turnstile.is_back(EP, "job-1")
    assert turnstile.called_back(EP) == []
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    called = [job_id for _ in range(3) for job_id in turnstile.called_back(EP)]
    assert called == ["job-0", "job-2", "job-3"]
    await turnstile.leave(permit, 1.0, how="ok")
    assert turnstile.is_free(EP, limits)


async def test_room_made_by_another_worker_is_found(gates: list[Gate]) -> None:
    """While others use up an endpoint's calls this worker asks again, and holds no place meanwhile."""
    one, other = (Turnstile(gate, 1) for gate in gates)
    limits = replace(LIMITS, cap=1)
    permit = await one.enter(EP, "one", limits)
    waits = asyncio.create_task(other.enter(EP, "other", limits))
    await reached(lambda: other.is_free("ep_2", limits))
    assert isinstance(await other.enter_now("ep_2", "free", limits), Permit)
    await one.leave(permit, 0.0, how="ok")
    assert not waits.done()  # the only place of this worker is taken by the other endpoint
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)


async def test_enter_now_waits_for_nobody(gates: list[Gate]) -> None:
    """Neither for this worker's calls nor for another's; a closed endpoint says so."""
    one, other = (Turnstile(gate, 5) for gate in gates)
    limits = replace(LIMITS, cap=1)
    permit = await one.enter_now(EP, "one", limits)
    assert permit
    assert await one.enter_now(EP, "two", limits) is None
    assert await other.enter_now(EP, "three", limits) is None
    await one.leave(permit, 0.0, how="fail", pause_s=3.0)
    with pytest.raises(Closed):
        await other.enter_now(EP, "four", limits)
    assert all(turnstile.is_free(EP, limits) for turnstile in (one, other))


class NoSlot(NoHands):
    """The queue's hands in a worker whose slots are all taken, and stay so."""

    async def off_slot(self, waiting: Awaitable[T]) -> T:
        """Wait, and then for a slot that never comes."""
        await waiting
        await asyncio.Event().wait()
        raise AssertionError


async def places(here: Yard, endpoint: Endpoint) -> tuple[bool, int]:
    """Whether this worker would call the endpoint at once, and how many calls all workers have under way."""
    turnstile, limits = here.deps.merchants.turnstile, limits_of(here.deps, endpoint)
    return turnstile.is_free(endpoint.endpoint_id, limits), await here.deps.redis.zcard(INSIDE + endpoint.endpoint_id)


async def is_inside(here: Yard, endpoint: Endpoint) -> bool:
    """Whether a call is let in."""
    return (await places(here, endpoint))[1] == 1


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["too late", "cancelled"])
async def test_a_turn_without_a_slot_is_given_back(settings: Settings, is_cancelled: bool) -> None:
    """Else a worker full of other work would lose its places one by one. The call's own time is left of the job's."""
    async with yard(settings, timeout_seconds=25.0) as here:
        endpoint = (await here.endpoint("shop", max_in_flight=1)).endpoint
        await here.queue.pause("webhooks")
        submitted = await submit(here.deps, here.queue, merchant_id=MERCHANT, event=EVENT, payload={})
        deps = replace(here.deps, hands=NoSlot())
        delivery_id = f"{submitted.event_id}:{endpoint.endpoint_id}"
        job = asyncio.create_task(deliver.send(deps, delivery_id, delivery_id, replay_id=None, is_replay=False))
        await until(lambda: is_inside(here, endpoint))
        if is_cancelled:
            job.cancel()
        with pytest.raises(asyncio.CancelledError if is_cancelled else Snooze):
            await asyncio.wait_for(job, (send_webhook.timeout_s or 0.0) - 25.0)
        assert await places(here, endpoint) == (True, 0)
        await here.queue.resume("webhooks")
        await here.is_("delivered", submitted.event_id)


class Hangs:
    """A collection whose MongoDB does not answer."""

    async def add(self, *_: Any, **__: Any) -> None:
        """For ever."""
        await asyncio.Event().wait()


async def test_a_turn_taken_while_mongodb_hangs_is_given_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first try that is cut before its event is stored leaves no place taken."""
    async with yard(settings) as here:
        endpoint = (await here.endpoint("shop", max_in_flight=1)).endpoint
        granted, enter_now = asyncio.Event(), here.deps.merchants.turnstile.enter_now

        async def tells(*asked: Any) -> Permit | None:
            permit = await enter_now(*asked)
            granted.set()
            return permit

        monkeypatch.setattr(here.deps.merchants.turnstile, "enter_now", tells)
        hanging: Any = Hangs()
        deps = replace(here.deps, merchants=replace(here.deps.merchants, events=hanging))
        new = NewEvent("evt_1", MERCHANT, EVENT, {}, now_ms())
        job = asyncio.create_task(deliver.deliver(deps, new, "evt_1", is_first=True, is_replay=False))
        await granted.wait()
        await asyncio.sleep(0)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert await places(here, endpoint) == (True, 0)


async def test_the_cap_is_kept_by_two_workers(settings: Settings) -> None:
    """As the merchant counts it, and used to the full."""
    async with yard(settings, workers=2) as here:
        await here.endpoint("shop", slow(0.03), max_in_flight=3)
        await here.endpoint("other", slow(0.03), merchant_id="m2")
        await here.send_many(60)
        await here.send_many(60, merchant_id="m2")
        await here.have("delivered", 120)
        assert here.merchants.peak("shop") == 3
        assert 6 <= here.merchants.peak("other") <= 8
        assert (here.merchants.count("shop"), here.merchants.count("other")) == (60, 60)


async def test_one_dead_merchant_slows_nobody(settings: Settings) -> None:
    """Though it has much to be told, and never answers: the others' events go as if it was not there."""
    async with yard(settings, concurrency=10, timeout_seconds=10.0) as here:
        await here.endpoint("dead", slow(60.0), merchant_id="m2")
        await here.endpoint("shop")
        await here.send_many(200, merchant_id="m2")
        await here.came("dead", 5)
        begun = time.monotonic()
        await here.send_many(100)
        await here.have("delivered", 100)
        assert time.monotonic() - begun < 8.0  # less than one of its calls takes
        assert here.merchants.peak("dead") <= 8
        assert here.merchants.count("shop") == 100


async def test_a_rate_is_kept(settings: Settings) -> None:
    """Calls a second as the endpoint was added with, within a tenth, by two workers together."""
    async with yard(settings, workers=2) as here:
        await here.endpoint("shop", rate_per_second=20.0)
        await here.send_many(50)
        await here.came("shop", 50)
        times = [at for _, at in here.merchants.arrivals("shop")]
        assert 49 / (times[-1] - times[0]) == pytest.approx(20.0, rel=0.1)
        assert max(sum(at <= other < at + 1.0 for other in times) for at in times) <= 22


async def test_events_of_one_order_key_keep_their_order(settings: Settings) -> None:
    """Through failures, by two workers and to two endpoints; other keys, and events without one, pass."""
    async with yard(settings, workers=2, breaker_failures=0, max_tries=50, backoff_max_seconds=0.2) as here:
        for name in ("one", "other"):
            await here.endpoint(name, Cycle((status(500), ok(), ok(), status(503), ok())))
        await here.queue.pause("webhooks")
        keyed = [await here.send_many(10, order_key=key) for key in ("a", "b")]
        free = await here.send_many(5)
        await here.queue.resume("webhooks")
        await here.have("delivered", 50)
        for name in ("one", "other"):
            arrived = [identity for identity, _ in here.merchants.arrivals(name)]
            for ids in keyed:
                of_key = [identity for identity in arrived if identity in ids]
                assert list(dict.fromkeys(of_key)) == ids
                assert of_key == sorted(of_key, key=ids.index)
            assert set(free) <= set(arrived)


async def test_an_order_key_waits_and_others_pass(settings: Settings) -> None:
    """While the first of a key fails, its second waits; another key's goes at once. What is dead lets the next go."""
    async with yard(settings, max_tries=3, backoff_base_seconds=2.0) as here:
        await here.endpoint("shop", status(500), ok(), status(500), status(500), ok())
        first, second = await here.send_many(2, order_key="a")
        await here.came("shop")
        await here.house.queue.pause("webhooks_retry")
        other = await here.send(order_key="b")
        await here.is_("delivered", other)
        await here.house.queue.resume("webhooks_retry")
        await here.is_("delivered", second, within_s=20)
        assert (await here.delivery(first))["status"] == "dead"
        assert [identity for identity, _ in here.merchants.arrivals("shop")] == [first, other, first, first, second]
