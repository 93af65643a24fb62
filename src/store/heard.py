"""What Pancake's webhooks tell of conversations and their messages, written for many at once.

The rules are those of the stores beside it. Of two versions of a message the one heard, or asked for, later stays
(`rows.py`). How a conversation stands is worked out as `sync/standing.py` does: `messageVersion` is counted up after
the messages are stored, and what they say is written only where the version is still the one read before them. What
an event says of the conversation itself counts until a list is asked; `heardAt` is when the last event came in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pymongo import ASCENDING, DESCENDING, UpdateOne
from pymongo.errors import BulkWriteError

from ..clients.mongo import DUPLICATE, Collection, Database, Document
from ..errors import Transient
from ..rules.waiting import Standing, standing
from .conversations import NO_PLAN, nobody_waits, standing_fields
from .messages import AFTER_REPLY, SAID, said_of
from .rows import RowStore, Stored


@dataclass(frozen=True, slots=True)
class Told:
    """What was heard of one conversation at `at`, to the millisecond.

    `met`: the document to begin with where it is not known, None where no message came with it. `fields`: what was
    said of it.
    """

    conversation_id: str
    at: datetime
    fields: Document
    met: Document | None = None
    is_removed: bool = False


class _HeardMessages(RowStore):
    """Each row brings the time it was heard at, as `syncedAt`."""

    def _write(self, row: Document, asked_at: datetime, *, upsert: bool = True) -> UpdateOne:
        return super()._write(row, row["syncedAt"], upsert=upsert)


class Heard:
    """Safe to repeat, and to run from several processes at once."""

    def __init__(self, database: Database) -> None:
        self._conversations: Collection = database["conversations"]
        self._messages = _HeardMessages(database["messages"], identity=("messageId",), order="insertedAt")

    async def keep(self, messages: Sequence[Document]) -> Stored:
        """Store messages, each id once, each with `syncedAt`; `tell` and `settle` have to follow."""
        if not messages:
            return Stored()
        return await self._messages.upsert(messages, min(message["syncedAt"] for message in messages))

    async def tell(self, told: Sequence[Told]) -> None:
        """Store what was said of conversations, each once, and count up the versions of those with messages."""
        writes = [write for each in told for write in _writes(each)]
        try:
            await self._conversations.bulk_write(writes, ordered=False)
        except BulkWriteError as e:
            faults = e.details["writeErrors"]
            if any(fault["code"] != DUPLICATE for fault in faults) or e.details["writeConcernErrors"]:
                raise Transient("MongoDB refused what was told of conversations") from None
            # somebody else met the same conversation at the same moment; now it is there
            await self._conversations.bulk_write([writes[fault["index"]] for fault in faults], ordered=False)

    async def settle(self, heard_at: Mapping[str, datetime]) -> None:
        """Store how these conversations stand by their stored messages. One that is gone, and was not heard of since
        (`heard_at`), waits for nobody.
        """
        left = set(heard_at)
        done: dict[str, tuple[int, str | None]] = {}
        while left:
            found = await self._found(left)
            moved = {key: each for key, each in found.items() if done.get(key) != _state(each)}
            alive = await self._alive(moved, heard_at)
            standings = await self._standings(alive)
            writes = [_stand(moved[key], stands) for key, stands in standings.items()]
            if not writes:
                return
            result = await self._conversations.bulk_write(writes, ordered=False)
            if result.matched_count == len(writes):
                return
            left = set(standings)
            done = {key: (_state(moved[key])[0], _waiting_for(stands)) for key, stands in standings.items()}

    async def _found(self, conversation_ids: set[str]) -> dict[str, Document]:
        fields = {"conversationId": 1, "messageVersion": 1, "awaitingMessageId": 1, "deletedAt": 1}
        found = self._conversations.find({"conversationId": {"$in": list(conversation_ids)}}, fields)
        return {each["conversationId"]: each async for each in found}

    async def _alive(self, found: Mapping[str, Document], heard_at: Mapping[str, datetime]) -> list[str]:
        """Those that are there; what was taken for gone and speaks is there again."""
        gone = {key: each["deletedAt"] for key, each in found.items() if each.get("deletedAt")}
        back = {key for key, at in gone.items() if at < heard_at[key]}
        if back:
            again: Document = {"$unset": {"deletedAt": "", "missingSince": ""}}
            writes = [UpdateOne({"conversationId": key, "deletedAt": gone[key]}, again) for key in back]
            await self._conversations.bulk_write(writes, ordered=False)
        return [key for key in found if key not in gone or key in back]

    async def _standings(self, conversation_ids: Sequence[str]) -> dict[str, Standing]:
        """How they stand by the few messages that decide it: found by index, in one call for all."""
        if not conversation_ids:
            return {}
        first_reply = {"$ifNull": [{"$first": "$reply.stamp"}, -1]}
        since = {"sender": "customer", "$expr": {"$gte": ["$stamp", "$$since"]}}
        stages: list[Document] = [
            {"$match": {"conversationId": {"$in": list(conversation_ids)}}},
            {"$project": {"conversationId": 1}},
            _lookup("reply", {"sender": "agent"}, DESCENDING, 1),
            _lookup("last", {}, DESCENDING, 1),
            _lookup("waiting", since, ASCENDING, AFTER_REPLY, let={"since": first_reply}),
        ]
        found = {}
        async for each in self._conversations.aggregate(stages):
            said = {part["messageId"]: said_of(part) for name in ("reply", "last", "waiting") for part in each[name]}
            found[each["conversationId"]] = standing(said.values())
        return found


def _writes(told: Told) -> list[UpdateOne]:
    """Two, whose order does not matter: a new document has the fields already."""
    one: Document = {"conversationId": told.conversation_id}
    fields: Document = {**told.fields, "heardAt": told.at}
    writes = []
    if told.met is not None:
        count = {"$inc": {"messageVersion": 1}, "$max": {"seenAt": told.at}}
        begin = {"$setOnInsert": {**told.met, **fields}}
        writes.append(UpdateOne(one, {**count, **begin}, upsert=True) if not told.is_removed else UpdateOne(one, count))
    news = {**one, "heardAt": {"$not": {"$gt": told.at}}, "syncedAt": {"$not": {"$gt": told.at}}}
    change: Document = {"$set": fields}
    if told.is_removed:
        change = {"$set": {**fields, **nobody_waits(), "deletedAt": told.at}, "$unset": NO_PLAN}
    return [*writes, UpdateOne(news, change)]


def _lookup(name: str, match: Document, order: int, most: int, *, let: Document | None = None) -> Document:
    pipeline: list[Document] = [
        {"$match": {"isRemoved": {"$ne": True}, **match}},
        {"$sort": {"stamp": order, "messageId": order}},
        {"$limit": most},
        {"$project": SAID},
    ]
    by_id = {"from": "messages", "localField": "conversationId", "foreignField": "conversationId", "as": name}
    return {"$lookup": {**by_id, **({"let": let} if let else {}), "pipeline": pipeline}}


def _stand(read: Document, stands: Standing) -> UpdateOne:
    """Matches only the conversation as it was read, and not one that was deleted since."""
    version, waiting_for = _state(read)
    as_read = {"messageVersion": version, "awaitingMessageId": waiting_for, "deletedAt": None}
    change: Document = {"$set": standing_fields(stands)}
    if _waiting_for(stands) != waiting_for:
        change["$unset"] = NO_PLAN
    return UpdateOne({"conversationId": read["conversationId"], **as_read}, change)


def _state(read: Document) -> tuple[int, str | None]:
    return read.get("messageVersion", 0), read.get("awaitingMessageId")


def _waiting_for(stands: Standing) -> str | None:
    return stands.waiting.message_id if stands.waiting else None
