"""Events on their way in: checked, written as the bytes that are sent, stored once, with a delivery per endpoint."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from ..deps import Deps
from ..errors import Misuse
from ..rules.webhook_event import body_of, checked_data, subscribes
from ..store.webhook_endpoints import Endpoint
from ..store.webhook_events import Event
from ..store.webhook_records import Delivery, Sending

DEAD_AFTER_S = 5.0  # beyond the call's own deadline, whoever made it is dead


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What a producer says happened. `created_at` is UTC, to the millisecond."""

    event_id: str
    merchant_id: str
    event: str
    payload: dict[str, Any]
    created_at: datetime
    idempotency_key: str | None = None
    order_key: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that is stored. `is_known`: it was before; `is_duplicate`: under another id; `is_same`: as it is now."""

    event: Event
    deliveries: list[Delivery]
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    version: bytes = b""  # of all endpoints, when these were read (`Gate.version`)
    is_known: bool = False
    is_duplicate: bool = False
    is_same: bool = True


def now_ms() -> datetime:
    """This moment as MongoDB keeps it, to the millisecond."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def sending_now(deps: Deps, job_id: str) -> Sending:
    """The mark of a call that begins now."""
    now = now_ms()
    longest_s = deps.settings.webhooks.timeout_seconds + DEAD_AFTER_S
    return Sending(now, now + timedelta(seconds=longest_s), job_id)


def body_for(new: NewEvent) -> bytes:
    """The body of the event. Raises Misuse for what cannot be sent."""
    keys = {"idempotency_key": new.idempotency_key, "order_key": new.order_key}
    return body_of(
        new.event_id, new.event, new.created_at, checked_data(new.merchant_id, new.event, new.payload, **keys)
    )


async def of_merchant(deps: Deps, merchant_id: str) -> list[Endpoint]:
    """The merchant's endpoints, disabled ones too. Raises Misuse for a merchant nobody knows."""
    endpoints = await deps.merchants.endpoints.of_merchant(merchant_id)
    if not endpoints:
        raise Misuse(
            f"merchant {merchant_id} is unknown: add an endpoint with "
            f"`webhook endpoint add --merchant {merchant_id} --url https://...`"
        )
    return endpoints


def wanted(endpoints: Sequence[Endpoint], new: NewEvent) -> dict[str, Endpoint]:
    """Those that are enabled and subscribe to it, by id."""
    return {each.endpoint_id: each for each in endpoints if each.is_enabled and subscribes(each.events, new.event)}


async def store(
    deps: Deps,
    new: NewEvent,
    body: bytes,
    endpoints: dict[str, Endpoint],
    job_ids: Sequence[str],
    sending: Sending | None = None,
    *,
    durably: bool = False,
) -> Accepted:
    """Store the event and a delivery for each of `endpoints`, carried by the job of the same place in `job_ids`.

    Safe to repeat: an event that is there already is completed and returned as it is. `sending`: where the one call
    there is to make begins at once; `durably`: all is on the disk on return.
    """
    event = Event(
        new.event_id,
        new.merchant_id,
        new.event,
        body,
        tuple(endpoints),
        new.created_at,
        new.idempotency_key,
        new.order_key,
    )
    deliveries = [
        Delivery(
            *(event.event_id, endpoint_id, event.merchant_id, event.event, job_id, event.created_at),
            next_try_at=now_ms(),
            sending=sending,
            order_key=event.order_key,
        )
        for endpoint_id, job_id in zip(endpoints, job_ids, strict=True)
    ]
    stored, were_new = await asyncio.gather(
        deps.merchants.events.add(event, durably=durably),
        asyncio.gather(*(deps.merchants.deliveries.add(each, durably=durably) for each in deliveries)),
    )
    if stored is event and all(were_new):
        return Accepted(event, deliveries, endpoints)
    if stored.event_id != event.event_id:
        await deps.merchants.deliveries.drop([each.delivery_id for each in deliveries])
        is_same = stored.event == event.event and orjson.loads(stored.body)["data"] == orjson.loads(body)["data"]
        known = await complete(deps, stored, stored.event_id)
        return Accepted(stored, known, is_known=True, is_duplicate=True, is_same=is_same)
    # the same job again: it may have died with some of it stored, or as it took back what it had stored for endpoints
    # that are no longer all
    if (stored.merchant_id, stored.event) != (event.merchant_id, event.event):
        raise Misuse(f"id {event.event_id} is that of another event: enqueue it under an id of its own")
    known = await complete(deps, stored, next(iter(job_ids), ""))
    if any(each.attempts or each.status != "pending" for each in known):  # it went on since: its endpoints are settled
        return Accepted(stored, known, endpoints, is_known=True)
    await deps.merchants.events.extend(event.event_id, event.endpoint_ids)
    stored = replace(stored, endpoint_ids=tuple(dict.fromkeys((*stored.endpoint_ids, *event.endpoint_ids))))
    return Accepted(stored, await complete(deps, stored, next(iter(job_ids), "")), endpoints, is_known=True)


async def undo(deps: Deps, accepted: Accepted) -> None:
    """Take back an event that was stored a moment ago, before anybody was told. Safe to repeat."""
    await deps.merchants.events.drop(accepted.event.event_id)
    await deps.merchants.deliveries.drop([each.delivery_id for each in accepted.deliveries])


async def complete(deps: Deps, event: Event, direct_job_id: str) -> list[Delivery]:
    """The deliveries of a stored event; those its first writer did not live to store are made up for.

    `direct_job_id`: the job that carries the delivery where there is but one.
    """
    found = []
    for endpoint_id in event.endpoint_ids:
        delivery_id = f"{event.event_id}:{endpoint_id}"
        delivery = await deps.merchants.deliveries.get(delivery_id)
        if delivery is None:
            job_id = direct_job_id if len(event.endpoint_ids) == 1 and not event.order_key else delivery_id
            delivery = Delivery(
                *(event.event_id, endpoint_id, event.merchant_id, event.event, job_id, event.created_at),
                next_try_at=now_ms(),
                order_key=event.order_key,
            )
            await deps.merchants.deliveries.add(delivery)
        found.append(delivery)
    return found
