"""Bringing `pages` in step with what the shop has connected."""

from dataclasses import dataclass
from typing import Any

from loguru import logger

from ..clients.pancake.client import PancakeClient
from ..clients.pancake.models import Page
from ..settings import PancakeSettings
from ..store.pages import PageRow, Pages


@dataclass(frozen=True, slots=True)
class PagesRead:
    """What came of it: every page there is, those new to us, and how many are no longer connected."""

    page_ids: list[str]
    new: list[str]
    deactivated: int


async def read_pages(client: PancakeClient, store: Pages, settings: PancakeSettings) -> PagesRead:
    """Store the pages of the account and of PANCAKE_PAGE_TOKENS. Safe to repeat. Raises what the client raises."""
    named = list(settings.page_tokens)
    listed: list[PageRow] = []
    if settings.access_token is not None or not named:
        listed = [_row(page, raw) for page, raw in await client.pages()]
    new = await store.upsert_listed(listed)
    new += await store.upsert_named(named)
    page_ids = list(dict.fromkeys([*(row.page_id for row in listed), *named]))
    # an empty answer is rather a fault than an account that lost all its pages
    deactivated = await store.deactivate_others(page_ids) if listed else 0
    if not page_ids:
        logger.warning("Pancake lists no pages: is PANCAKE_ACCESS_TOKEN that of the shop's administrator?")
    return PagesRead(page_ids, new, deactivated)


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
