"""An app that has an arq client already: give it our serializer, and it can push to us and follow a job.

REDIS_URL=redis://localhost:6379/0 python plain_arq.py
"""

import asyncio
import logging
import os

from arq import create_pool
from arq.connections import RedisSettings
from folkform_worker.enqueue import JobError, deserialize, serialize

FOLLOW_S = 60.0
log = logging.getLogger("shop")


async def main() -> None:
    """Push to arq's default queue, which the workers serve like a lane, or straight to a lane; then wait."""
    arq = await create_pool(
        RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://localhost:6379/0")),
        job_serializer=serialize,
        job_deserializer=deserialize,
    )
    try:
        await arq.enqueue_job("sync_page_customers", page_id="100", _queue_name="sync", _job_id="page-100")
        job = await arq.enqueue_job("sync_pages")
        if job is None:  # arq says None for a duplicate, and for a connection that dropped
            raise SystemExit("nobody knows whether it was enqueued")
        log.info("%s is %s", job.job_id, await job.status())
        log.info("sync_pages: %s", await job.result(timeout=FOLLOW_S))
    except JobError as e:
        log.info("sync_pages failed: %s", e)
    finally:
        await arq.aclose()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(main())
