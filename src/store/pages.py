"""`pages`: the connected pages, whether they are to be synced, and their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pymongo import ASCENDING, IndexModel, UpdateOne

from ..clients.mongo import Database, Document


@dataclass(frozen=True, slots=True)
class PageRow:
    """What list-pages told of a page. `raw` must hold no token."""

    page_id: str
    name: str | None
    platform: str | None
    is_active: bool
    token: str | None
    raw: Document


class Pages:
    """One document per page. `isSync` is the shop's own switch: we set it once, to true, and never again."""

    def __init__(self, database: Database) -> None:
        self._collection = database["pages"]

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        await self._collection.create_indexes([IndexModel([("pageId", ASCENDING)], unique=True)])

    async def upsert_listed(self, rows: Sequence[PageRow]) -> list[str]:
        """Store what list-pages answered; returns the ids of pages that are new to us. Safe to repeat."""
        writes = []
        for row in rows:
            listed: Document = {
                "name": row.name,
                "platform": row.platform,
                "isActive": row.is_active,
                "panCakeData": row.raw,
                "syncedAt": datetime.now(UTC),
            }
            if row.token:
                listed["pageAccessToken"] = row.token
            writes.append(_upsert(row.page_id, {"$set": listed, "$setOnInsert": {"isSync": True}}))
        return await self._write(writes, [row.page_id for row in rows])

    async def upsert_named(self, page_ids: Sequence[str]) -> list[str]:
        """Make sure that pages named in the settings exist and are active; returns the new ones. Safe to repeat."""
        new: Document = {"isSync": True, "name": None, "platform": None, "panCakeData": {}}
        change: Document = {"$set": {"isActive": True}, "$setOnInsert": new}
        return await self._write([_upsert(page_id, change) for page_id in page_ids], page_ids)

    async def deactivate_others(self, page_ids: Sequence[str]) -> int:
        """Mark pages that are no longer listed as inactive; they and their rows stay."""
        gone = {"pageId": {"$nin": list(page_ids)}, "isActive": True}
        return int((await self._collection.update_many(gone, {"$set": {"isActive": False}})).modified_count)

    async def to_sync(self, only: Sequence[str] = ()) -> list[str]:
        """Ids of the pages that are active and switched on, sorted; `only` narrows them where it names any."""
        wanted: Document = {"isActive": True, "isSync": True, "pageId": {"$type": "string"}}
        if only:
            wanted["pageId"]["$in"] = list(only)
        found = self._collection.find(wanted, {"pageId": 1}).sort("pageId", ASCENDING)
        return [document["pageId"] async for document in found]

    async def nameless(self) -> int:
        """How many documents name no page; they are synced nowhere."""
        return int(await self._collection.count_documents({"pageId": {"$not": {"$type": "string"}}}))

    async def is_empty(self) -> bool:
        """Whether no page was ever stored."""
        return await self._collection.find_one({}, {"_id": 1}) is None

    async def name(self, page_id: str) -> str | None:
        """What people call the page."""
        document = await self._collection.find_one({"pageId": page_id}, {"name": 1})
        return (document or {}).get("name")

    async def met_at(self, page_id: str) -> float | None:
        """When the page was first stored, Unix seconds; None where it is not."""
        document = await self._collection.find_one({"pageId": page_id}, {"_id": 1})
        return document["_id"].generation_time.timestamp() if document else None

    async def token(self, page_id: str) -> str | None:
        """The page's stored token."""
        document = await self._collection.find_one({"pageId": page_id}, {"pageAccessToken": 1})
        return (document or {}).get("pageAccessToken")

    async def save_token(self, page_id: str, token: str) -> None:
        """Replace the page's stored token."""
        change = {"$set": {"pageAccessToken": token}, "$setOnInsert": {"isActive": True, "isSync": True}}
        await self._collection.update_one({"pageId": page_id}, change, upsert=True)

    async def _write(self, writes: list[UpdateOne], page_ids: Sequence[str]) -> list[str]:
        if not writes:
            return []
        result = await self._collection.bulk_write(writes, ordered=False)
        return [page_ids[index] for index in sorted(result.upserted_ids or {})]


def _upsert(page_id: str, change: Document) -> UpdateOne:
    return UpdateOne({"pageId": page_id}, change, upsert=True)
