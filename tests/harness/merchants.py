"""Merchants on loopback, and a worker's lanes that tell them: what the tests of webhooks share."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from src.deps import Deps
from src.engine.facts import JobInfo
from src.engine.queue import new_id
from src.enqueue import JobQueue, WebhookEvent
from src.jobs.webhooks import JOBS
from src.settings import Settings, WebhookSettings
from src.store.webhook_records import Delivery
from src.webhooks import endpoints
from src.webhooks.endpoints import Shown
from tests.harness.lanes import PATIENCE_S, House, serving, until
from tests.simulators.merchant import Behaviour, Cycle, InLoop, Received, running

MERCHANT, EVENT = "m1", "payment.completed"
LOOPBACK = ip_network("127.0.0.0/8")


def with_webhooks(settings: Settings, **changed: Any) -> Settings:
    """`settings` that let webhooks go to loopback, tried again soon; `changed` are fields of WebhookSettings."""
    quick = {"backoff_base_seconds": 0.05, "timeout_seconds": 2.0, "allow_http": True, "allowed_networks": (LOOPBACK,)}
    return settings.replace(webhooks=WebhookSettings(**{**quick, **changed}))


@dataclass
class Yard:
    """Lanes that deliver to simulated merchants; `queue` is a producer's."""

    house: House
    merchants: InLoop
    queue: JobQueue

    @property
    def deps(self) -> Deps:
        """What the jobs use."""
        return self.house.deps

    async def endpoint(
        self, name: str, *script: Behaviour | Cycle, merchant_id: str = MERCHANT, **options: Any
    ) -> Shown:
        """A new endpoint of `merchant_id` at the simulated merchant `name`, who behaves as told."""
        if script:
            self.merchants.behave(name, *script)
        return await endpoints.add(self.deps, merchant_id=merchant_id, url=self.merchants.url(name), **options)

    async def send(self, event: str = EVENT, *, merchant_id: str = MERCHANT, **options: Any) -> str:
        """One event, as an app enqueues it; returns its id."""
        payload = options.pop("payload", {"payment_id": "pay_456"})
        return await self.queue.enqueue_webhook(merchant_id, event, payload, **options)

    async def send_many(self, count: int, *, merchant_id: str = MERCHANT, order_key: str | None = None) -> list[str]:
        """So many events with their numbers, at once; returns their ids."""
        return await self.queue.enqueue_webhooks(
            [WebhookEvent(merchant_id, EVENT, {"number": number}, order_key=order_key) for number in range(count)]
        )

    async def put_raw(self, **arguments: Any) -> str:
        """A `deliver_webhook` job that no unique key of the queue keeps from being one of two; returns its id."""
        arguments = {"merchant_id": MERCHANT, "event": EVENT, "payload": {"payment_id": "pay_456"}, **arguments}
        job = self.house.queue.prepare("deliver_webhook", arguments, job_id=f"evt_{new_id()}")
        return (await self.house.queue.put([job]))[0]

    async def ended(self, *job_ids: str) -> list[JobInfo]:
        """How these jobs ended, when they have."""
        return [await self.house.ended(job_id) for job_id in job_ids]

    async def stored(self, event_id: str) -> list[dict[str, Any]]:
        """The event's deliveries as they are stored, with their attempts."""
        return await self.deps.merchants.deliveries.of_event(event_id)

    async def delivery(self, event_id: str) -> dict[str, Any]:
        """The one delivery of an event."""
        (found,) = await self.stored(event_id)
        return found

    async def is_(self, status: str, event_id: str, *, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """The one delivery of an event, as soon as it has that status."""

        async def look() -> dict[str, Any] | None:
            found = await self.stored(event_id)
            return found[0] if found and found[0]["status"] == status else None

        return await until(look, within_s)

    async def known(self, delivery_id: str) -> Delivery:
        """A delivery as the service reads it."""
        found = await self.deps.merchants.deliveries.get(delivery_id)
        assert found
        return found

    async def have(self, status: str, count: int, *, within_s: float = PATIENCE_S) -> None:
        """When so many deliveries have that status."""

        async def look() -> bool:
            return await self.count(status=status) >= count

        await until(look, within_s)

    async def count(self, **query: Any) -> int:
        """How many deliveries fit a query of MongoDB."""
        return int(await self.deps.database["webhook_deliveries"].count_documents(query))

    async def set_endpoints(self, **fields: Any) -> None:
        """Write these fields of all endpoints, as time or another key would have them."""
        await self.deps.database["webhook_endpoints"].update_many({}, {"$set": fields})
        await self.deps.merchants.gate.changed()

    async def came(self, name: str, count: int = 1, within_s: float = PATIENCE_S) -> list[Received]:
        """What a merchant has received, as soon as that is so many."""
        return await self.merchants.wait_for(name, count, within_s)


async def reached(look: Callable[[], Any], within_s: float = PATIENCE_S) -> None:
    """When `look` says so."""

    async def ask() -> bool:
        return bool(look())

    await until(ask, within_s)


async def stays(is_so: Callable[[], Awaitable[bool]], for_s: float) -> None:
    """That something stays as it is for so long."""
    ends_at = time.monotonic() + for_s

    async def look() -> bool:
        assert await is_so()
        return time.monotonic() >= ends_at

    await until(look, for_s + PATIENCE_S)


@asynccontextmanager
async def yard(settings: Settings, *, workers: int = 1, concurrency: int = 50, **changed: Any) -> AsyncIterator[Yard]:
    """Merchants, and `workers` workers that deliver to them; `changed` are fields of WebhookSettings."""
    settings = with_webhooks(settings, **changed)
    async with AsyncExitStack() as stack:
        merchants = await stack.enter_async_context(running())
        houses = [
            await stack.enter_async_context(
                serving(settings, *JOBS, keep_result_seconds=600, max_concurrent_jobs=concurrency)
            )
            for _ in range(workers)
        ]
        yield Yard(houses[0], merchants, JobQueue(houses[0].redis))
