"""`messages`: one document per message of a conversation. `stamp` is its time in Unix microseconds."""

from pymongo import ASCENDING, DESCENDING, IndexModel

from ..clients.mongo import Database, Document
from ..rules.waiting import Said
from .rows import RowStore

SAID: Document = {"messageId": 1, "stamp": 1, "sender": 1, "staffId": 1}
AFTER_REPLY = 5  # of the customer; the first is wanted, and more than one only where times are equal


class Messages:
    """`rows` is what is written to: of two versions of a message the one asked for later stays."""

    def __init__(self, database: Database) -> None:
        self._collection = database["messages"]
        self.rows = RowStore(self._collection, identity=("messageId",), order="insertedAt")

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        await self.rows.ensure_indexes()
        by_thread = [("conversationId", ASCENDING), ("stamp", DESCENDING), ("messageId", DESCENDING)]
        await self._collection.create_indexes([IndexModel(by_thread)])

    async def deciding(self, conversation_id: str) -> list[Said]:
        """The few messages by which a conversation stands as it does by all of them, removed ones left out.

        The last answer of a human, what the customer said first after it, and the last message of all.
        """
        alive = {"conversationId": conversation_id, "isRemoved": {"$ne": True}}
        newest = [("stamp", DESCENDING), ("messageId", DESCENDING)]
        last = await self._collection.find_one(alive, SAID, sort=newest)
        reply = await self._collection.find_one({**alive, "sender": "agent"}, SAID, sort=newest)
        query: Document = {**alive, "sender": "customer", **({"stamp": {"$gte": reply["stamp"]}} if reply else {})}
        oldest = [("stamp", ASCENDING), ("messageId", ASCENDING)]
        said = [each async for each in self._collection.find(query, SAID).sort(oldest).limit(AFTER_REPLY)]
        found = {each["messageId"]: said_of(each) for each in (*said, reply, last) if each}
        return list(found.values())


def said_of(document: Document) -> Said:
    """A stored message, as far as waiting goes."""
    return Said(document["messageId"], document["stamp"], document["sender"], document.get("staffId"))
