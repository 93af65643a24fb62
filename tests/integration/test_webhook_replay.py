"""Sending again: by id, by what fits, what an endpoint never had; and putting a replay back."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from src.errors import Misuse
from src.settings import Settings
from src.store.webhook_events import Event
from src.store.webhook_records import Choice
from src.webhooks import endpoints, replay
from src.webhooks.accept import now_ms
from src.webhooks.replay import NOT_DELIVERED
from tests.harness.lanes import until
from tests.harness.merchants import EVENT, MERCHANT, Yard, yard
from tests.simulators.merchant import ok, status, verified

pytestmark = pytest.mark.anyio

FAST = 1_000.0
DEAD = Choice(statuses=("dead",))


async def dead(here: Yard, count: int, **options: Any) -> list[str]:
    """Events that are dead letters."""
    ids = [await here.send(payload={"number": number}, **options) for number in range(count)]
    assert {info.state for info in await here.ended(*ids)} == {"dead"}
    return ids


async def all_stored(here: Yard) -> list[dict[str, Any]]:
    """Everything there is of deliveries, and of letters."""
    found = list[dict[str, Any]]()
    for name in ("webhook_deliveries", "dead_letters"):
        found += [each async for each in here.deps.database[name].find().sort("_id")]
    return found


async def letters(here: Yard, ids: Sequence[str]) -> set[str]:
    """How the letters of these jobs stand."""
    return {(await here.house.letter(each))["status"] for each in ids}


async def test_an_event_is_sent_again_where_it_did_not_arrive(settings: Settings) -> None:
    """Not to the endpoints that had it; unless successes are asked for. Same id and bytes, a new signature."""
    async with yard(settings, max_tries=1) as here:
        await here.endpoint("good")
        shown = await here.endpoint("bad", status(500), ok())
        event_id = await here.send()
        await here.have("dead", 1)
        await here.house.settled()
        assert (await replay.replay_one(here.deps, here.queue, event_id)).enqueued == 1
        await here.have("delivered", 2)
        received = await here.came("bad", 2)
        assert received[0].body == received[1].body
        assert verified(received[1], shown.secret)["id"] == event_id
        assert here.merchants.count("good") == 1
        assert (await replay.replay_one(here.deps, here.queue, event_id)).matching == 0
        again = await replay.replay_one(here.deps, here.queue, event_id, ("delivered", *NOT_DELIVERED))
        assert again.enqueued == 2
        assert len(await here.came("good", 2)) == 2
        assert len(await here.came("bad", 3)) == 3


async def test_one_delivery_of_an_event_is_sent_again(settings: Settings) -> None:
    """The other that failed stays as it is; an id of nothing is refused."""
    async with yard(settings, max_tries=1) as here:
        wanted = (await here.endpoint("wanted", status(500), ok())).endpoint.endpoint_id
        await here.endpoint("other", status(500), ok())
        event_id = await here.send()
        await here.have("dead", 2)
        await here.house.settled()
        assert (await replay.replay_one(here.deps, here.queue, f"{event_id}:{wanted}")).enqueued == 1
        await here.have("delivered", 1)
        await here.house.settled()
        assert (here.merchants.count("wanted"), here.merchants.count("other")) == (2, 1)
        with pytest.raises(Misuse, match="evt_none"):
            await replay.replay_one(here.deps, here.queue, "evt_none")


async def test_what_fits_is_sent_again(settings: Settings) -> None:
    """By endpoint, merchant, event, status and time; the rest is left alone, and a dry run changes nothing."""
    async with yard(settings, max_tries=1, breaker_failures=0) as here:
        shop = (await here.endpoint("shop", *[status(500)] * 9, ok())).endpoint
        await here.endpoint("m2", status(500), merchant_id="m2")
        old = await dead(here, 3)
        since = now_ms()
        await dead(here, 2, event="order.created")
        wanted = await dead(here, 4)
        await dead(here, 2, merchant_id="m2")
        choice = Choice(MERCHANT, shop.endpoint_id, EVENT, ("dead",), since=since)
        before = await all_stored(here)
        dry = await replay.replay(here.deps, here.queue, choice, dry_run=True)
        assert (dry.matching, dry.enqueued) == (4, 0)
        assert await all_stored(here) == before
        here.merchants.clear()
        done = await replay.replay(here.deps, here.queue, choice, per_s=FAST)
        assert (done.matching, done.enqueued) == (4, 4)
        await here.have("delivered", 4)
        assert set(here.merchants.ids("shop")) == set(wanted)
        assert await letters(here, wanted) == {"replayed"}
        assert await letters(here, old) == {"dead"}
        until_then = Choice(MERCHANT, statuses=("dead",), until=since)
        assert (await replay.replay(here.deps, here.queue, until_then, dry_run=True)).matching == 3


async def test_successes_are_sent_again_only_where_asked_for(settings: Settings) -> None:
    """A choice without statuses is of all that did not arrive."""
    async with yard(settings, max_tries=1) as here:
        await here.endpoint("shop", ok(), status(500), ok())
        delivered = await here.send()
        await here.is_("delivered", delivered)
        await dead(here, 1)
        done = await replay.replay(here.deps, here.queue, Choice(MERCHANT))
        assert (done.matching, done.enqueued) == (1, 1)
        await here.have("delivered", 2)
        await here.house.settled()
        assert here.merchants.ids("shop")[delivered] == 1
        asked = await replay.replay(here.deps, here.queue, Choice(MERCHANT, statuses=("delivered",)), per_s=FAST)
        assert asked.enqueued == 2
        await here.came("shop", 5)


async def test_a_replay_keeps_its_pace(settings: Settings) -> None:
    """So many fall due in a second: what was down is not knocked down again."""
    async with yard(settings, max_tries=1, breaker_failures=0) as here:
        await here.endpoint("shop", *[status(500)] * 6, ok())
        await dead(here, 6)
        here.merchants.clear()
        await replay.replay(here.deps, here.queue, DEAD, per_s=5.0)
        await here.came("shop", 6)
        times = [at for _, at in here.merchants.arrivals("shop")]
        assert 0.9 <= times[-1] - times[0] <= 2.0
        with pytest.raises(Misuse, match="per-second"):
            await replay.replay(here.deps, here.queue, DEAD, per_s=0.0)


async def test_a_new_endpoint_gets_what_it_missed(settings: Settings) -> None:
    """What it subscribes to, each once, though hundreds came in one millisecond; what it had is not sent again."""
    async with yard(settings) as here:
        at, store = now_ms() - timedelta(hours=1), here.deps.merchants.events
        for number in range(450):
            event = EVENT if number % 2 else "order.created"
            body = b'{"id":"evt_%d","data":{}}' % number
            await store.add(Event(f"evt_{number}", MERCHANT, event, body, (), at))
        await store.add(Event("evt_other", "m2", EVENT, b"{}", (), at))
        shown = await here.endpoint("shop", events=["payment.*"])
        endpoint_id, window = shown.endpoint.endpoint_id, (at, at + timedelta(milliseconds=1))
        dry = await replay.replay_missing(here.deps, here.queue, endpoint_id, *window, dry_run=True)
        assert (dry.matching, dry.enqueued, await here.count()) == (225, 0, 0)
        assert (await replay.replay_missing(here.deps, here.queue, endpoint_id, at - timedelta(1), at)).enqueued == 0
        done = await replay.replay_missing(here.deps, here.queue, endpoint_id, *window, per_s=FAST)
        assert (done.matching, done.enqueued) == (225, 225)
        await here.have("delivered", 225)
        assert here.merchants.ids("shop") == {f"evt_{number}": 1 for number in range(1, 450, 2)}
        assert (await replay.replay_missing(here.deps, here.queue, endpoint_id, *window)).enqueued == 0
        await endpoints.disable(here.deps, endpoint_id, "a test")
        with pytest.raises(Misuse, match="webhook endpoint enable"):
            await replay.replay_missing(here.deps, here.queue, endpoint_id, *window)


async def test_cancelling_puts_back_what_was_not_tried(settings: Settings) -> None:
    """What was sent stays sent; the others are dead again, with their letters, and can be replayed again."""
    async with yard(settings, max_tries=1, breaker_failures=0) as here:
        await here.endpoint("shop", *[status(500)] * 10, ok())
        ids = await dead(here, 10)
        here.merchants.clear()
        done = await replay.replay(here.deps, here.queue, DEAD, per_s=2.0)
        await here.came("shop", 2)
        await here.have("delivered", 2)
        count = await replay.cancel(here.deps, done.replay_id)
        assert 5 <= count <= 8
        assert await replay.cancel(here.deps, done.replay_id) == 0
        assert await here.count(status="dead", nextTryAt=None, replayId=None) == count
        back = [event_id for event_id in ids if (await here.delivery(event_id))["status"] == "dead"]
        assert await letters(here, back) == {"dead"}
        again = await replay.replay(here.deps, here.queue, DEAD, per_s=FAST)
        assert again.enqueued == count
        await here.have("delivered", 10)
        await here.house.settled()
        assert sorted(here.merchants.ids("shop").items()) == sorted((event_id, 1) for event_id in ids)


async def test_cancelling_takes_back_what_it_made(settings: Settings) -> None:
    """Events that had no delivery for the endpoint have none again, and nothing arrives."""
    async with yard(settings) as here:
        await here.endpoint("orders", events=["order.*"])
        ids = [await here.send() for _ in range(5)]
        await here.ended(*ids)
        shown = await here.endpoint("shop")
        window = (datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1))
        done = await replay.replay_missing(here.deps, here.queue, shown.endpoint.endpoint_id, *window, per_s=1.0)
        assert done.enqueued == 5
        await here.came("shop")
        await here.have("delivered", 1)
        count = await replay.cancel(here.deps, done.replay_id)
        assert 3 <= count <= 4
        assert await here.count() == 5 - count
        again = await replay.replay_missing(here.deps, here.queue, shown.endpoint.endpoint_id, *window, per_s=FAST)
        assert again.enqueued == count
        await here.have("delivered", 5)
        assert set(here.merchants.ids("shop").values()) == {1}


async def test_cancelling_leaves_what_was_pending_with_its_next_try(settings: Settings) -> None:
    """Else nobody would find it again if Redis lost its job."""
    async with yard(settings, backoff_base_seconds=600.0) as here:
        await here.endpoint("shop", status(500), ok())
        event_id = await here.send()
        await here.came("shop")
        await here.is_("pending", event_id)
        await here.queue.pause("webhooks")
        done = await replay.replay_one(here.deps, here.queue, event_id)
        assert await replay.cancel(here.deps, done.replay_id) == 1
        stored = await here.delivery(event_id)
        assert stored["status"] == "pending"
        assert "nextTryAt" in stored


async def test_a_replay_that_succeeds_ends_the_automatic_tries(settings: Settings) -> None:
    """The retry that waited finds it delivered, and calls nobody."""
    async with yard(settings, backoff_base_seconds=600.0) as here:
        await here.endpoint("shop", status(500), ok())
        event_id = await here.send()

        async def waits() -> bool:
            info = await here.queue.job(event_id)
            return info is not None and info.state == "retry"

        await until(waits)
        assert (await replay.replay_one(here.deps, here.queue, event_id)).enqueued == 1
        await here.is_("delivered", event_id)
        await here.queue.hurry([(event_id, 0.0)])
        (info,) = await here.ended(event_id)
        assert info.outcome == "delivered"
        assert here.merchants.count("shop") == 2
