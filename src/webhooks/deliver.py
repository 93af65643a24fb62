"""What the jobs do: take an event in, and carry each of its deliveries to its end."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

from loguru import logger

from ..catalog import send_webhook
from ..clients.merchants.turnstile import Closed, Permit
from ..deps import Deps
from ..engine.job import Outcome
from ..errors import Permanent, Snooze, Transient
from ..rules.webhook_event import order_group
from ..store.webhook_endpoints import Endpoint
from ..store.webhook_records import Change, Delivery, Sending
from .accept import Accepted, NewEvent, body_for, complete, now_ms, of_merchant, sending_now, store, undo, wanted
from .attempt import Ended, attempt, insist, interrupted, limits_of
from .turn import ELSEWHERE_S, begun, is_alive, permit_for, sent_away


async def deliver(deps: Deps, new: NewEvent, job_id: str, *, is_first: bool, is_replay: bool) -> str:
    """Take `new` in, and send it where one endpoint gets it; more get a job each. Safe to repeat and to kill.

    Raises Misuse for what cannot be sent, Transient for the next try, Snooze where no try was made, Permanent when all
    tries are spent.
    """
    accepted = deps.merchants.aside.pop(job_id)
    if accepted is None and not is_first:
        accepted = await _known(deps, new.event_id, job_id)
    if accepted is None:
        accepted, permit, sending = await _taken_in(deps, new, job_id)
    else:
        permit, sending = None, None
    if accepted.is_duplicate:
        return _duplicate(new, accepted)
    order_key = accepted.event.order_key
    if len(accepted.event.endpoint_ids) == 1 and not order_key:
        delivery = accepted.deliveries[0]
        return await carry(deps, delivery, accepted, job_id, permit=permit, sending=sending, is_replay=is_replay)
    open_ = [each for each in accepted.deliveries if each.status in ("pending", "parked")]
    for delivery in open_:
        if delivery.job_id == job_id:  # in an earlier life this job was to call its only endpoint itself
            await deps.merchants.deliveries.hand_over(delivery, delivery.delivery_id)
            delivery = replace(delivery, job_id=delivery.delivery_id)
        arguments, group = {"delivery_id": delivery.delivery_id}, order_group(delivery.endpoint_id, order_key)
        await deps.hands.spawn(send_webhook.name, arguments, job_id=delivery.job_id, group=group)
    word = "accepted" if accepted.deliveries else "no_subscriber"
    return Outcome(word, event_id=accepted.event.event_id, endpoints=len(accepted.deliveries))


async def send(deps: Deps, delivery_id: str, job_id: str, *, replay_id: str | None, is_replay: bool) -> str:
    """Carry one delivery of a stored event. Raises as `deliver` does."""
    if aside := deps.merchants.aside.pop(job_id):
        return await carry(deps, aside.deliveries[0], aside, job_id, is_replay=is_replay)
    delivery = await deps.merchants.deliveries.get(delivery_id)
    # a replay of its dead letter comes under another id, and is not what was cancelled
    if replay_id and job_id.endswith(replay_id) and (delivery is None or delivery.replay_id != replay_id):
        return Outcome("cancelled", delivery_id=delivery_id)
    if delivery is None:
        return Outcome("gone", delivery_id=delivery_id)
    event = await deps.merchants.events.get(delivery.event_id)
    if event is None:
        await deps.merchants.deliveries.drop([delivery_id])
        return Outcome("gone", delivery_id=delivery_id)  # its event was a duplicate, or is too old to be kept
    return await carry(deps, delivery, Accepted(event, [delivery]), job_id, is_replay=is_replay)


async def carry(
    deps: Deps,
    delivery: Delivery,
    accepted: Accepted,
    job_id: str,
    *,
    permit: Permit | None = None,
    sending: Sending | None = None,
    is_replay: bool = False,
) -> str:
    """Try one delivery. `permit`, `sending`: where its call may begin, and is noted, already."""
    if is_replay and delivery.status == "dead":
        await deps.merchants.deliveries.reopen([delivery], [now_ms()], [job_id], None)
        delivery = replace(delivery, status="pending", tries=0)
    if over := _over(delivery, job_id, is_replay=is_replay):
        return over
    deps.merchants.turnstile.is_back(delivery.endpoint_id, job_id)
    if not (permit or sending) and deps.merchants.turnstile.is_crowded(delivery.endpoint_id, len(accepted.event.body)):
        raise sent_away(deps, delivery, accepted, job_id)
    endpoint = accepted.endpoints.get(delivery.endpoint_id) or await _endpoint(deps, delivery)
    if endpoint and endpoint.is_enabled and permit is None:
        permit = await permit_for(deps, delivery, accepted, endpoint, sending, job_id)
        if accepted.version and permit.version != accepted.version:  # one was changed while it waited
            endpoint = await _endpoint(deps, delivery)
    if not (endpoint and endpoint.is_enabled and permit):
        if permit:
            await deps.merchants.turnstile.leave(permit, None, how="none")
        return await _rested(deps, delivery, endpoint, job_id)
    if sending is None:
        sending = await begun(deps, delivery, permit, job_id)
        delivery = replace(delivery, attempts=delivery.attempts + (delivery.sending is not None))  # the lost one counts
    ended = await attempt(deps, delivery, accepted.event, endpoint, permit, sending)
    if job_ids := deps.merchants.turnstile.called_back(endpoint.endpoint_id):
        await deps.hands.hurry([(each, 0.0) for each in job_ids])
    return _outcome(delivery, ended)


async def _endpoint(deps: Deps, delivery: Delivery) -> Endpoint | None:
    of_merchant_ = await deps.merchants.endpoints.of_merchant(delivery.merchant_id)
    return next((each for each in of_merchant_ if each.endpoint_id == delivery.endpoint_id), None)


def _over(delivery: Delivery, job_id: str, *, is_replay: bool) -> Outcome | None:
    """How it ended, where there is nothing more to do for this job. Raises Permanent where it was given up."""
    details = {"event_id": delivery.event_id, "endpoint_id": delivery.endpoint_id}
    if delivery.status == "dead":
        raise Permanent(_lost(delivery, delivery.error or "it failed for good"))
    if delivery.status == "delivered":
        return Outcome("delivered", **details)
    if delivery.job_id != job_id and not is_replay:
        return Outcome("handed_over", **details)  # a replay carries it now, with tries of its own
    return None


async def _known(deps: Deps, event_id: str, job_id: str) -> Accepted | None:
    event = await deps.merchants.events.get(event_id)
    return Accepted(event, await complete(deps, event, job_id)) if event else None


async def _taken_in(deps: Deps, new: NewEvent, job_id: str) -> tuple[Accepted, Permit | None, Sending | None]:
    """Store it. Where one endpoint gets it and can be called now, leave to call it comes with it.

    It is stored for the endpoints last seen, while Redis is asked whether any was changed: that saves waiting for
    MongoDB once more. Where one was, it is taken back before anybody has seen it.
    """
    body, merchants = body_for(new), deps.merchants
    if recent := merchants.endpoints.recent(new.merchant_id):
        endpoints, version = recent
        taken = await _stored(deps, new, body, wanted(endpoints, new), job_id, version, is_sure=False)
        if taken:
            return taken
    version = await merchants.gate.version()
    endpoints = await of_merchant(deps, new.merchant_id)
    merchants.endpoints.remember(new.merchant_id, endpoints, version)
    taken = await _stored(deps, new, body, wanted(endpoints, new), job_id, version, is_sure=True)
    assert taken is not None  # noqa: S101 - for the type checker
    return taken


async def _stored(
    deps: Deps,
    new: NewEvent,
    body: bytes,
    endpoints: dict[str, Endpoint],
    job_id: str,
    version: bytes,
    *,
    is_sure: bool,
) -> tuple[Accepted, Permit | None, Sending | None] | None:
    """As `_taken_in`; None, with nothing stored, where the version of all endpoints is another by now."""
    is_direct = len(endpoints) == 1 and not new.order_key  # else the job hands the deliveries on, and its id is taken
    job_ids = [job_id if is_direct else f"{new.event_id}:{each}" for each in endpoints]
    begins = is_direct and all(
        deps.merchants.turnstile.is_free(each.endpoint_id, limits_of(deps, each)) for each in endpoints.values()
    )
    sending = sending_now(deps, job_id) if begins else None
    asked = asyncio.ensure_future(_entered(deps, new, endpoints) if begins else _nothing())
    storing = store(deps, new, body, endpoints, job_ids, sending, durably=not is_direct)
    try:
        entered, stored = await asyncio.gather(asked, storing, return_exceptions=True)
    except BaseException:
        await _not_used(deps, asked)
        raise
    permit = entered if isinstance(entered, Permit) else None
    is_new = isinstance(stored, Accepted) and not stored.is_known
    is_outdated = not is_sure and version != (permit.version if permit else await deps.merchants.gate.version())
    if permit and (is_outdated or not is_new):
        await deps.merchants.turnstile.leave(permit, None, how="none")
        permit = None
    if isinstance(stored, BaseException):
        raise stored
    if not is_new:
        return stored, None, None
    if is_outdated:
        await undo(deps, stored)
        return None
    if isinstance(entered, BaseException):  # the delivery says that somebody calls, and nobody does
        (delivery,) = stored.deliveries
        await deps.merchants.deliveries.settle(Change(delivery.delivery_id, next_try_at=now_ms()))
        if not isinstance(entered, Closed):
            raise entered
        stored, sending = replace(stored, deliveries=[replace(delivery, sending=None)]), None
    return replace(stored, version=version), permit, sending


async def _entered(deps: Deps, new: NewEvent, endpoints: dict[str, Endpoint]) -> Permit | None:
    (endpoint,) = endpoints.values()
    call = f"{new.event_id}:{endpoint.endpoint_id}"
    return await deps.merchants.turnstile.enter_now(endpoint.endpoint_id, call, limits_of(deps, endpoint))


async def _not_used(deps: Deps, asked: "asyncio.Future[Permit | None]") -> None:
    """We are cut: give back what leave to call has come."""
    if asked.done() and not asked.cancelled() and not asked.exception() and (permit := asked.result()):
        with suppress(Exception):
            await deps.merchants.turnstile.leave(permit, None, how="none")


async def _nothing() -> None:
    """Where there is nothing to wait for."""


def _duplicate(new: NewEvent, accepted: Accepted) -> Outcome:
    if not accepted.is_same:
        logger.warning(
            "idempotency key used again with another payload, the first one stands",
            merchant_id=new.merchant_id,
            event=new.event,
            event_id=accepted.event.event_id,
        )
    return Outcome("duplicate", event_id=accepted.event.event_id, is_same=accepted.is_same)


async def _rested(deps: Deps, delivery: Delivery, endpoint: Endpoint | None, job_id: str) -> str:
    """Its endpoint is disabled: it waits, with no job, until a person enables that."""
    why = f"its endpoint is disabled: {endpoint.disabled_reason}" if endpoint else "its endpoint is gone"
    change = Change(delivery.delivery_id, "parked", error=why, only_idle=True)
    if was := delivery.sending:
        if is_alive(was, job_id):
            raise Snooze("somebody else is sending it", after_s=ELSEWHERE_S)
        change = replace(change, attempts=(interrupted(delivery, was),), only_from=was, only_idle=False)
    await insist(lambda: deps.merchants.deliveries.settle(change))
    now = await _endpoint(deps, delivery)
    if now and now.is_enabled:  # since we looked: what it had parked was let go, and this was not among it yet
        raise Snooze("its endpoint is enabled again", after_s=0.0)
    return Outcome("parked", event_id=delivery.event_id, endpoint_id=delivery.endpoint_id, because=why)


def _lost(delivery: Delivery, error: str) -> str:
    return f"event {delivery.event_id} did not reach endpoint {delivery.endpoint_id}: {error}"


def _outcome(delivery: Delivery, ended: Ended) -> str:
    details: dict[str, Any] = {"event_id": delivery.event_id, "endpoint_id": delivery.endpoint_id}
    if ended.kind == "delivered":
        return Outcome("delivered", **details)
    if ended.kind == "dead":
        raise Permanent(_lost(delivery, ended.error))
    if ended.kind == "retry":
        raise Transient(_lost(delivery, ended.error), retry_after_s=ended.again_in_s, is_exact=True)
    raise Snooze(_lost(delivery, ended.error), after_s=ended.again_in_s)
