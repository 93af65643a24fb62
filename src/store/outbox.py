"""What is to be told, to whom, and what became of it.

`alert_items`: one row per alert, step and address, written before anything is sent; its id makes it one, whoever writes
it and how often. `alert_messages`: what was or is being sent to one address, of one item or of many.
An item is `pending`, `taken` by a message, and then `sent`, `dropped` (nobody needs it any more) or `failed`.
A message is `open` until a call for it is about to be made, then `sending` until its answer is known: one that is found
`sending` may have arrived. It ends `sent`, `dropped` or `failed`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ASCENDING, IndexModel, UpdateOne

from ..clients.mongo import Collection, Database, Document, insert_new

KEPT = timedelta(days=100)  # longer than an alert is: the row is what keeps a step from being told twice
HELD_S = 150.0  # a message whose sender died is taken up by another after this long
MOST_ITEMS = 500  # of one message
UNFINISHED = ("open", "sending")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to tell one address. `release_at`: not before, Unix seconds. `facts`: what its text is made of."""

    alert_id: str
    step: str
    to: str
    kind: str
    severity: str
    release_at: float
    facts: dict[str, Any] = field(default_factory=dict)
    page_id: str | None = None
    conversation_id: str | None = None
    state: str = "pending"

    @property
    def item_id(self) -> str:
        """`<alert>|<step>|<address>`."""
        return f"{self.alert_id}|{self.step}|{self.to}"


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message under way. `was_sending`: a call for it was made or begun, and nobody knows what came of it."""

    message_id: str
    to: str
    was_sending: bool = False


class Outbox:
    """Every method may be repeated and run from several workers at once."""

    def __init__(self, database: Database) -> None:
        self._items = database["alert_items"]
        self._messages = database["alert_messages"]

    async def ensure_indexes(self) -> None:
        """Create what is missing."""
        pending = {"state": "pending"}
        await self._items.create_indexes(
            [
                IndexModel([("to", ASCENDING), ("releaseAt", ASCENDING)], partialFilterExpression=pending),
                IndexModel(
                    [("pageId", ASCENDING), ("releaseAt", ASCENDING)], partialFilterExpression=pending, name="released"
                ),
                IndexModel([("to", ASCENDING)], partialFilterExpression={"state": "failed"}, name="failed"),
                IndexModel([("messageId", ASCENDING)], sparse=True),
                IndexModel([("alertId", ASCENDING)]),
                IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0),
            ]
        )
        unfinished = {"isUnfinished": True}
        await self._messages.create_indexes(
            [
                IndexModel([("to", ASCENDING), ("heldUntil", ASCENDING)], partialFilterExpression=unfinished),
                IndexModel([("heldUntil", ASCENDING)], partialFilterExpression=unfinished, name="left"),
                IndexModel([("to", ASCENDING), ("sentAt", ASCENDING)]),
                IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0),
            ]
        )

    async def add(self, items: Sequence[Item]) -> None:
        """Put items in. One that is there already stays as it is, but one that was dropped waits again."""
        now = datetime.now(UTC)
        for start in range(0, len(items), MOST_ITEMS):
            some = items[start : start + MOST_ITEMS]
            there = await insert_new(self._items, [_document(item, now) for item in some])
            writes = [
                UpdateOne(
                    {"_id": some[place].item_id, "state": "dropped"},
                    {"$set": {"state": "pending", "releaseAt": some[place].release_at}, "$unset": {"messageId": ""}},
                )
                for place in there
            ]
            if writes:
                await self._items.bulk_write(writes, ordered=False)

    async def addresses(self, now: float, page_id: str | None = None) -> set[str]:
        """Addresses for which something about this page is to be sent now.

        Without a page: something about none, or a message that is left over from a sender that died.
        """
        query: Document = {"state": "pending", "releaseAt": {"$lte": now}, "pageId": page_id}
        found = await _addresses(self._items, query, "released")
        if page_id is None:
            found |= await _addresses(self._messages, {"isUnfinished": True, "heldUntil": {"$lte": now}}, "left")
        return found

    async def told(self, alert_ids: Iterable[str]) -> list[Item]:
        """What was told, or is being told, of these alerts."""
        query = {"alertId": {"$in": list(alert_ids)}, "state": {"$in": ["sent", "taken"]}}
        return [_item(document) async for document in self._items.find(query)]

    async def heard(self, to: str, alert_ids: Iterable[str]) -> set[str]:
        """Those of these alerts of which this address was told."""
        query = {"alertId": {"$in": list(alert_ids)}, "to": to, "state": "sent"}
        return set(await self._items.distinct("alertId", query))

    async def take_up(self, to: str, now: float) -> Parcel | None:
        """A message to this address that nobody sends any more, though it is not over; held from now on."""
        found = await self._messages.find_one_and_update(
            {"to": to, "isUnfinished": True, "heldUntil": {"$lte": now}},
            {"$set": {"heldUntil": now + HELD_S}},
            sort=[("heldUntil", ASCENDING)],
        )
        return Parcel(found["_id"], to, was_sending=found["state"] == "sending") if found else None

    async def begin(self, to: str, message_id: str, now: float) -> Parcel | None:
        """A new message with all that is pending for this address. None where nothing is."""
        query = {"to": to, "state": "pending", "releaseAt": {"$lte": now}}
        ids = [document["_id"] async for document in self._items.find(query, {"_id": 1}).limit(MOST_ITEMS)]
        if not ids:
            return None
        made = {
            "_id": message_id,
            "to": to,
            "state": "open",
            "isUnfinished": True,
            "heldUntil": now + HELD_S,
            "tries": 0,
        }
        # the message first: items taken by a message that is not there would be lost
        await self._messages.insert_one({**made, "createdAt": datetime.now(UTC), "expiresAt": datetime.now(UTC) + KEPT})
        await self._items.update_many(
            {"_id": {"$in": ids}, "state": "pending"}, {"$set": {"state": "taken", "messageId": message_id}}
        )
        return Parcel(message_id, to)

    async def items(self, message_id: str) -> list[Item]:
        """What a message is made of."""
        found = self._items.find({"messageId": message_id, "state": "taken"})
        return [_item(document) async for document in found]

    async def put_back(self, items: Sequence[Item], release_at: float) -> None:
        """Not now: these wait until then."""
        await self._items.update_many(
            {"_id": {"$in": [item.item_id for item in items]}, "state": "taken"},
            {"$set": {"state": "pending", "releaseAt": release_at}, "$unset": {"messageId": ""}},
        )

    async def drop(self, items: Sequence[Item]) -> None:
        """Nobody needs to be told these any more."""
        await self._items.update_many(
            {"_id": {"$in": [item.item_id for item in items]}, "state": "taken"}, {"$set": {"state": "dropped"}}
        )

    async def drop_pending(self, alert_ids: Sequence[str], *, but_step: str) -> None:
        """What is over before it was told is never told, but for the step that says so; nor what could not be told."""
        waits = {"$in": ["pending", "failed"]}
        query = {"alertId": {"$in": list(alert_ids)}, "state": waits, "step": {"$ne": but_step}}
        await self._items.update_many(query, {"$set": {"state": "dropped"}})

    async def sending(self, parcel: Parcel, text: str) -> None:
        """A call is about to be made."""
        await self._messages.update_one(
            {"_id": parcel.message_id}, {"$set": {"state": "sending", "text": text}, "$inc": {"tries": 1}}
        )

    async def let_go(self, parcel: Parcel, error: str, *, is_unsure: bool) -> None:
        """It did not arrive, or (`is_unsure`) nobody knows; whoever comes next tries again."""
        state = "sending" if is_unsure else "open"
        await self._messages.update_one(
            {"_id": parcel.message_id}, {"$set": {"state": state, "heldUntil": 0.0, "error": error}}
        )

    async def finish(
        self, parcel: Parcel, state: str, at: float, *, error: str | None = None, sent_id: str | None = None
    ) -> None:
        """It is over: `sent`, `dropped` or `failed`, and so are its items. `at` is now, in Unix seconds."""
        # items first: a message that is found unfinished is looked at again, its items are not
        if state != "dropped":
            await self._items.update_many(
                {"messageId": parcel.message_id, "state": "taken"},
                {"$set": {"state": state, "toldAt": at}},
            )
        ended: Document = {"state": state, "sentId": sent_id, "error": error}
        if state == "sent":
            ended["sentAt"] = at
        await self._messages.update_one(
            {"_id": parcel.message_id}, {"$set": ended, "$unset": {"isUnfinished": "", "heldUntil": ""}}
        )

    async def sent_since(self, to: str, since: float) -> int:
        """How many messages this address was sent."""
        return int(await self._messages.count_documents({"to": to, "sentAt": {"$gte": since}}))

    async def retry_failed(self, to: str) -> int:
        """What failed is tried again; returns how many items there are."""
        result = await self._items.update_many(
            {"to": to, "state": "failed"}, {"$set": {"state": "pending"}, "$unset": {"messageId": ""}}
        )
        return int(result.modified_count)


async def _addresses(collection: Collection, query: Document, index: str) -> set[str]:
    found = collection.aggregate([{"$match": query}, {"$group": {"_id": "$to"}}], hint=index)
    return {document["_id"] async for document in found}


def _document(item: Item, now: datetime) -> Document:
    return {
        "_id": item.item_id,
        "alertId": item.alert_id,
        "step": item.step,
        "to": item.to,
        "kind": item.kind,
        "severity": item.severity,
        "releaseAt": item.release_at,
        "facts": item.facts,
        "pageId": item.page_id,
        "conversationId": item.conversation_id,
        "state": item.state,
        "createdAt": now,
        "expiresAt": now + KEPT,
    }


def _item(document: Document) -> Item:
    return Item(
        alert_id=document["alertId"],
        step=document["step"],
        to=document["to"],
        kind=document["kind"],
        severity=document["severity"],
        release_at=document["releaseAt"],
        facts=document["facts"],
        page_id=document["pageId"],
        conversation_id=document["conversationId"],
        state=document["state"],
    )
