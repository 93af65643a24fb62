"""`conversations` as the monitor reads them: who waits, whose next step is due, what has to be planned again.

`nextStepAt` is the Unix second of the next step of the open wait, computed once and stored; `policyVersion` says by
which policy. Whoever changes the wait takes both away, so a plan is never older than what it is about.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING, IndexModel, UpdateOne

from ..clients.mongo import Database, Document

FIELDS: Document = dict.fromkeys(
    (
        *("conversationId", "pageId", "type", "customerName", "assigneeIds", "tags", "tagNames", "updatedAt"),
        *("awaitingReplySince", "awaitingMessageId", "repliedAt", "repliedBy", "messagesDue", "nextStepAt"),
        *("stamp", "messagesStamp"),
        *("openAlertId", "deletedAt"),
    ),
    1,
)


@dataclass(frozen=True, slots=True)
class Waiter:
    """A conversation, as far as waiting goes. Times are Unix seconds; `since` is None where nobody waits."""

    conversation_id: str
    page_id: str
    since: int | None
    message_id: str
    type: str | None
    customer_name: str | None
    assignee_ids: tuple[str, ...]
    tags: tuple[str, ...]
    tag_names: tuple[str, ...]
    replied_at: int | None
    replied_by: str | None
    messages_due: bool
    next_step_at: float | None
    open_alert_id: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """When the next step of a wait is due; None for never."""

    waiter: Waiter
    next_step_at: float | None
    policy_version: str
    open_alert_id: str | None = None


class Waiting:
    """Reads and plans. Safe to repeat and to run from several workers: a plan for a wait that is over is not stored."""

    def __init__(self, database: Database) -> None:
        self._collection = database["conversations"]

    async def ensure_indexes(self) -> None:
        """Create what is missing: partial ones, which hold only who waits."""
        await self._collection.create_indexes(
            [
                IndexModel(
                    [("pageId", ASCENDING), ("nextStepAt", ASCENDING)],
                    partialFilterExpression={"nextStepAt": {"$gt": 0}},
                    name="due",
                ),
                IndexModel(
                    [("pageId", ASCENDING), ("policyVersion", ASCENDING)],
                    partialFilterExpression={"awaitingReplySince": {"$gt": 0}},
                    name="waiting",
                ),
            ]
        )

    async def unplanned(self, page_id: str, policy_version: str, most: int) -> list[Waiter]:
        """Who waits and has no plan by this policy."""
        query: Document = {"pageId": page_id, "awaitingReplySince": {"$gt": 0}, "deletedAt": None}
        query["policyVersion"] = {"$ne": policy_version}
        return await self._found(query, most)

    async def due(self, page_id: str, now: float, most: int) -> list[Waiter]:
        """Whose next step is due, the longest due first."""
        query = {"pageId": page_id, "nextStepAt": {"$gt": 0, "$lte": now}, "deletedAt": None}
        found = self._collection.find(query, FIELDS).sort("nextStepAt", ASCENDING).limit(most)
        return [_waiter(document) async for document in found]

    async def get(self, conversation_ids: Iterable[str]) -> dict[str, Waiter]:
        """Those of these ids that there are and that are not deleted."""
        query = {"conversationId": {"$in": list(conversation_ids)}, "deletedAt": None}
        return {waiter.conversation_id: waiter for waiter in await self._found(query, 0)}

    async def plan(self, plans: Sequence[Plan]) -> None:
        """Store when the next steps are due, of waits that still are what they were when they were read."""
        writes = []
        for plan in plans:
            change: Document = {"$set": {"policyVersion": plan.policy_version}}
            if plan.next_step_at is None:
                change["$unset"] = {"nextStepAt": ""}
            else:
                change["$set"]["nextStepAt"] = plan.next_step_at
            if plan.open_alert_id:
                change["$set"]["openAlertId"] = plan.open_alert_id
            writes.append(UpdateOne(_same(plan.waiter), change))
        if writes:
            await self._collection.bulk_write(writes, ordered=False)

    async def postpone(self, conversation_id: str, until: float) -> None:
        """Look at this conversation again then, not sooner and not later, where somebody waits in it."""
        query = {"conversationId": conversation_id, "awaitingReplySince": {"$gt": 0}}
        await self._collection.update_many(query, {"$set": {"nextStepAt": until}})

    async def forget_alerts(self, over: Mapping[str, str]) -> None:
        """These alerts are over (alert id -> conversation id): no conversation has one of them open any more."""
        query = {"conversationId": {"$in": list(over.values())}, "openAlertId": {"$in": list(over)}}
        if over:
            await self._collection.update_many(query, {"$unset": {"openAlertId": ""}})

    async def count(self, page_id: str) -> int:
        """How many of a page's customers wait."""
        return int(await self._collection.count_documents({"pageId": page_id, "awaitingReplySince": {"$gt": 0}}))

    async def _found(self, query: Document, most: int) -> list[Waiter]:
        return [_waiter(document) async for document in self._collection.find(query, FIELDS).limit(most)]


def _same(waiter: Waiter) -> Document:
    query: Document = {"conversationId": waiter.conversation_id, "awaitingReplySince": waiter.since}
    query["awaitingMessageId"] = waiter.message_id if waiter.message_id != str(waiter.since) else None
    return query


def _waiter(document: Document) -> Waiter:
    since = document.get("awaitingReplySince")
    return Waiter(
        conversation_id=document["conversationId"],
        page_id=document["pageId"],
        since=since,
        # one that somebody else's program wrote may name no message: then its time names the wait
        message_id=document.get("awaitingMessageId") or str(since),
        type=document.get("type"),
        customer_name=document.get("customerName"),
        assignee_ids=_texts(document.get("assigneeIds")),
        tags=_texts(document.get("tags")),
        tag_names=_texts(document.get("tagNames")),
        replied_at=document.get("repliedAt"),
        replied_by=document.get("repliedBy"),
        # those that were read for this version, and are looked at once more, are known
        messages_due=bool(document.get("messagesDue")) and document.get("messagesStamp") != document.get("stamp"),
        next_step_at=document.get("nextStepAt"),
        open_alert_id=document.get("openAlertId"),
    )


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in value if each is not None) if isinstance(value, list) else ()
