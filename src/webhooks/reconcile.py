"""Finds what Redis lost: deliveries in MongoDB that are due, and that no job carries."""

from datetime import timedelta

from loguru import logger

from ..catalog import send_webhook
from ..deps import Deps
from ..engine.job import Outcome
from .accept import now_ms

LATE_S = 60.0  # overdue for so long, a delivery may have lost its job
MOST = 1_000  # looked at in one round; the next one is a minute away


async def reconcile(deps: Deps) -> str:
    """Give each overdue delivery a job. Safe to repeat, and where one carries it after all: the second finds it done.

    Its id says for which moment it stands, so that a round that finds the same delivery again enqueues nothing.
    """
    late = await deps.merchants.deliveries.overdue(now_ms() - timedelta(seconds=LATE_S), MOST)
    count = 0
    for delivery in late:
        if delivery.sending and delivery.sending.until > now_ms():
            continue
        at = int(delivery.next_try_at.timestamp()) if delivery.next_try_at else 0
        job_id = f"{delivery.delivery_id}~{at}"
        count += await deps.hands.spawn(send_webhook.name, {"delivery_id": delivery.delivery_id}, job_id=job_id)
    if count:
        logger.warning("webhooks without a job were found", count=count)
    return Outcome("reconciled", found=count)
