"""Whether what we know of a page is new enough to say that a customer of it waits.

A step is told of only after the page was asked in the same look: an answer of a minute ago may not be known yet. Where
it cannot be asked, nothing is said of its customers, and after ALERT_FRESHNESS_SECONDS one notice says that its data is
late (reference: webhooks-sync-alerts-files, C2: one such alert in place of many false ones).
"""

import asyncio
from collections.abc import Callable

from loguru import logger

from ..clients import mongo, redis
from ..deps import Deps
from ..engine.boundary import in_words
from ..errors import ServiceError
from ..sync.conversations import NAME as CONVERSATIONS
from ..sync.conversations import conversation_stream
from ..sync.messages import drain_messages
from ..sync.passes import PagePass
from .notices import close_notice, open_notice

REFRESH_S = 30.0  # for one page, its changed messages included
DRAINED_S = 86_400  # messages of what changed longer ago are the backfill's


def late_key(page_id: str) -> str:
    """What the notice about a page's late data is found by."""
    return f"late:{CONVERSATIONS}:{page_id}"


async def known_until(deps: Deps, page_id: str) -> float | None:
    """The second until which the page's conversations are known, by Pancake's clock; None before the first pass."""
    return (await deps.sync_states.load(CONVERSATIONS, page_id)).mark


async def refresh(deps: Deps, page_id: str) -> float | None:
    """Ask Pancake what is new on the page; returns until when it is known now, None where it cannot be asked.

    A pass like any other, beside whichever may be under way: what it reads counts as read.
    """
    started = deps.monotonic()
    try:
        async with asyncio.timeout(REFRESH_S):
            done = await _pass(deps, page_id, lambda: deps.monotonic() - started > REFRESH_S / 2)
    except (ServiceError, TimeoutError, *mongo.OUTAGES, *redis.OUTAGES) as e:
        logger.warning("page not refreshed", page_id=page_id, error=in_words(e, deps))
        return None
    # by the clock of the answers, less the time since the question: what changed after it may not be in them
    return deps.pancake.server_now() - (deps.monotonic() - started) - 1 if done else None


async def tell_lateness(deps: Deps, page_id: str, page: str, until: float | None) -> bool:
    """Open or close the notice about the page's data, which is known `until`; returns whether it is late.

    A page that was never read is late from when it was met.
    """
    if until is None:
        until = await deps.pages.met_at(page_id)
    late_s = deps.now() - until if until is not None else 0.0
    if late_s <= deps.settings.alerts.freshness_seconds:
        await close_notice(deps, late_key(page_id))
        return False
    facts = {"page": page}
    await open_notice(
        deps, late_key(page_id), kind="data_late", severity="high", facts=facts, page_id=page_id, since=until
    )
    return True


async def _pass(deps: Deps, page_id: str, is_over: Callable[[], bool]) -> bool:
    def stop() -> bool:
        return deps.stopping.is_set() or is_over()

    page_pass = PagePass(
        conversation_stream(deps.pancake, deps.conversations),
        page_id,
        deps.sync_states,
        deps.dead_letters,
        deps.settings.sync,
        server_now=deps.pancake.server_now,
        stop=stop,
    )
    done = await page_pass.run("incremental")
    await drain_messages(
        deps.pancake,
        deps.conversations,
        deps.messages,
        deps.dead_letters,
        page_id,
        newer_than=int(deps.pancake.server_now() - DRAINED_S),
        stop=stop,
    )
    return done.is_complete
