"""`messages`: one document per message of a conversation. `stamp` is its time in Unix microseconds."""

from pymongo import ASCENDING, DESCENDING, IndexModel

from ..clients.mongo import Database, Document
from ..rules.waiting import Said
from .rows import RowStore

SAID: Document = {"messageId": 1, "stamp": 1, "sender": 1, "staffId": 1}


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

    async def since_last_reply(self, conversation_id: str) -> list[Said]:
        """What was said from the last human answer on, newest first; everything where nobody ever answered."""
        query = {"conversationId": conversation_id, "isRemoved": {"$ne": True}}
        found = self._collection.find(query, SAID).sort([("stamp", DESCENDING), ("messageId", DESCENDING)])
        said: list[Said] = []
        async for document in found.batch_size(100):
            said.append(said_of(document))
            if said[-1].sender == "agent":
                break
        return said


def said_of(document: Document) -> Said:
    """A stored message, as far as waiting goes."""
    return Said(document["messageId"], document["stamp"], document["sender"], document.get("staffId"))
