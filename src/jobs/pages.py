"""The job that keeps `pages` in step with what the shop has connected."""

from .. import catalog
from ..deps import Deps
from ..engine.job import Job, Outcome
from ..rules.coverage import Mode
from ..sync.pages import read_pages
from .customers import SYNC_PAGE


async def sync_pages(deps: Deps, start_new: bool = False) -> str:
    """Store the pages of the account and of PANCAKE_PAGE_TOKENS. Safe to repeat.

    With `start_new`, the customers of pages met for the first time are fetched at once.
    """
    read = await read_pages(deps.pancake, deps.pages, deps.settings.pancake)
    if start_new:
        await _start(deps, read.new)
    return Outcome("synced", pages=len(read.page_ids), new=len(read.new), deactivated=read.deactivated)


async def _start(deps: Deps, page_ids: list[str]) -> None:
    """A backfill of a page without a state reads the newest rows too, so one pass brings everything once."""
    mode: Mode = "incremental" if deps.settings.schedules.sync_customers_backfill == "off" else "backfill"
    to_sync = await deps.pages.to_sync(deps.settings.pancake.page_ids)
    for page_id in (page_id for page_id in page_ids if page_id in to_sync):
        await SYNC_PAGE.spawn(deps, page_id=page_id, mode=mode)


JOBS = (Job(catalog.sync_pages, sync_pages),)
