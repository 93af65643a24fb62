"""The job that keeps `pages` in step with what the shop has connected."""

from .. import catalog
from ..deps import Deps
from ..engine.job import Job, Outcome
from ..rules.coverage import Mode
from ..sync.pages import read_pages
from . import conversations, customers, posts

STREAMS = {"customers": customers.SYNC_PAGE, "posts": posts.SYNC_PAGE}


async def sync_pages(deps: Deps, start_new: bool = False) -> str:
    """Store the pages of the account and of PANCAKE_PAGE_TOKENS. Safe to repeat.

    With `start_new`, the rows of pages met for the first time are fetched at once.
    """
    read = await read_pages(deps.pancake, deps.pages, deps.settings.pancake)
    if start_new:
        await _start(deps, read.new)
    return Outcome("synced", pages=len(read.page_ids), new=len(read.new), deactivated=read.deactivated)


async def _start(deps: Deps, page_ids: list[str]) -> None:
    """A backfill of a page without a state reads the newest rows too, so one pass brings everything once."""
    schedules = deps.settings.schedules.model_dump()
    to_sync = await deps.pages.to_sync(deps.settings.pancake.page_ids)
    for page_id in (page_id for page_id in page_ids if page_id in to_sync):
        if schedules["sync_conversations_incremental"] != "off":  # first: somebody may be waiting in them
            await conversations.SYNC_PAGE.spawn(deps, page_id=page_id, mode="incremental")
        for stream, job in STREAMS.items():
            mode: Mode = "incremental" if schedules[f"sync_{stream}_backfill"] == "off" else "backfill"
            if mode == "backfill" or schedules[f"sync_{stream}_incremental"] != "off":
                await job.spawn(deps, page_id=page_id, mode=mode)


JOBS = (Job(catalog.sync_pages, sync_pages),)
