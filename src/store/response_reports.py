"""`reports`: what was reported of a day and page; and the messages of a stretch of time, as a report reads them.

Nothing of a page is loaded whole: messages come in order of their second, straight from the index.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel

from ..clients.mongo import Database, Document
from ..rules.waiting import Said
from .messages import said_of

AT_ONCE = 1_000  # conversations of one question
_SAID: Document = {"_id": 0, "conversationId": 1, "messageId": 1, "stamp": 1, "sender": 1, "staffId": 1}
_THERE: Document = {"isRemoved": {"$ne": True}}


class ResponseReports:
    """`since` and `until` are whole Unix seconds; a stretch goes from `since` to before `until`."""

    def __init__(self, database: Database) -> None:
        self._reports = database["reports"]
        self._messages = database["messages"]
        self._conversations = database["conversations"]

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        identity = [("kind", ASCENDING), ("day", DESCENDING), ("pageId", ASCENDING)]
        await self._reports.create_indexes([IndexModel(identity, unique=True)])

    async def said(self, page_id: str, since: int, until: int) -> AsyncIterator[tuple[str, Said]]:
        """(conversation, message) of the page, in order of their seconds; within one second in any."""
        query = {"pageId": page_id, "insertedAt": {"$gte": since, "$lt": until}, **_THERE}
        async for document in self._messages.find(query, _SAID).sort("insertedAt", ASCENDING).batch_size(5_000):
            yield document["conversationId"], said_of(document)

    async def waiting_before(self, page_id: str, since: int, until: int) -> set[str]:
        """Conversations with a customer's message in the stretch, whose customer had been waiting before it."""
        asked: Document = {"pageId": page_id, "insertedAt": {"$gte": since, "$lt": until}, "sender": "customer"}
        pipeline: list[Document] = [
            {"$match": {**asked, **_THERE}},
            {"$group": {"_id": "$conversationId"}},
            {
                "$lookup": {
                    "from": self._messages.name,
                    "localField": "_id",
                    "foreignField": "conversationId",
                    "pipeline": [
                        {
                            "$match": {
                                "stamp": {"$lt": since * 1_000_000},
                                "sender": {"$in": ["customer", "agent"]},
                                **_THERE,
                            }
                        },
                        {"$sort": {"stamp": DESCENDING, "messageId": DESCENDING}},
                        {"$limit": 1},
                        {"$project": {"_id": 0, "sender": 1}},
                    ],
                    "as": "before",
                }
            },
            {"$match": {"before.sender": "customer"}},
            {"$project": {"_id": 1}},
        ]
        return {document["_id"] async for document in self._messages.aggregate(pipeline)}

    async def first_answers(self, message_ids: Sequence[str], since: int) -> dict[str, tuple[int, str | None]]:
        """Of the conversations these messages stand in, each message's first answer of a human from `since` on.

        By message: (Unix microseconds, who). Those without an answer are left out.
        """
        found: dict[str, tuple[int, str | None]] = {}
        for start in range(0, len(message_ids), AT_ONCE):
            pipeline: list[Document] = [
                {"$match": {"messageId": {"$in": list(message_ids[start : start + AT_ONCE])}}},
                {"$project": {"messageId": 1, "conversationId": 1}},
                {
                    "$lookup": {
                        "from": self._messages.name,
                        "localField": "conversationId",
                        "foreignField": "conversationId",
                        "pipeline": [
                            {"$match": {"stamp": {"$gte": since * 1_000_000}, "sender": "agent", **_THERE}},
                            {"$sort": {"stamp": ASCENDING, "messageId": ASCENDING}},
                            {"$limit": 1},
                            {"$project": {"_id": 0, "stamp": 1, "staffId": 1}},
                        ],
                        "as": "answer",
                    }
                },
                {"$match": {"answer": {"$ne": []}}},
            ]
            async for document in self._messages.aggregate(pipeline):
                answer = document["answer"][0]
                found[document["messageId"]] = answer["stamp"], answer.get("staffId")
        return found

    async def left_out(
        self, page_id: str, since: int, is_left_out: Callable[[str | None, Sequence[str], Sequence[str]], bool]
    ) -> set[str]:
        """Conversations that changed from `since` on and of which `is_left_out(type, tags, names of tags)` holds."""
        query = {"pageId": page_id, "updatedAt": {"$gte": since}}
        wanted = {"conversationId": 1, "type": 1, "tags": 1, "tagNames": 1}
        return {
            document["conversationId"]
            async for document in self._conversations.find(query, wanted)
            if is_left_out(document.get("type"), document.get("tags") or (), document.get("tagNames") or ())
        }

    async def has_unread(self, page_id: str, since: int, until: int) -> bool:
        """Whether messages of a conversation that last changed in the stretch are still to be read."""
        due = {"pageId": page_id, "messagesDue": True, "updatedAt": {"$gte": since, "$lt": until}}
        return await self._conversations.find_one(due, {"_id": 1}) is not None

    async def save(self, kind: str, day: str, page_id: str, rows: Sequence[Document], **facts: Any) -> None:
        """Put a day's report in the place of the one there is. Safe to repeat."""
        identity = {"kind": kind, "day": day, "pageId": page_id}
        report = {**identity, "rows": list(rows), **facts, "computedAt": datetime.now(UTC)}
        await self._reports.replace_one(identity, report, upsert=True)

    async def get(self, kind: str, day: str, page_id: str) -> Document | None:
        """As stored."""
        return await self._reports.find_one({"kind": kind, "day": day, "pageId": page_id}, {"_id": 0})
