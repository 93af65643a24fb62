"""`staff`: who of a page's staff there is, and who was there when last looked."""

from collections.abc import Sequence
from datetime import datetime

from pymongo import ASCENDING, IndexModel, UpdateOne

from ..clients.mongo import Database, Document


class Staff:
    """One document per member and page."""

    def __init__(self, database: Database) -> None:
        self._collection = database["staff"]

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        identity = [("userId", ASCENDING), ("pageId", ASCENDING)]
        await self._collection.create_indexes([IndexModel(identity, unique=True), IndexModel([("pageId", ASCENDING)])])

    async def sample(self, page_id: str, members: Sequence[Document], at: datetime) -> None:
        """Store who was there at `at`; who is no longer named is removed. An older sample changes nothing.

        A member has userId, name, isOnline, status and panCakeData.
        """
        writes = []
        for member in members:
            change: Document = {"$set": {**member, "pageId": page_id, "isRemoved": False, "sampledAt": at}}
            if member["isOnline"]:
                change["$set"]["lastSeenOnlineAt"] = at
            one = {"userId": member["userId"], "pageId": page_id}
            writes.append(UpdateOne(one, {"$setOnInsert": {**one, "sampledAt": at}}, upsert=True))
            writes.append(UpdateOne({**one, "sampledAt": {"$lte": at}}, change))
        if writes:
            await self._collection.bulk_write(writes, ordered=True)
        named = [member["userId"] for member in members]
        gone = {"pageId": page_id, "userId": {"$nin": named}, "sampledAt": {"$lt": at}}
        await self._collection.update_many(gone, {"$set": {"isRemoved": True, "isOnline": False}})

    async def names(self, page_id: str | None = None) -> dict[str, str]:
        """What members are called, by user id; of one page or of all."""
        query = {"pageId": page_id} if page_id is not None else {}
        found = self._collection.find(query, {"userId": 1, "name": 1})
        return {document["userId"]: document["name"] or document["userId"] async for document in found}
