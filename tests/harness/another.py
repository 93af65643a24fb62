"""The second writer: stores rows as a receiver of webhooks does: as they are now, whether lists show it yet or not."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import orjson
from redis.asyncio import Redis

from src.clients.mongo import Database, Document
from src.errors import Malformed
from src.rules.pancake_event import event_of
from src.store.conversations import Conversations
from src.store.customers import customers
from src.store.messages import Messages
from src.store.posts import posts
from src.store.rows import RowStore
from src.sync.customers import customer_document
from src.sync.ingest import Ingest, news_of, open_ingest
from src.sync.posts import post_document
from tests.harness.subjects import StreamName
from tests.simulators.pancake import World
from tests.simulators.pancake import customers as customer_rows
from tests.simulators.pancake.page import render_post
from tests.simulators.pancake.webhooks import event_json

#: Picks rows of a page at once, and writes them so many seconds later.
Writer = Callable[[World, str, random.Random, float], Coroutine[Any, Any, None]]
LATEST = 3  # messages of a conversation that events come of


async def another(
    stream: StreamName, database: Database, redis_url: str, stack: contextlib.AsyncExitStack, page_ids: list[str]
) -> Writer:
    """The writer of a stream; its collections are made ready."""
    if stream == "conversations":
        await Conversations(database).ensure_indexes()
        await Messages(database).ensure_indexes()
        redis = await stack.enter_async_context(Redis.from_url(redis_url))
        return _events(await stack.enter_async_context(open_ingest(database, redis, page_ids)))
    store = posts(database) if stream == "posts" else customers(database)
    await store.ensure_indexes()
    return _rows(store, _posts_of if stream == "posts" else _customers_of)


def _rows(store: RowStore, pick: Callable[[World, str, random.Random], list[Document]]) -> Writer:
    def write(world: World, page_id: str, rng: random.Random, late_s: float) -> Coroutine[Any, Any, None]:
        rows, asked_at = pick(world, page_id, rng), datetime.now(UTC)

        async def store_them() -> None:
            await asyncio.sleep(late_s)
            await store.upsert(rows, asked_at)

        return store_them()

    return write


def _customers_of(world: World, page_id: str, rng: random.Random) -> list[Document]:
    shelf = world.pages[page_id].customers
    picked = [shelf.latest[rid] for rid in shelf.pick(rng, rng.randint(1, 20))]
    raws = [orjson.loads(customer_rows.render(row, world.switches)) for row in picked if not row.kind]
    return [customer_document(page_id, raw)[1] for raw in raws]


def _posts_of(world: World, page_id: str, rng: random.Random) -> list[Document]:
    page = world.pages[page_id]
    picked = [page.posts.latest[rid] for rid in page.posts.pick(rng, rng.randint(1, 10))]
    raws = [orjson.loads(render_post(post, page.facts, world.switches)) for post in picked if not post.fault]
    return [post_document(page_id, raw)[1] for raw in raws]


def _events(ingest: Ingest) -> Writer:
    """Events of the last messages of some conversations."""

    def write(world: World, page_id: str, rng: random.Random, late_s: float) -> Coroutine[Any, Any, None]:
        page, at = world.pages[page_id], time.time()
        events: list[Document] = []
        for rid in page.threads.pick(rng, rng.randint(1, 8)):
            thread = page.threads.latest[rid]
            latest = [] if thread.fault else page.messages(rid)[-LATEST:]
            events += [event_json(page, thread, one, world.switches) for one in latest if not one.fault]

        async def store_them() -> None:
            await asyncio.sleep(late_s)
            for raw in events:
                with contextlib.suppress(Malformed):
                    await ingest.store(news_of(event_of(orjson.loads(orjson.dumps(raw))), page_id, at))

        return store_them()

    return write
