"""Events on their way in: stored once, whoever brings them, and found again when Redis has lost them."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from arq.connections import ArqRedis

from src.engine import dead_letters, keys
from src.enqueue import deserialize, serialize
from src.errors import Misuse, Snooze
from src.rules.webhook_event import event_id_of
from src.settings import Settings
from src.webhooks import deliver, reconcile
from src.webhooks.accept import Accepted
from src.webhooks.attempt import limits_of
from src.webhooks.submit import submit
from tests.harness.merchants import EVENT, MERCHANT, yard
from tests.simulators.merchant import ok, slow, status, verified

pytestmark = pytest.mark.anyio

PAYLOAD: dict[str, Any] = {"payment_id": "pay_456", "amount": 1_250_000}


async def test_an_event_nobody_subscribes_to_is_over_at_once(settings: Settings) -> None:
    """It is kept, so that an endpoint added later can be sent it."""
    async with yard(settings) as here:
        await here.endpoint("orders", events=["order.*"])
        event_id = await here.send()
        (info,) = await here.ended(event_id)
        assert (info.state, info.outcome) == ("done", "no_subscriber")
        assert await here.deps.merchants.events.get(event_id)
        assert await here.stored(event_id) == []


async def test_a_merchant_nobody_knows(settings: Settings) -> None:
    """A dead letter that says what to do, and that is delivered by its replay once that is done."""
    async with yard(settings) as here:
        event_id = await here.send(payload=PAYLOAD)
        (info,) = await here.ended(event_id)
        assert info.state == "dead"
        letter = await here.house.letter(event_id)
        assert "webhook endpoint add --merchant m1" in letter["error"]
        shown = await here.endpoint("shop")
        job_id = await dead_letters.replay_one(here.deps, here.queue, letter["_id"])
        (info,) = await here.ended(job_id)
        assert (info.state, info.outcome) == ("done", "delivered")
        (received,) = await here.came("shop")
        assert verified(received, shown.secret)["id"] == event_id


async def test_an_idempotency_key_is_one_event(settings: Settings) -> None:
    """From two producers at once, past the queue's own check: one event, one request; the second is told so."""
    async with yard(settings, workers=2) as here:
        await here.endpoint("shop", slow(0.05))
        ids = await asyncio.gather(*(here.put_raw(idempotency_key=f"key-{number // 4}") for number in range(40)))
        outcomes = [info.outcome for info in await here.ended(*ids)]
        assert outcomes.count("duplicate") == 30
        assert outcomes.count("delivered") == 10
        assert here.merchants.count("shop") == 10
        database = here.deps.database
        assert [await database[name].count_documents({}) for name in ("webhook_events", "webhook_deliveries")] == [
            10,
            10,
        ]


async def test_an_idempotency_key_is_one_event_for_several_endpoints(settings: Settings) -> None:
    """The same where each endpoint has a delivery of its own."""
    async with yard(settings, workers=2) as here:
        await here.endpoint("one")
        await here.endpoint("other")
        ids = await asyncio.gather(*(here.put_raw(idempotency_key="same") for _ in range(20)))
        outcomes = [info.outcome for info in await here.ended(*ids)]
        assert set(outcomes) == {"accepted", "duplicate"}
        await here.house.settled()
        assert [here.merchants.count(name) for name in ("one", "other")] == [1, 1]
        assert await here.count() == 2


async def test_a_producer_that_repeats_a_key_gets_the_first_id(settings: Settings) -> None:
    """While the first waits or runs; merchants have keys of their own."""
    async with yard(settings) as here:
        await here.endpoint("shop", slow(0.3))
        await here.endpoint("other", merchant_id="m2")
        first = await here.send(idempotency_key="k")
        assert await here.send(idempotency_key="k") == first
        assert await here.send(idempotency_key="k", merchant_id="m2") != first
        await here.house.settled()
        assert (here.merchants.count("shop"), here.merchants.count("other")) == (1, 1)


async def test_a_key_used_again_with_another_payload(settings: Settings) -> None:
    """The first stands and nothing is sent; `submit` refuses it, and repeats the id where the payload is the same."""
    async with yard(settings) as here:
        await here.endpoint("shop")
        first = await here.put_raw(idempotency_key="k", payload={"n": 1})
        await here.ended(first)
        (info,) = await here.ended(await here.put_raw(idempotency_key="k", payload={"n": 2}))
        assert info.outcome == "duplicate"
        again = {"merchant_id": MERCHANT, "event": EVENT, "idempotency_key": "k"}
        submitted = await submit(here.deps, here.queue, payload={"n": 1}, **again)
        assert (submitted.event_id, submitted.is_duplicate) == (first, True)
        with pytest.raises(Misuse, match="another payload"):
            await submit(here.deps, here.queue, payload={"n": 2}, **again)
        await here.house.settled()
        assert here.merchants.count("shop") == 1


async def test_a_duplicate_that_meets_a_closed_endpoint_leaves_the_first_alone(settings: Settings) -> None:
    """What was delivered stays delivered, however the endpoint stands when its key comes again."""
    async with yard(settings, breaker_failures=2, max_tries=1) as here:
        shown = await here.endpoint("shop", ok(), status(500))
        first = await here.put_raw(idempotency_key="k")
        await here.ended(first)
        await here.ended(await here.send(), await here.send())
        gate = await here.deps.merchants.gate.closed([shown.endpoint.endpoint_id])
        assert gate[shown.endpoint.endpoint_id][0] == 2
        (info,) = await here.ended(await here.put_raw(idempotency_key="k"))
        assert info.outcome == "duplicate"
        assert (await here.delivery(first))["status"] == "delivered"


async def test_what_cannot_be_sent_is_a_dead_letter(settings: Settings) -> None:
    """Of a producer without our helper, which would have refused it: at once, with the reason, and nothing stored."""
    async with yard(settings) as here:
        await here.endpoint("shop")
        wrong: list[dict[str, Any]] = [{"event": "bad event\r\nX: 1"}, {"payload": {"x": "y" * 262_144}}]
        infos = await here.ended(*[await here.put_raw(**each) for each in wrong])
        assert [info.state for info in infos] == ["dead", "dead"]
        assert "payment.completed; " in str(infos[0].error)
        assert "at most 262144" in str(infos[1].error)
        assert here.merchants.count("shop") == 0
        assert await here.count() == 0


async def test_a_plain_arq_client_can_send(settings: Settings) -> None:
    """With positional arguments, and an id that has dots: the merchant's is made of it, the same each time."""
    async with yard(settings) as here:
        shown = await here.endpoint("shop", status(500), ok())
        arq = ArqRedis(here.deps.redis.connection_pool, job_serializer=serialize, job_deserializer=deserialize)
        job = await arq.enqueue_job("deliver_webhook", MERCHANT, EVENT, PAYLOAD, _job_id="order.42.paid")
        assert job
        (info,) = await here.ended("order.42.paid")
        assert info.outcome == "delivered"
        received = await here.came("shop", 2)
        identity = received[0].headers["webhook-id"]
        assert identity.startswith("evt_")
        assert "." not in identity
        assert {each.headers["webhook-id"] for each in received} == {identity}
        assert verified(received[1], shown.secret)["data"] == PAYLOAD
        assert (await here.delivery(identity))["status"] == "delivered"


async def test_what_is_submitted_is_stored_before_it_is_sent(settings: Settings) -> None:
    """With Redis away it is accepted all the same; when that has lost its job, the reconciler gives it one, once."""
    async with yard(settings) as here:
        shown = await here.endpoint("shop")
        await here.endpoint("too")
        for lane in ("webhooks", "webhooks_retry"):
            await here.queue.pause(lane)
        submitted = await submit(here.deps, here.queue, merchant_id=MERCHANT, event=EVENT, payload=PAYLOAD)
        assert len(submitted.endpoint_ids) == 2
        event = await here.deps.merchants.events.get(submitted.event_id)
        assert event
        assert orjson.loads(event.body)["data"] == PAYLOAD
        for endpoint_id in submitted.endpoint_ids:
            await here.deps.redis.delete(keys.JOB + f"{submitted.event_id}:{endpoint_id}")
        await here.deps.redis.delete("webhooks")
        await _long_ago(here.deps.database, submitted.event_id)
        assert str(await reconcile.reconcile(here.deps)) == "reconciled"
        assert await reconcile.reconcile(here.deps)
        for lane in ("webhooks", "webhooks_retry"):
            await here.queue.resume(lane)
        (received,) = await here.came("shop")
        assert verified(received, shown.secret)["id"] == submitted.event_id
        await here.house.settled()
        assert (here.merchants.count("shop"), here.merchants.count("too")) == (1, 1)


async def test_the_reconciler_leaves_alone_what_has_a_job(settings: Settings) -> None:
    """And what is not late, being sent, or over."""
    async with yard(settings) as here:
        await here.endpoint("shop", slow(0.5), ok())
        sent = await here.send()
        await here.came("shop")
        await _long_ago(here.deps.database, sent)
        done = await here.send()
        await here.is_("delivered", done)
        outcome = await reconcile.reconcile(here.deps)
        assert getattr(outcome, "details")["found"] == 0  # noqa: B009 - a str to the type checker
        await here.is_("delivered", sent)
        assert here.merchants.count("shop") == 2


async def _long_ago(database: Any, event_id: str) -> None:
    late = datetime(2020, 1, 1, tzinfo=UTC)
    await database["webhook_deliveries"].update_many({"eventId": event_id}, {"$set": {"nextTryAt": late}})


async def test_a_dead_writers_deliveries_are_made_up_for(settings: Settings) -> None:
    """An event that was stored by a worker that died before its deliveries were: the next run completes it."""
    async with yard(settings) as here:
        await here.endpoint("one")
        await here.endpoint("other")
        await here.queue.pause("webhooks")
        event_id = await here.put_raw(idempotency_key="k")
        submitted = await submit(
            here.deps,
            here.queue,
            merchant_id=MERCHANT,
            event=EVENT,
            payload={"payment_id": "pay_456"},
            idempotency_key="k",
        )
        await here.deps.database["webhook_deliveries"].delete_many({"eventId": submitted.event_id})
        await here.queue.resume("webhooks")
        assert [info.outcome for info in await here.ended(event_id)] == ["duplicate"]
        assert await here.count(eventId=submitted.event_id) == 2


async def test_deliveries_expire_with_their_event(settings: Settings) -> None:
    """After the days that are set, so that the collections do not grow for ever."""
    async with yard(settings, retention_days=7) as here:
        await here.endpoint("shop")
        event_id = await here.send()
        stored = await here.is_("delivered", event_id)
        event = await here.deps.database["webhook_events"].find_one({"eventId": event_id})
        assert event
        for each in (stored, event):
            assert (each["expiresAt"] - each["createdAt"]).total_seconds() == 7 * 86_400


@pytest.mark.parametrize("is_over", [False, True], ids=["under way", "over"])
async def test_a_second_job_of_a_delivery_undoes_nothing(settings: Settings, is_over: bool) -> None:
    """A replay, or what the reconciler made, that meets a closed endpoint leaves alone what another job has sent."""
    async with yard(settings) as here:
        shown = await here.endpoint("shop", slow(0.4))
        endpoint_id, event_id = shown.endpoint.endpoint_id, await here.send()
        await here.came("shop")
        delivery = await here.known(f"{event_id}:{endpoint_id}")
        event = await here.deps.merchants.events.get(event_id)
        assert event
        if is_over:
            await here.is_("delivered", event_id)
        await here.deps.merchants.gate.leave(
            endpoint_id, "x", limits_of(here.deps, shown.endpoint), how="none", pause_s=9
        )
        accepted = Accepted(event, [delivery])
        with pytest.raises(Snooze):
            await deliver.carry(here.deps, delivery, accepted, "replay:another:1", is_replay=True)
        await here.ended(event_id)
        assert (await here.delivery(event_id))["status"] == "delivered"


async def test_an_id_that_is_used_again_brings_another_event(settings: Settings) -> None:
    """A plain arq client may use its job ids again: nobody is sent what was said of another merchant, or before."""
    async with yard(settings) as here:
        await here.endpoint("one", merchant_id="m1")
        await here.endpoint("two", merchant_id="m2")
        events = [event_id_of("pay-456", merchant, EVENT, {"of": merchant}) for merchant in ("m1", "m2")]
        for merchant, event_id in zip(("m1", "m2"), events, strict=True):
            arguments = {"merchant_id": merchant, "event": EVENT, "payload": {"of": merchant}}
            await here.house.queue.put([here.house.queue.prepare("deliver_webhook", arguments, job_id="pay-456")])
            await here.is_("delivered", event_id)
            await here.house.settled()
            await here.deps.redis.delete("arq:result:pay-456")
        assert [orjson.loads(each.body)["data"] for each in here.merchants.received("one")] == [{"of": "m1"}]
        assert [orjson.loads(each.body)["data"] for each in here.merchants.received("two")] == [{"of": "m2"}]
