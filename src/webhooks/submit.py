"""Events that come by MongoDB first: from the command line, and from whoever has to answer only when they are safe."""

from dataclasses import dataclass
from typing import Any

from loguru import logger

from ..catalog import send_webhook
from ..deps import Deps
from ..engine.queue import Queue, new_id
from ..errors import Misuse, Transient
from ..rules.webhook_event import order_group
from .accept import NewEvent, body_for, now_ms, of_merchant, store, wanted


@dataclass(frozen=True, slots=True)
class Submitted:
    """An event that is stored. `is_duplicate`: its idempotency key came before, and this is the event it came with."""

    event_id: str
    endpoint_ids: tuple[str, ...]
    is_duplicate: bool = False


async def submit(
    deps: Deps,
    queue: Queue,
    *,
    merchant_id: str,
    event: str,
    payload: dict[str, Any],
    idempotency_key: str | None = None,
    order_key: str | None = None,
) -> Submitted:
    """Store an event, and have it delivered. On return it is stored; where Redis is away it is sent when that is back.

    With an `idempotency_key` safe to repeat. Raises Misuse for an event that cannot be sent, for an unknown merchant,
    and where the key has come with another payload.
    """
    new = NewEvent(f"evt_{new_id()}", merchant_id, event, payload, now_ms(), idempotency_key, order_key)
    body = body_for(new)
    endpoints = wanted(await of_merchant(deps, merchant_id), new)
    job_ids = [f"{new.event_id}:{endpoint_id}" for endpoint_id in endpoints]
    accepted = await store(deps, new, body, endpoints, job_ids, durably=True)
    stored = accepted.event
    if accepted.is_duplicate:
        if not accepted.is_same:
            raise Misuse(f"idempotency key {idempotency_key!r} came with another payload before: {stored.event_id}")
        return Submitted(stored.event_id, stored.endpoint_ids, is_duplicate=True)
    jobs = [
        queue.prepare(
            send_webhook.name,
            {"delivery_id": delivery.delivery_id},
            job_id=delivery.job_id,
            group=order_group(delivery.endpoint_id, order_key),
        )
        for delivery in accepted.deliveries
    ]
    try:
        await queue.put(jobs)
    except Transient as e:
        logger.warning("webhook waits for Redis", event_id=stored.event_id, because=str(e))
    return Submitted(stored.event_id, stored.endpoint_ids)
