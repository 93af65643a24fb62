"""`conversations`: one document per conversation, what its messages say of it, and whether they are to be read.

`stamp` is `updated_at` in Unix microseconds: it tells changes within a second apart. `messagesStamp` is the one for
which all messages are stored; where the two differ `messagesDue` is true. `messageVersion` counts writes of messages,
so that who works out how things stand can tell that they moved meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument

from ..clients.mongo import Collection, Database, Document
from ..rules.waiting import Standing
from .rows import RowStore

NO_PLAN: Document = {"nextStepAt": "", "policyVersion": ""}
SHORT_US = 1_000_000  # of a second's grain
_DUE = "messages_due"  # of few among hundreds of thousands: not left to the planner, which may think of other days


@dataclass(frozen=True, slots=True)
class Rest:
    """What an unfinished reading left: all messages up to stamp `newest` but those older than the `skip` newest."""

    newest: int
    skip: int


@dataclass(frozen=True, slots=True)
class Unread:
    """A conversation whose messages are to be read. `through`: all up to this stamp are stored, None for none.

    `again`: the stamp for which they were read before, and did not reach it.
    """

    conversation_id: str
    stamp: int
    through: int | None = None
    rest: Rest | None = None
    again: int | None = None


class _Rows(RowStore):
    """A conversation that is gone waits for nobody, and is read anew should it come back."""

    def __init__(self, collection: Collection) -> None:
        super().__init__(collection, identity=("conversationId",), order="updatedAt")
        self._conversations = collection

    async def forget_missing(self, page_id: str, sweep_started_at: datetime, now: datetime) -> tuple[int, int]:
        """As `RowStore.forget_missing`."""
        marked = await super().forget_missing(page_id, sweep_started_at, now)
        left = [{"messagesStamp": {"$ne": None}}, {"awaitingReplySince": {"$ne": None}}]
        gone = {"pageId": page_id, "deletedAt": {"$ne": None}, "$or": left}
        await self._conversations.update_many(gone, {"$set": nobody_waits(), "$unset": NO_PLAN})
        return marked


class Conversations:
    """`rows` is what the list is written to. Every method may be repeated and run from several processes."""

    def __init__(self, database: Database) -> None:
        self._collection = database["conversations"]
        self.rows: RowStore = _Rows(self._collection)

    async def ensure_indexes(self) -> None:
        """Create what is missing."""
        await self.rows.ensure_indexes()
        due = [("pageId", ASCENDING), ("updatedAt", DESCENDING)]
        await self._collection.create_indexes(
            [IndexModel(due, partialFilterExpression={"messagesDue": True}, name=_DUE)]
        )

    async def mark_changed(self, conversation_ids: Sequence[str]) -> None:
        """Of these, those whose messages are not those of their present version are to be read."""
        changed = {"conversationId": {"$in": list(conversation_ids)}, "$expr": {"$ne": ["$messagesStamp", "$stamp"]}}
        if conversation_ids:
            await self._collection.update_many(changed, {"$set": {"messagesDue": True}})

    async def unread(self, page_id: str, now: float, most: int, *, newer_than: int | None = None) -> list[Unread]:
        """Whose messages are to be read now, the last changed first; those that failed lately wait."""
        query: Document = {"pageId": page_id, "messagesDue": True, "messagesNotBefore": {"$not": {"$gt": now}}}
        query["deletedAt"] = None
        if newer_than is not None:
            query["updatedAt"] = {"$gte": newer_than}
        fields = dict.fromkeys(("conversationId", "stamp", "messagesThrough", "messagesRest", "messagesAgain"), 1)
        found = self._collection.find(query, fields).sort("updatedAt", DESCENDING).hint(_DUE).limit(most)
        return [_unread(document) async for document in found]

    async def count_unread(self, page_id: str) -> int:
        """How many conversations of a page have messages to be read."""
        return int(await self._collection.count_documents({"pageId": page_id, "messagesDue": True}, hint=_DUE))

    async def have_read(self, unread: Unread, newest: int | None, again_at: float) -> None:
        """All its messages are stored, up to `newest`; should it have changed meanwhile it is to be read once more.

        And once more at `again_at` where none is as new as its change: that was a tag, or a message that shows later
        than the list does. One that is gone by now stays unread: its messages are to be looked at should it come back.
        """
        one = {"conversationId": unread.conversation_id, "deletedAt": None}
        read: Document = {
            "$max": {"messagesStamp": unread.stamp},
            "$unset": {"messagesNotBefore": "", "readFailures": "", "messagesRest": ""},
        }
        if newest is not None:
            read["$max"]["messagesThrough"] = newest
        await self._collection.update_one(one, read)
        done: Document = {"messagesDue": False}
        if (newest is None or newest < unread.stamp - SHORT_US) and unread.again != unread.stamp:
            done = {"messagesAgain": unread.stamp, "messagesNotBefore": again_at}
        await self._collection.update_one({**one, "stamp": unread.stamp}, {"$set": done})

    async def have_begun(self, unread: Unread, rest: Rest) -> None:
        """It is read but for the `rest`: the next reading goes on there."""
        kept = {"messagesRest": {"newest": rest.newest, "skip": rest.skip}}
        await self._collection.update_one({"conversationId": unread.conversation_id}, {"$set": kept})

    async def could_not_read(self, unread: Unread) -> int:
        """Count it; returns how many times in a row it could not be read."""
        after = await self._collection.find_one_and_update(
            {"conversationId": unread.conversation_id},
            {"$inc": {"readFailures": 1}},
            projection={"readFailures": 1},
            return_document=ReturnDocument.AFTER,
        )
        return int((after or {}).get("readFailures", 0))

    async def put_off(self, unread: Unread, until: float) -> None:
        """Leave it alone until then."""
        one = {"conversationId": unread.conversation_id}
        await self._collection.update_one(one, {"$set": {"messagesNotBefore": until}})

    async def bump(self, conversation_id: str) -> int | None:
        """Messages of it were written: the new version; None where there is no such conversation."""
        after = await self._collection.find_one_and_update(
            {"conversationId": conversation_id},
            {"$inc": {"messageVersion": 1}},
            projection={"messageVersion": 1},
            return_document=ReturnDocument.AFTER,
        )
        return int(after["messageVersion"]) if after else None

    async def stand(self, conversation_id: str, version: int, standing: Standing) -> int | None:
        """Store how things stand by the messages of this `version`; None when done, else the version there is now.

        Of a conversation that is gone nothing is stored: it waits for nobody.
        """
        fields = standing_fields(standing)
        at = {"conversationId": conversation_id, "messageVersion": version, "deletedAt": None}
        same_wait = {"awaitingMessageId": fields["awaitingMessageId"]}
        result = await self._collection.update_one({**at, **same_wait}, {"$set": fields})
        if not result.matched_count:
            other = {"awaitingMessageId": {"$ne": fields["awaitingMessageId"]}}
            result = await self._collection.update_one({**at, **other}, {"$set": fields, "$unset": NO_PLAN})
        if result.matched_count:
            return None
        found = await self._collection.find_one({"conversationId": conversation_id}, {"messageVersion": 1})
        return int(found["messageVersion"]) if found and found["messageVersion"] != version else None

    async def remove(self, conversation_id: str, at: datetime) -> None:
        """It was deleted on the other side."""
        gone = {**nobody_waits(), "deletedAt": at}
        await self._collection.update_one({"conversationId": conversation_id}, {"$set": gone, "$unset": NO_PLAN})

    async def get(self, conversation_id: str) -> Document | None:
        """As stored."""
        return await self._collection.find_one({"conversationId": conversation_id})


def _unread(document: Document) -> Unread:
    rest = document.get("messagesRest")
    return Unread(
        conversation_id=document["conversationId"],
        stamp=document.get("stamp") or 0,
        through=document.get("messagesThrough"),
        rest=Rest(rest["newest"], rest["skip"]) if rest else None,
        again=document.get("messagesAgain"),
    )


def nobody_waits() -> Document:
    """What a conversation says that is gone; should it come back, its messages are read anew."""
    return {"awaitingReplySince": None, "awaitingMessageId": None, "messagesStamp": None}


def standing_fields(standing: Standing) -> dict[str, Any]:
    """How a conversation stands, as it is stored."""
    last, waiting = standing.last, standing.waiting
    return {
        "lastSender": last.sender if last else None,
        "lastMessageAt": last.at_us // 1_000_000 if last else None,
        "awaitingReplySince": waiting.since_us // 1_000_000 if waiting else None,
        "awaitingMessageId": waiting.message_id if waiting else None,
        "repliedAt": standing.replied_us // 1_000_000 if standing.replied_us is not None else None,
        "repliedBy": standing.replied_by,
    }
