"""The job that keeps `pages` in step with what the shop has connected."""

from typing import Any

from loguru import logger

from ..clients.pancake.models import Page
from ..deps import Deps
from ..engine.job import Job, Outcome
from ..rules.coverage import Mode
from ..store.pages import PageRow
from .customers import SYNC_PAGE


async def sync_pages(deps: Deps, start_new: bool = False) -> str:
    """Store the pages of the account and of PANCAKE_PAGE_TOKENS. Safe to repeat.

    With `start_new`, the customers of pages met for the first time are fetched at once.
    """
    named = list(deps.settings.pancake.page_tokens)
    listed: list[PageRow] = []
    if deps.settings.pancake.access_token is not None or not named:
        listed = [_row(page, raw) for page, raw in await deps.pancake.pages()]
    new = await deps.pages.upsert_listed(listed)
    known = [row.page_id for row in listed]
    new += await deps.pages.upsert_named([page_id for page_id in named if page_id not in known])
    # an empty answer is rather a fault than an account that lost all its pages
    inactive = await deps.pages.deactivate_others([*known, *named]) if listed else 0
    if start_new:
        await _start(deps, new)
    outcome = Outcome("synced", pages=len({*known, *named}), new=len(new), deactivated=inactive)
    if not (known or named):
        logger.warning("Pancake lists no pages: is PANCAKE_ACCESS_TOKEN that of the shop's administrator?")
    return outcome


async def _start(deps: Deps, page_ids: list[str]) -> None:
    """A backfill of a page without a state reads the newest rows too, so one pass brings everything once."""
    mode: Mode = "incremental" if deps.settings.schedules.sync_customers_backfill == "off" else "backfill"
    to_sync = await deps.pages.to_sync(deps.settings.pancake.page_ids)
    for page_id in (page_id for page_id in page_ids if page_id in to_sync):
        await SYNC_PAGE.spawn(deps, page_id=page_id, mode=mode)


def _row(page: Page, raw: dict[str, Any]) -> PageRow:
    """The page without its token in the raw object: a token stands in one place only."""
    settings = raw.get("settings")
    if isinstance(settings, dict):
        raw = {**raw, "settings": {key: value for key, value in settings.items() if key != "page_access_token"}}
    return PageRow(
        page_id=page.id,
        name=page.name,
        platform=page.platform,
        is_active=page.is_activated,
        token=page.settings.page_access_token if page.settings else None,
        raw=raw,
    )


JOBS = (Job(sync_pages, lane="sync", scheduled_arguments={"start_new": True}),)
