"""Events of Pancake's webhooks on their way into the store: of many jobs at once, in a few calls for all.

News that was stored a moment ago is known again (`SEEN_S`) and not stored twice. That mark is set last: killed
anywhere before, the event is stored once more, which changes nothing. What the events say never counts as read; the
lists are asked as if there were none.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from ..batcher import Batcher
from ..clients.mongo import Database, Document
from ..errors import Malformed
from ..rules.pancake_event import Event, is_removed, told_of
from ..rules.senders import bare_id
from ..store.heard import Heard, Told
from ..store.pages import Pages
from ..store.posts import posts
from .known_pages import KnownPages
from .posts import post_document
from .standing import message_document
from .stream import in_words

SEEN = "folkform:hook:seen:"
WOKEN = "folkform:hook:woken:"
SEEN_S = 900  # Pancake tells no schedule of sending again
WAKE_S = 10  # a page's list is asked at most so often because of events
MOST = 200


@dataclass(frozen=True, slots=True)
class News:
    """A messaging event that can be stored. `message` is its document, None where it tells only of a conversation."""

    event: Event
    page_id: str
    at: datetime
    message: Document | None = None


class Ingest:
    """One for a process. Safe for many tasks at once."""

    def __init__(self, database: Database, redis: Redis, pages: KnownPages) -> None:
        self.pages = pages
        self._redis = redis
        self._heard = Heard(database)
        self._posts = posts(database)
        self._woken: dict[str, float] = {}
        # two at once: while one batch is in MongoDB the next one fills
        self._store: Batcher[News, bool] = Batcher(self._store_many, most=MOST, at_once=2)

    async def store(self, news: News) -> bool:
        """Store it; False where it was a moment ago. Safe to repeat. Raises Malformed for what MongoDB cannot hold."""
        return await self._store(news)

    async def store_post(self, event: Event, page_id: str, at: datetime) -> bool:
        """The same for a post, of which only the fields that are there are written. Raises Malformed."""
        if not await self._fresh([event.digest]):
            return False
        try:
            document = post_fields(page_id, event.post)
        except ValueError as e:
            raise Malformed(f"the post of an event cannot be read: {in_words(e)}") from None
        stored = await self._posts.upsert([document], at)
        if stored.refused:
            raise Malformed(f"the post of an event: {stored.refused[0][1]}")
        await self._remember([event.digest])
        return True

    async def wakes(self, page_id: str) -> bool:
        """Whether the page's list is to be asked now: the first event in `WAKE_S` seconds says yes."""
        now = time.monotonic()
        if self._woken.get(page_id, now) > now:  # what this process knows it need not ask
            return False
        self._woken[page_id] = now + WAKE_S
        return bool(await self._redis.set(WOKEN + page_id, 1, nx=True, ex=WAKE_S))

    async def _store_many(self, batch: list[News]) -> list[bool | Exception]:
        fresh = await self._fresh([news.event.digest for news in batch])
        unique = list({news.event.digest: news for news in batch if news.event.digest in fresh}.values())
        refused = await self._write(sorted(unique, key=lambda news: news.at)) if unique else {}
        await self._remember([digest for digest in fresh if digest not in refused])
        return [refused.get(news.event.digest, news.event.digest in fresh) for news in batch]

    async def _write(self, unique: list[News]) -> dict[str, Exception]:
        """Write them, the earliest first; returns what could not be held, by digest."""
        newest = {news.event.message_id: news for news in unique if news.message}
        messages = [{**news.message, "syncedAt": news.at} for news in newest.values() if news.message]
        stored, sources = await self._heard.keep(messages), list(newest.values())
        refused = {sources[place].event.digest for place, _ in stored.refused}
        told = _told([news for news in unique if news.event.digest not in refused])
        if told:
            await self._heard.tell(told)
            await self._heard.settle({each.conversation_id: each.at for each in told if each.met is not None})
        return {digest: Malformed("MongoDB cannot hold the message of an event") for digest in refused}

    async def _fresh(self, digests: Sequence[str]) -> set[str]:
        known = await self._redis.mget([SEEN + digest for digest in digests])
        return {digest for digest, mark in zip(digests, known, strict=True) if mark is None}

    async def _remember(self, digests: Sequence[str]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for digest in digests:
                pipe.set(SEEN + digest, 1, ex=SEEN_S)
            await pipe.execute()


@asynccontextmanager
async def open_ingest(database: Database, redis: Redis, page_ids: Sequence[str] = ()) -> AsyncIterator[Ingest]:
    """Takes events of `page_ids`, or of the stored pages that are to be synced where none are given."""
    stored = Pages(database)

    async def ours() -> Sequence[str]:
        return page_ids or await stored.to_sync()

    pages = KnownPages(ours)
    try:
        yield Ingest(database, redis, pages)
    finally:
        await pages.close()


def news_of(event: Event, page_id: str, received_at: float) -> News:
    """The event of our page `page_id` as it came at `received_at` (Unix seconds). Raises Malformed for no message."""
    at = heard_at(received_at)
    if event.message is None:
        return News(event, page_id, at)
    try:
        return News(event, page_id, at, message_document(page_id, event.conversation_id, event.message))
    except ValueError as e:
        raise Malformed(f"the message of an event cannot be read: {in_words(e)}") from None


def heard_at(received_at: float) -> datetime:
    """The moment as MongoDB keeps it, to the millisecond."""
    return datetime.fromtimestamp(int(received_at * 1000) / 1000, UTC)


def post_fields(page_id: str, raw: Any) -> Document:
    """What an event says of a post; a list's richer row is kept where it says nothing. Raises ValueError."""
    _, document = post_document(page_id, raw)
    del document["panCakeData"]
    said = {name: value for name, value in document.items() if value is not None}
    # names with a dot or a dollar would be taken for something else, and Pancake has none
    return {**said, **{f"panCakeData.{name}": value for name, value in raw.items() if name.isidentifier()}}


def _told(unique: Sequence[News]) -> list[Told]:
    """What they tell of each conversation, the later over the earlier."""
    told: dict[str, Told] = {}
    for news in unique:
        event, before = news.event, told.get(news.event.conversation_id)
        told[event.conversation_id] = Told(
            event.conversation_id,
            news.at,
            {**(before.fields if before else {}), **told_of(event.conversation or {})},
            met_document(news) if news.message else before.met if before else None,
            is_removed(event.conversation),
        )
    return list(told.values())


def met_document(news: News) -> Document:
    """A conversation that is first heard of through a message: what the list will say is missing, and wins.

    It is as old as its message, and a second older: of the same second, `RowStore` would keep what is there.
    """
    event, conversation, message = news.event, news.event.conversation or {}, news.message or {}
    who = _person(conversation.get("from"), news.page_id) or _person((event.message or {}).get("from"), news.page_id)
    post_id = (event.post or {}).get("id")
    kind = conversation.get("type") or (event.message or {}).get("type")
    return {
        "pageId": news.page_id,
        "type": kind if isinstance(kind, str) else None,
        "postId": str(post_id) if post_id and kind != "INBOX" else None,
        "customerId": None,
        "psid": who.get("id"),
        "customerName": who.get("name"),
        "insertedAt": None,
        "updatedAt": max(min(message["insertedAt"], int(news.at.timestamp())) - 1, 0),
        "stamp": 0,
        "syncedAt": news.at,
        "messagesDue": True,
        "tagNames": [],
        "panCakeData": {},
    }


def _person(who: Any, page_id: str) -> dict[str, str]:
    """Id and name of a customer; nothing for the page itself."""
    if not isinstance(who, dict) or not isinstance(who.get("id"), str | int) or who.get("uid") or who.get("admin_id"):
        return {}
    if bare_id(str(who["id"])) == bare_id(page_id):
        return {}
    return {"id": str(who["id"]), **({"name": who["name"]} if isinstance(who.get("name"), str) else {})}
