"""Push work to the service from any asyncio app. The whole of it is told, with examples, in docs/enqueue.md.

    async with JobQueue.connect("redis://localhost:6379/0") as queue:
        job_id = await queue.enqueue("sync_page_customers", page_id="100")

In an app that has a package `src` of its own: `from folkform_worker.enqueue import JobQueue`. Imports arq, pydantic and
redis, and nothing of what the jobs use. `serialize` and `deserialize` are what a plain arq client has to be given.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError, TimeoutError

from .catalog import CATALOG, deliver_webhook
from .clients.quick_pool import Parser, QuickPool
from .engine.facts import JobInfo, QueueStats
from .engine.queue import NewJob, Queue, new_id
from .engine.wire import JobError, deserialize, serialize
from .errors import Misuse, Transient
from .rules.webhook_event import checked_data, order_group

__all__ = [
    "JobError",
    "JobInfo",
    "JobQueue",
    "Misuse",
    "QueueStats",
    "Transient",
    "WebhookEvent",
    "deserialize",
    "serialize",
]

T = TypeVar("T")
TURN = 500  # jobs prepared at a stretch: some 5 ms


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """What happened, for every endpoint of the merchant that has subscribed to `event` (`payment.completed`).

    The same `idempotency_key` of one merchant is accepted once. Events of one merchant with the same `order_key` (the
    id of a payment) reach an endpoint in the order they were enqueued, each when the one before is over.
    """

    merchant_id: str
    event: str
    payload: dict[str, Any]
    idempotency_key: str | None = None
    order_key: str | None = None


class JobQueue(Queue):
    """The jobs of this service, on a Redis connection of the app's own or one made by `connect`.

    Every method raises Misuse for what is wrong in the call, with nothing enqueued, and Transient when Redis cannot be
    reached in time. What returns an id is stored.
    """

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, CATALOG)

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str = "redis://localhost:6379/0") -> AsyncIterator[Self]:
        """A queue on a connection of its own, closed on leaving. Connects at the first call."""
        pool = QuickPool.from_url(
            url,
            max_connections=20,
            parser_class=Parser,
            timeout=5.0,
            socket_connect_timeout=2.0,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), 3),
            retry_on_error=[ConnectionError, TimeoutError, OSError],
        )
        redis: Redis = Redis(connection_pool=pool)
        try:
            yield cls(redis)
        finally:
            await redis.aclose(close_connection_pool=True)

    async def enqueue(
        self,
        job: str,
        /,
        *,
        priority: int = 0,
        delay_s: float = 0.0,
        unique_key: str | None = None,
        **arguments: Any,
    ) -> str:
        """Enqueue one job and return its id; of a duplicate, the id of the first.

        `priority`: 0 or more; each step is a head start of LANE_PRIORITY_HEAD_START_SECONDS over jobs of the lane that
        come later. `delay_s`: not before so many seconds from now. `unique_key`: at most one job of this name with this
        key waits or runs; some jobs bring a key of their own (one pass a page).
        """
        new = self.prepare(job, arguments, priority=priority, delay_s=delay_s, unique_key=unique_key)
        return (await self.put([new]))[0]

    async def enqueue_many(self, job: str, arguments: Sequence[dict[str, Any]], /, *, priority: int = 0) -> list[str]:
        """Enqueue `job` once for each of `arguments`, in few round trips; all are checked before any is stored."""
        return await self.put(await _in_turns(lambda each: self.prepare(job, each, priority=priority), arguments))

    async def enqueue_webhook(
        self,
        merchant_id: str,
        event: str,
        payload: dict[str, Any],
        idempotency_key: str | None = None,
        order_key: str | None = None,
    ) -> str:
        """Enqueue one event for a merchant's endpoints. `payload` is at most 256 KiB as JSON.

        The id that comes back is the job's and the event's: the merchant sees it as `webhook-id`.
        """
        return (await self.enqueue_webhooks([WebhookEvent(merchant_id, event, payload, idempotency_key, order_key)]))[0]

    async def enqueue_webhooks(self, events: Sequence[WebhookEvent]) -> list[str]:
        """Enqueue many events, in few round trips; all are checked before any is stored. One id for each, in order."""
        return await self.put(await _in_turns(self._webhook, events))

    def _webhook(self, event: WebhookEvent) -> NewJob:
        keys = {"idempotency_key": event.idempotency_key, "order_key": event.order_key}
        checked_data(event.merchant_id, event.event, event.payload, **keys)
        key = event.idempotency_key
        arguments = {"merchant_id": event.merchant_id, "event": event.event, "payload": event.payload}
        arguments |= {name: value for name, value in keys.items() if value is not None}
        return self.prepare(
            deliver_webhook.name,
            arguments,
            unique_key=f"{len(event.merchant_id)}:{event.merchant_id}:{key}" if key else None,
            job_id=f"evt_{new_id()}",
            group=order_group(event.merchant_id, event.order_key),
        )


async def _in_turns(prepare: Callable[[T], NewJob], each: Sequence[T]) -> list[NewJob]:
    """Prepare all, and let the app's other tasks have their turn in between."""
    jobs = []
    for number, one in enumerate(each, 1):
        jobs.append(prepare(one))
        if number % TURN == 0:
            await asyncio.sleep(0)
    return jobs
