"""Finds what Redis lost: deliveries in MongoDB that are due, and that no job carries."""

from datetime import timedelta

from loguru import logger

from ..catalog import send_webhook
from ..deps import Deps
from ..engine.job import Outcome
from ..rules.webhook_event import order_group
from .accept import now_ms

LATE_S = 60.0  # overdue for so long, a delivery may have lost its job
MOST = 1_000  # looked at in one round; the next one is a minute away


async def reconcile(deps: Deps) -> str:
    """Give each overdue delivery that has no job one. Safe to repeat.

    The new job's id says for which moment it stands, so that a round that finds the same again enqueues nothing; where
    an old one turns up after all, the second of them finds the delivery done.
    """
    now = now_ms()
    late = await deps.merchants.deliveries.overdue(now - timedelta(seconds=LATE_S), MOST)
    late = [delivery for delivery in late if not (delivery.sending and delivery.sending.until > now)]
    waits = await deps.hands.wait([delivery.job_id for delivery in late])
    lost = [delivery for delivery in late if delivery.job_id not in waits]
    for delivery in lost:
        at = int(delivery.next_try_at.timestamp()) if delivery.next_try_at else 0
        job_id, arguments = f"{delivery.delivery_id}~{at}", {"delivery_id": delivery.delivery_id}
        await deps.merchants.deliveries.hand_over(delivery, job_id)
        group = order_group(delivery.endpoint_id, delivery.order_key)
        await deps.hands.spawn(send_webhook.name, arguments, job_id=job_id, group=group)
    if lost:
        logger.warning("webhooks without a job were found", count=len(lost))
    return Outcome("reconciled", found=len(lost))
