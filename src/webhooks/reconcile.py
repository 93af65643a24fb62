"""Finds what Redis lost: deliveries in MongoDB that are due, and that no job carries."""

from datetime import timedelta

from loguru import logger

from ..catalog import send_webhook
from ..deps import Deps
from ..engine.job import Outcome
from ..rules.webhook_event import order_group
from ..store.webhook_records import Delivery
from .accept import now_ms

LATE_S = 60.0  # overdue for so long, a delivery may have lost its job
MOST = 1_000  # looked at together


async def reconcile(deps: Deps) -> str:
    """Give each overdue delivery that has no job one. Safe to repeat.

    The new job's id says for which moment it stands, so that a round that finds the same again enqueues nothing; where
    an old one turns up after all, the second of them finds the delivery done.
    """
    count, last = 0, None
    before = now_ms() - timedelta(seconds=LATE_S)
    while late := await deps.merchants.deliveries.overdue(before, MOST, last):
        count, last = count + await _given_jobs(deps, late), late[-1]
    if count:
        logger.warning("webhooks without a job were found", count=count)
    return Outcome("reconciled", found=count)


async def _given_jobs(deps: Deps, late: list[Delivery]) -> int:
    idle = [delivery for delivery in late if not (delivery.sending and delivery.sending.until > now_ms())]
    waits = await deps.hands.wait([delivery.job_id for delivery in idle])
    lost = [delivery for delivery in idle if delivery.job_id not in waits]
    for delivery in lost:
        at = int(delivery.next_try_at.timestamp()) if delivery.next_try_at else 0
        job_id, arguments = f"{delivery.delivery_id}~{at}", {"delivery_id": delivery.delivery_id}
        await deps.merchants.deliveries.hand_over(delivery, job_id)
        group = order_group(delivery.endpoint_id, delivery.order_key)
        await deps.hands.spawn(send_webhook.name, arguments, job_id=job_id, group=group)
    return len(lost)
