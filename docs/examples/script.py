"""A plain script: push work in every way there is, then follow one job to its end.

REDIS_URL=redis://localhost:6379/0 python script.py
"""

import asyncio
import logging
import os

from folkform_worker.enqueue import JobInfo, JobQueue, Misuse, Transient, WebhookEvent

FOLLOW_S = 60.0
log = logging.getLogger("shop")


async def push(queue: JobQueue) -> str:
    """Enqueue one job of each kind; returns the id of the first."""
    job_id = await queue.enqueue("sync_pages")

    # many of one kind: all are checked first, then stored in few round trips
    first, second = await queue.enqueue_many("sync_page_customers", [{"page_id": "100"}, {"page_id": "200"}])
    log.info("two pages: %s %s", first, second)

    # at most one with this key waits or runs: the second call gets the first one's id
    report = await queue.enqueue("sync_customers_incremental", unique_key="after-import", delay_s=600)
    again = await queue.enqueue("sync_customers_incremental", unique_key="after-import", delay_s=600)
    log.info("the same job: %s", report == again)

    # sooner than what waits in the same lane
    await queue.enqueue("sync_page_customers", page_id="300", mode="backfill", priority=5)

    # the key makes it safe to push the event again after a crash of yours
    await queue.enqueue_webhook("m1", "payment.completed", {"payment_id": "pay_456"}, idempotency_key="pay_456")
    await queue.enqueue_webhooks(
        [
            WebhookEvent("m1", "payment.refunded", {"payment_id": "pay_457"}, idempotency_key="pay_457:refund"),
            WebhookEvent("m2", "payment.completed", {"payment_id": "pay_458"}, idempotency_key="pay_458"),
        ]
    )
    return job_id


async def followed(queue: JobQueue, job_id: str) -> JobInfo | None:
    """The job when it is over. How it ended can be asked for a minute; None comes after that."""
    while True:
        info = await queue.job(job_id)
        if info is None or info.state in ("done", "dead"):
            return info
        await asyncio.sleep(0.2)


async def main() -> None:
    """Push, follow, and say what went wrong where something did."""
    async with JobQueue.connect(os.environ.get("REDIS_URL", "redis://localhost:6379/0")) as queue:
        try:
            await queue.enqueue("sync_page_customers", page="100")
        except Misuse as e:
            log.info("our mistake, and nothing was enqueued: %s", e)
        try:
            job_id = await push(queue)
        except Transient as e:
            raise SystemExit(f"Redis is away; the same can be pushed again: {e}") from e
        async with asyncio.timeout(FOLLOW_S):
            info = await followed(queue, job_id)
        if info:
            log.info("%s is %s: %s", info.job, info.state, info.outcome or info.error)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(main())
