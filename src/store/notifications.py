"""`notifications`: messages inside the app, one for each thing told. Clients mark them read."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pymongo import ASCENDING, DESCENDING, IndexModel

from ..clients.mongo import Database, Document, insert_new

KEPT = timedelta(days=90)


class Notifications:
    """`userId` is a member of staff, or `all`. Safe to repeat: one that is there stays, read or not."""

    def __init__(self, database: Database) -> None:
        self._collection = database["notifications"]

    async def ensure_indexes(self) -> None:
        """Create what is missing."""
        await self._collection.create_indexes(
            [
                IndexModel([("userId", ASCENDING), ("createdAt", DESCENDING)]),
                IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0),
            ]
        )

    async def add(self, notifications: Sequence[Document]) -> None:
        """Each with an `_id` of its own, `userId`, `title`, `text`, `link`, `severity` and what it is about."""
        now = datetime.now(UTC)
        rest: Document = {"createdAt": now, "readAt": None, "expiresAt": now + KEPT}
        if notifications:
            await insert_new(
                self._collection, [{**each, "notificationId": each["_id"], **rest} for each in notifications]
            )
