"""Jobs that deliver webhooks."""

from collections.abc import Awaitable
from datetime import UTC, datetime
from random import uniform
from typing import Any

from .. import catalog
from ..clients import mongo, redis
from ..deps import Deps
from ..engine.boundary import in_words
from ..engine.job import Job
from ..engine.letters import REPLAY, Call, current_call, original
from ..errors import Snooze
from ..rules.webhook_event import event_id_of
from ..webhooks import deliver, reconcile
from ..webhooks.accept import NewEvent

AWAY_S = (1.0, 5.0)  # wait where MongoDB or Redis is away, at least and at most


async def deliver_webhook(
    deps: Deps,
    merchant_id: str,
    event: str,
    payload: dict[str, Any],
    idempotency_key: str | None = None,
    order_key: str | None = None,
) -> str:
    """Deliver an event to the merchant's subscribed endpoints. Safe to repeat and to kill: sent again with its id."""
    call = _call()
    event_id = event_id_of(original(call.job_id), merchant_id, event, payload)
    at = datetime.fromtimestamp(round(call.enqueued_at, 3), UTC) if call.enqueued_at else datetime.now(UTC)
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    new = NewEvent(event_id, merchant_id, event, payload, at, idempotency_key, order_key)
    is_replay = call.job_id.startswith(REPLAY)
    is_first = call.attempt == 1 and not is_replay
    return await _ours(deps, deliver.deliver(deps, new, call.job_id, is_first=is_first, is_replay=is_replay))


async def send_webhook(deps: Deps, delivery_id: str, replay_id: str | None = None) -> str:
    """Send an event that is stored to one endpoint. Safe to repeat and to kill."""
    call = _call()
    is_replay = call.job_id.startswith(REPLAY)
    return await _ours(deps, deliver.send(deps, delivery_id, call.job_id, replay_id=replay_id, is_replay=is_replay))


async def reconcile_webhooks(deps: Deps) -> str:
    """Find deliveries that are due and that no job carries, and give them one. Safe to repeat."""
    return await reconcile.reconcile(deps)


def _call() -> Call:
    call = current_call.get()
    if call is None:
        raise RuntimeError("a webhook's job has to be run as a job: its id names the event")
    return call


async def _ours(deps: Deps, work: Awaitable[str]) -> str:
    """`work`, where an outage of our own servers costs the event no try."""
    try:
        return await work
    except (*mongo.OUTAGES, *redis.OUTAGES) as e:
        raise Snooze(in_words(e, deps), after_s=uniform(*AWAY_S)) from e  # noqa: S311


JOBS = (
    Job(catalog.deliver_webhook, deliver_webhook),
    Job(catalog.send_webhook, send_webhook),
    Job(catalog.reconcile_webhooks, reconcile_webhooks),
)
