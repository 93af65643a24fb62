"""The algorithm of the original guide to syncing customers, with our client and our store under it.

Where the guide leaves room it gets the better reading: the client's retries, Pancake's own time for `now`, a store in
which newer versions win, and bad rows that are skipped alone. Its marks are what it says: the newest and the oldest
`updatedAt` in the collection.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from pymongo import ASCENDING, DESCENDING

from src.clients.mongo import Document
from src.clients.pancake.client import CUSTOMERS_PER_CALL, Listing
from src.deps import Deps
from src.sync.customers import customer_document

DAY_S = 86_400
REFRESH_BATCHES = 10


async def incremental(deps: Deps, page_id: str) -> None:
    """From the newest stored second to now, newest first, page by page."""
    until = deps.pancake.server_now()
    newest = await _edge(deps, page_id, DESCENDING)
    since = int(until - deps.settings.sync.initial_days * DAY_S) if newest is None else newest
    page_number = 1
    while True:
        answer = await deps.pancake.page_customers(page_id, since=since, until=until, page_number=page_number)
        rows = _readable(page_id, answer)
        await _store(deps, [row for second, row in rows if second >= since], answer)
        if not answer.rows or any(second < since for second, _ in rows):
            return
        page_number += 1


async def backfill(deps: Deps, page_id: str) -> None:
    """From the oldest stored second down to 1970; the mark is read again every ten batches."""
    oldest = await _edge(deps, page_id, ASCENDING)
    until = deps.pancake.server_now() if oldest is None else oldest
    page_number = 1
    while True:
        answer = await deps.pancake.page_customers(page_id, since=0, until=until, page_number=page_number)
        rows = _readable(page_id, answer)
        await _store(deps, [row for second, row in rows if second <= until], answer)
        if len(answer.rows) < CUSTOMERS_PER_CALL:
            return
        if page_number % REFRESH_BATCHES == 0:
            oldest = await _edge(deps, page_id, ASCENDING)
            until = until if oldest is None else min(until, oldest)
        page_number += 1


PASSES: dict[str, Callable[[Deps, str], Awaitable[None]]] = {"incremental": incremental, "backfill": backfill}


async def _edge(deps: Deps, page_id: str, direction: int) -> int | None:
    found = await deps.database["customers"].find_one(
        {"pageId": page_id}, {"updatedAt": 1}, sort=[("updatedAt", direction)]
    )
    return None if found is None else int(found["updatedAt"])


def _readable(page_id: str, answer: Listing) -> list[tuple[int, Document]]:
    rows: list[tuple[int, Document]] = []
    for raw in answer.rows:
        row = _read(page_id, raw)
        if row is not None:
            rows.append(row)
    return rows


def _read(page_id: str, raw: Any) -> tuple[int, Document] | None:
    try:
        _, document = customer_document(page_id, raw)
    except ValueError:
        return None
    return document["updatedAt"], document


async def _store(deps: Deps, rows: list[Document], answer: Listing) -> None:
    await deps.customers.upsert(rows, answer.asked_at)
