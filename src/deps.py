"""Everything a job may use, opened once per process and closed in reverse order."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
from redis.asyncio import Redis
from redis.exceptions import LockError

from .clients import mongo
from .clients.mongo import Database, open_database
from .clients.pancake.client import PancakeClient, open_pancake
from .clients.rate_limit import RateLimiter
from .clients.redis import OUTAGES, open_redis
from .errors import Permanent, Transient
from .settings import Settings
from .store.customers import customers
from .store.dead_letters import DeadLetters
from .store.job_runs import JobRuns, Run
from .store.pages import Pages
from .store.rows import RowStore
from .store.schedules import Schedules
from .store.sync_state import SyncStates
from .sync.filler import Filled

MINT_LOCK_S = 60.0  # longer than a mint with its timeout takes

#: Hands a child job on: job name, its arguments. Returns False where one with its unique key already waits or runs.
Spawn = Callable[[str, dict[str, Any]], Awaitable[bool]]


def _no_spawn(name: str, arguments: dict[str, Any]) -> Awaitable[bool]:
    raise RuntimeError(f"nobody is there to run {name}: jobs are spawned inside a worker or `python -m src run`")


def _no_record(run: Run) -> None:
    """Outside a worker nothing is kept of a run."""


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
    sync_states: SyncStates
    dead_letters: DeadLetters
    schedules: Schedules
    job_runs: JobRuns
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    spawn: Spawn = _no_spawn
    record: Callable[[Run], None] = _no_record
    monotonic: Callable[[], float] = time.monotonic
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
        pages, customer_rows = Pages(database), customers(database)
        dead_letters, schedules, job_runs = DeadLetters(database), Schedules(database), JobRuns(database)
        await _ensure_indexes(settings, pages, customer_rows, dead_letters, schedules, job_runs)
        pancake_settings = settings.pancake
        limiter = RateLimiter(redis, pancake_settings.max_calls_per_second)

        if not may_mint:
            pancake_settings = pancake_settings.model_copy(update={"allow_token_minting": False})
        pancake = await stack.enter_async_context(
            open_pancake(pancake_settings, limiter, pages, partial(_mint_lock, redis), transport=transport)
        )
        yield Deps(
            settings=settings,
            redis=redis,
            database=database,
            pancake=pancake,
            limiter=limiter,
            pages=pages,
            customers=customer_rows,
            sync_states=SyncStates(database),
            dead_letters=dead_letters,
            schedules=schedules,
            job_runs=job_runs,
        )


async def _ensure_indexes(settings: Settings, *stores: Pages | RowStore | DeadLetters | Schedules | JobRuns) -> None:
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
