"""The job that takes in what Pancake's own webhooks say."""

from collections.abc import Awaitable
from random import uniform
from typing import Any

from loguru import logger

from .. import catalog
from ..clients import mongo, redis
from ..deps import Deps
from ..engine.boundary import in_words
from ..engine.job import Job, Outcome
from ..errors import Malformed, Snooze
from ..rules.pancake_event import Event, event_of
from ..sync.ingest import heard_at, news_of
from .conversations import SYNC_PAGE

AWAY_S = (1.0, 5.0)  # wait where MongoDB or Redis is away, at least and at most


async def ingest_pancake_event(deps: Deps, event: dict[str, Any], received_at: float = 0.0) -> str:
    """Store what one event says. Safe to repeat, to kill, and to run in any order: the event that came last stays."""
    try:
        said = event_of(event)
    except ValueError as e:
        raise Malformed(f"an event cannot be read: {e}") from None
    return await _patiently(deps, _ingest(deps, said, received_at or deps.now()))


async def _ingest(deps: Deps, said: Event, received_at: float) -> str:
    if said.kind == "subscription":
        logger.info("event of the subscription to Pancake")
        return Outcome("noted")
    if said.kind == "other" or said.page_id is None:
        return Outcome("ignored", because="neither message nor post")
    page_id = (await deps.ingest.pages.names()).ours(said.page_id)
    if page_id is None:
        return Outcome("ignored", because="a page that is not ours", page_id=said.page_id)
    if said.kind == "post":
        is_new = await deps.ingest.store_post(said, page_id, heard_at(received_at))
        return Outcome("stored" if is_new else "known", page_id=page_id)
    is_new = await deps.ingest.store(news_of(said, page_id, received_at))
    if await deps.ingest.wakes(page_id):
        await SYNC_PAGE.spawn(deps, page_id=page_id, mode="incremental")
    return Outcome("stored" if is_new else "known", page_id=page_id)


async def _patiently(deps: Deps, work: Awaitable[str]) -> str:
    """`work`, where an outage of our own servers costs the event no try."""
    try:
        return await work
    except (*mongo.OUTAGES, *redis.OUTAGES) as e:
        raise Snooze(in_words(e, deps), after_s=uniform(*AWAY_S), is_usual=True) from e  # noqa: S311


JOBS = (Job(catalog.ingest_pancake_event, ingest_pancake_event),)
