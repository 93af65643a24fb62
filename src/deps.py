"""Everything a job may use, opened once per process and closed in reverse order."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import httpx
from redis.asyncio import Redis
from redis.exceptions import LockError

from .clients import mongo
from .clients.channels import Channels, open_channels
from .clients.merchants.gate import Gate
from .clients.merchants.sender import Sender, open_sender
from .clients.merchants.turnstile import Turnstile
from .clients.mongo import Database, open_database
from .clients.pancake.client import PancakeClient, open_pancake
from .clients.pancake.tokens import TokenStore
from .clients.rate_limit import RateLimiter
from .clients.redis import OUTAGES, open_redis
from .errors import Permanent, Transient
from .rules.bounded import Bounded
from .rules.vault import Vault
from .settings import Settings
from .store.agents import Agents
from .store.alerts import Alerts
from .store.channel_tokens import ChannelTokens
from .store.conversations import Conversations
from .store.customers import customers
from .store.dead_letters import DeadLetters
from .store.health_checks import HealthChecks
from .store.job_runs import JobRuns
from .store.machine_state import MachineState
from .store.messages import Messages
from .store.notifications import Notifications
from .store.outbox import Outbox
from .store.pages import Pages
from .store.posts import posts
from .store.reply_policies import ReplyPolicies
from .store.response_reports import ResponseReports
from .store.rows import RowStore
from .store.run_document import Run
from .store.run_minutes import RunMinutes
from .store.schedules import Schedules
from .store.staff import Staff
from .store.sync_state import SyncStates
from .store.waiting import Waiting
from .store.webhook_deliveries import WebhookDeliveries
from .store.webhook_endpoints import WebhookEndpoints
from .store.webhook_events import WebhookEvents
from .sync.filler import Filled
from .sync.ingest import Ingest, open_ingest

MOST_ASIDE = 16 * 1024 * 1024  # bytes
MINT_LOCK_S = 60.0  # longer than a mint with its timeout takes

T = TypeVar("T")


class Hands(Protocol):
    """What a job may ask of the queue it runs in."""

    async def spawn(self, name: str, arguments: dict[str, Any], *, job_id: str | None = None, group: str = "") -> bool:
        """Hand a child job on. Returns False where another with its unique key waits or runs already.

        One that waits or runs already under `job_id` stands for it. `group`: see `Queue.prepare`.
        """

    async def hurry(self, due: Sequence[tuple[str, float]]) -> None:
        """Let waiting jobs run sooner: (job id, in how many seconds). One that runs now does so when it is put back."""

    async def wait(self, job_ids: Sequence[str]) -> set[str]:
        """Those of the jobs that wait or run."""

    async def off_slot(self, waiting: Awaitable[T]) -> T:
        """Await something without holding one of the worker's slots meanwhile."""


class NoHands:
    """Outside a worker there is no queue."""

    async def spawn(self, name: str, arguments: dict[str, Any], *, job_id: str | None = None, group: str = "") -> bool:
        """Raises RuntimeError."""
        raise RuntimeError(f"nobody is there to run {name}: jobs are spawned inside a worker or `python -m src run`")

    async def hurry(self, due: Sequence[tuple[str, float]]) -> None:
        """Nothing waits here."""

    async def wait(self, job_ids: Sequence[str]) -> set[str]:
        """None do."""
        return set()

    async def off_slot(self, waiting: Awaitable[T]) -> T:
        """There are no slots."""
        return await waiting


def _no_record(run: Run) -> None:
    """Outside a worker nothing is kept of a run."""


@dataclass(frozen=True, slots=True)
class Merchants:
    """What is needed to tell merchants something."""

    endpoints: WebhookEndpoints
    events: WebhookEvents
    deliveries: WebhookDeliveries
    gate: Gate
    turnstile: Turnstile
    sender: Sender
    vault: Vault
    aside: Bounded[str, Any]  # what is stored and waits for its turn, so that it need not be read again


@dataclass(frozen=True, slots=True)
class Deps:
    """What a job gets. `stopping` is set when the process is asked to end: leave at the next safe place."""

    settings: Settings
    redis: Redis
    database: Database
    pancake: PancakeClient
    limiter: RateLimiter
    pages: Pages
    customers: RowStore
    posts: RowStore
    conversations: Conversations
    messages: Messages
    staff: Staff
    agents: Agents
    health_checks: HealthChecks
    machine_state: MachineState
    reports: ResponseReports
    sync_states: SyncStates
    dead_letters: DeadLetters
    schedules: Schedules
    job_runs: JobRuns
    run_minutes: RunMinutes
    merchants: Merchants
    ingest: Ingest
    waiting: Waiting
    alerts: Alerts
    outbox: Outbox
    notifications: Notifications
    policies: ReplyPolicies
    channels: Channels
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    hands: Hands = field(default_factory=NoHands)
    record: Callable[[Run], None] = _no_record
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    on_progress: Callable[[str, Filled], None] | None = None


@asynccontextmanager
async def open_deps(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    may_mint: bool = True,
) -> AsyncIterator[Deps]:
    """Connect to everything and create the indexes. `transport` stands in for Pancake in tests.

    Without `may_mint` no page token is made whatever the settings allow: for who only looks.

    Raises Transient or Permanent, with a line that says what to do, when Redis or MongoDB cannot be used.
    """
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings.redis))
        database = await stack.enter_async_context(open_database(settings.mongo))
        merchants = await stack.enter_async_context(_open_merchants(settings, redis, database))
        stores: dict[str, _Store] = {
            "pages": Pages(database),
            "customers": customers(database),
            "posts": posts(database),
            "conversations": Conversations(database),
            "messages": Messages(database),
            "staff": Staff(database),
            "agents": Agents(database),
            "health_checks": HealthChecks(database),
            "machine_state": MachineState(database),
            "reports": ResponseReports(database),
            "dead_letters": DeadLetters(database),
            "schedules": Schedules(database),
            "job_runs": JobRuns(database),
            "run_minutes": RunMinutes(database, timedelta(days=settings.worker.rollup_days)),
            "waiting": Waiting(database),
            "alerts": Alerts(database),
            "outbox": Outbox(database),
            "notifications": Notifications(database),
            "policies": ReplyPolicies(database),
        }
        webhooks = (merchants.endpoints, merchants.events, merchants.deliveries)
        await _ensure_indexes(settings, *stores.values(), *webhooks)
        pancake_settings = settings.pancake
        limiter = RateLimiter(redis, pancake_settings.max_calls_per_second)
        if not may_mint:
            pancake_settings = pancake_settings.model_copy(update={"allow_token_minting": False})
        lock, tokens = partial(_mint_lock, redis), cast(TokenStore, stores["pages"])
        pancake = await stack.enter_async_context(
            open_pancake(pancake_settings, limiter, tokens, lock, transport=transport)
        )
        yield Deps(
            settings=settings,
            redis=redis,
            database=database,
            pancake=pancake,
            limiter=limiter,
            sync_states=SyncStates(database),
            merchants=merchants,
            ingest=await stack.enter_async_context(open_ingest(database, redis, settings.pancake.page_ids)),
            channels=await stack.enter_async_context(
                open_channels(settings.channels, shelf=ChannelTokens(database, lock), vault=merchants.vault)
            ),
            **cast(dict[str, Any], stores),
        )


@asynccontextmanager
async def _open_merchants(settings: Settings, redis: Redis, database: Database) -> AsyncIterator[Merchants]:
    retention, gate = timedelta(days=settings.webhooks.retention_days), Gate(redis)
    async with open_sender(settings.webhooks) as sender:
        yield Merchants(
            endpoints=WebhookEndpoints(database),
            events=WebhookEvents(database, retention),
            deliveries=WebhookDeliveries(database, retention),
            gate=gate,
            turnstile=Turnstile(gate, settings.worker.max_concurrent_jobs),
            sender=sender,
            vault=Vault(settings.webhooks.secrets_key),
            aside=Bounded(MOST_ASIDE),
        )


class _Store(Protocol):
    async def ensure_indexes(self) -> None: ...


async def _ensure_indexes(settings: Settings, *stores: _Store) -> None:
    try:
        for store in stores:
            await store.ensure_indexes()
    except mongo.REFUSALS as e:
        raise Permanent(
            f"MongoDB at {settings.mongo.shown} refuses the indexes (error {e.code}): has the user of MONGODB_URI the "
            "right to write there, and does nobody else's index stand in the way?"
        ) from e


@asynccontextmanager
async def _mint_lock(redis: Redis, page_id: str) -> AsyncIterator[None]:
    """One process at a time makes a token for the page. Raises Transient where another one takes too long."""
    lock = redis.lock(f"folkform:mint:{page_id}", timeout=MINT_LOCK_S, blocking_timeout=MINT_LOCK_S)
    if not await lock.acquire():
        raise Transient(f"page {page_id}: another worker is making a token")
    try:
        yield
    finally:
        with suppress(LockError, *OUTAGES):  # run out meanwhile, and perhaps another's now
            await lock.release()
