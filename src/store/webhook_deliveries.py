"""`webhook_deliveries`: one event on its way to one endpoint, with every attempt."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.errors import BulkWriteError

from ..batcher import Batcher
from ..clients.mongo import Collection, Database, Document, journaled, quick
from ..errors import Transient

DUPLICATE = 11000  # MongoDB's error code
OPEN = ("pending", "parked")

#: `pending`: to be tried, at once or at nextTryAt. `parked`: waits for its endpoint to be well again, or enabled.
Status = Literal["pending", "delivered", "parked", "dead"]


@dataclass(frozen=True, slots=True)
class Sending:
    """Somebody is about to call, or calls: the job `job_id`, since `at`, and not beyond `until`."""

    at: datetime
    until: datetime
    job_id: str

    def document(self) -> Document:
        """As it is stored."""
        return {"at": self.at, "until": self.until, "jobId": self.job_id}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery. `tries`: attempts that counted, of `attempts` that were made; `job_id`: the job that carries it."""

    event_id: str
    endpoint_id: str
    merchant_id: str
    event: str
    job_id: str
    created_at: datetime
    status: Status = "pending"
    attempts: int = 0
    tries: int = 0
    next_try_at: datetime | None = None
    error: str | None = None
    sending: Sending | None = None
    replay_id: str | None = None
    order_key: str | None = None

    @property
    def delivery_id(self) -> str:
        """`<event>:<endpoint>`."""
        return f"{self.event_id}:{self.endpoint_id}"


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a delivery. None leaves a field as it is; `next_try_at` None takes it away.

    `only_from`: the `sending` the writer holds, without which nothing is written.
    """

    delivery_id: str
    status: Status | None = None
    next_try_at: datetime | None = None
    attempts: tuple[Document, ...] = ()
    tries: int = 0  # to be added
    error: str | None = None
    more: Document = field(default_factory=dict)
    only_from: Sending | None = None

    def update(self) -> UpdateOne:
        """As MongoDB is told. It also says that nobody calls any more."""
        update: Document = {"$unset": {"sending": 1}, "$set": dict(self.more)}
        if self.status:
            update["$set"]["status"] = self.status
        if self.error is not None:
            update["$set"]["error"] = self.error
        if self.next_try_at:
            update["$set"]["nextTryAt"] = self.next_try_at
        else:
            update["$unset"]["nextTryAt"] = 1
        if self.attempts:
            update["$push"] = {"attempts": {"$each": list(self.attempts)}}
            update["$inc"] = {"tries": self.tries}
        if not update["$set"]:
            del update["$set"]
        query: Document = {"_id": self.delivery_id}
        if self.only_from:
            query["sending"] = self.only_from.document()
        return UpdateOne(query, update)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which deliveries: those that fit all that is given."""

    merchant_id: str | None = None
    endpoint_id: str | None = None
    event: str | None = None
    statuses: tuple[Status, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def query(self) -> Document:
        """As MongoDB asks for them. The window is over when the event was accepted, `since` to before `until`."""
        named = {"merchantId": self.merchant_id, "endpointId": self.endpoint_id, "event": self.event}
        query: Document = {name: value for name, value in named.items() if value is not None}
        if self.statuses:
            query["status"] = {"$in": list(self.statuses)}
        window = {"$gte": self.since, "$lt": self.until}
        if window := {operator: at for operator, at in window.items() if at}:
            query["createdAt"] = window
        return query


class WebhookDeliveries:
    """Raises what the driver raises. Many callers at once share their round trips."""

    def __init__(self, database: Database, retention: timedelta) -> None:
        self._collection = database["webhook_deliveries"]
        # a later write to the journal has the earlier ones before it: what this confirms is all on the disk
        self._journaled = journaled(self._collection)
        self._retention = retention
        self._add = Batcher(partial(self._add_many, quick(self._collection)))
        self._add_durably = Batcher(partial(self._add_many, self._journaled))
        self._get = Batcher(self._get_many)
        self._begin = Batcher(self._begin_many)
        self._settle = Batcher(self._settle_many)

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        is_open = {"nextTryAt": {"$exists": True}}
        await self._collection.create_indexes(
            [
                IndexModel([("eventId", ASCENDING), ("endpointId", ASCENDING)], unique=True),
                IndexModel([("nextTryAt", ASCENDING)], partialFilterExpression=is_open),
                IndexModel([("endpointId", ASCENDING), ("status", ASCENDING), ("createdAt", ASCENDING)]),
                IndexModel([("merchantId", ASCENDING), ("createdAt", DESCENDING)]),
                IndexModel([("replayId", ASCENDING)], sparse=True),
                IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0),
            ]
        )

    async def add(self, delivery: Delivery, *, durably: bool = False) -> bool:
        """Store a new delivery, on the disk on return where that is `durably`; False where it is there already, as it
        is. Safe to repeat.
        """
        return await (self._add_durably if durably else self._add)(delivery)

    async def get(self, delivery_id: str) -> Delivery | None:
        """The delivery of that id."""
        return await self._get(delivery_id)

    async def begin(self, delivery: Delivery, sending: Sending, interrupted: Document | None) -> bool:
        """Note that its endpoint is about to be called; False where somebody else was faster.

        `interrupted`: the attempt its last caller did not live to write down.
        """
        return await self._begin((delivery, sending, interrupted))

    async def settle(self, change: Change) -> None:
        """Note what became of it; on the disk on return, with all that was written before. Safe to repeat where it
        names whose attempt it was. Raises Transient where there is no such delivery (any more).
        """
        await self._settle(change)

    async def of_event(self, event_id: str) -> list[Document]:
        """All of an event as they are stored, with their attempts."""
        return [found async for found in self._collection.find({"eventId": event_id}).sort("endpointId", ASCENDING)]

    async def chosen(self, choice: Choice, limit: int = 0, *, newest_first: bool = False) -> AsyncIterator[Delivery]:
        """Those that fit, oldest first or `newest_first`; all where `limit` is 0."""
        order = DESCENDING if newest_first else ASCENDING
        async for found in self._collection.find(choice.query(), _BRIEF).sort("createdAt", order).limit(limit):
            yield _delivery(found)

    async def count(self, choice: Choice) -> int:
        """How many fit."""
        return int(await self._collection.count_documents(choice.query()))

    async def overdue(self, before: datetime, limit: int) -> list[Delivery]:
        """Open ones whose next try should have been before then, the most overdue first."""
        found = self._collection.find({"nextTryAt": {"$lt": before}}, _BRIEF).sort("nextTryAt", ASCENDING)
        return [_delivery(document) async for document in found.limit(limit)]

    async def reopen(
        self,
        deliveries: Sequence[Delivery],
        next_try_at: Sequence[datetime],
        job_ids: Sequence[str],
        replay_id: str | None,
    ) -> None:
        """Make them pending again with all their tries, carried by `job_ids`, unless somebody calls at this moment.

        `replay_id`: the replay that can be cancelled, which remembers what they were before.
        """
        operations = [
            UpdateOne(
                {"_id": delivery.delivery_id, "status": delivery.status, "sending": None},
                {
                    "$set": {
                        "status": "pending",
                        "tries": 0,
                        "nextTryAt": at,
                        "jobId": job_id,
                        **({"replayId": replay_id, "before": delivery.status} if replay_id else {}),
                    }
                },
            )
            for delivery, at, job_id in zip(deliveries, next_try_at, job_ids, strict=True)
        ]
        if operations:
            await self._journaled.bulk_write(operations, ordered=False)

    async def cancel(self, replay_id: str) -> int:
        """Put back what a replay has not tried yet to what it was before; returns how many those are.

        What it made for events that had no delivery is deleted.
        """
        untried = {"replayId": replay_id, "status": "pending", "tries": 0, "sending": None}
        deleted = await self._collection.delete_many({**untried, "before": None})
        changed = await self._collection.update_many(
            untried, [{"$set": {"status": "$before"}}, {"$unset": ["replayId", "before", "nextTryAt"]}]
        )
        return int(changed.modified_count + deleted.deleted_count)

    async def drop(self, delivery_ids: Sequence[str]) -> None:
        """Delete deliveries whose event was never accepted."""
        await self._collection.delete_many({"_id": {"$in": list(delivery_ids)}})

    async def _add_many(self, collection: Collection, deliveries: list[Delivery]) -> list[bool | Exception]:
        try:
            await collection.insert_many([self._document(each) for each in deliveries], ordered=False)
        except BulkWriteError as e:
            faults = {fault["index"]: fault["code"] for fault in e.details["writeErrors"]}
            return [at not in faults if faults.get(at, DUPLICATE) == DUPLICATE else e for at in range(len(deliveries))]
        return [True] * len(deliveries)

    async def _get_many(self, delivery_ids: list[str]) -> list[Delivery | None]:
        query = {"_id": {"$in": delivery_ids}}
        found = {document["_id"]: _delivery(document) async for document in self._collection.find(query, _BRIEF)}
        return [found.get(delivery_id) for delivery_id in delivery_ids]

    async def _begin_many(self, asked: list[tuple[Delivery, Sending, Document | None]]) -> list[bool | Exception]:
        operations = []
        for delivery, sending, interrupted in asked:
            held = delivery.sending.document() if delivery.sending else None
            update: Document = {"$set": {"sending": sending.document()}}
            if interrupted:
                update["$push"] = {"attempts": interrupted}
            query = {"_id": delivery.delivery_id, "status": {"$in": OPEN}, "sending": held}
            operations.append(UpdateOne(query, update))
        done = await quick(self._collection).bulk_write(operations, ordered=False)
        if done.matched_count == len(asked):
            return [True] * len(asked)
        ids = [delivery.delivery_id for delivery, _, _ in asked]
        now = {found["_id"]: _delivery(found) async for found in self._collection.find({"_id": {"$in": ids}}, _BRIEF)}
        return [
            delivery.delivery_id in now and now[delivery.delivery_id].sending == sending
            for delivery, sending, _ in asked
        ]

    async def _settle_many(self, changes: list[Change]) -> list[Exception | None]:
        done = await self._journaled.bulk_write([change.update() for change in changes], ordered=False)
        if done.matched_count == len(changes):
            return [None] * len(changes)
        ids = [change.delivery_id for change in changes]
        there = {found["_id"] async for found in self._collection.find({"_id": {"$in": ids}}, {"_id": 1})}
        # a primary that was voted out took them with it: they were not on a majority yet
        return [None if each in there else Transient(f"delivery {each} is gone from MongoDB") for each in ids]

    def _document(self, delivery: Delivery) -> Document:
        document: Document = {
            "_id": delivery.delivery_id,
            "eventId": delivery.event_id,
            "endpointId": delivery.endpoint_id,
            "merchantId": delivery.merchant_id,
            "event": delivery.event,
            "jobId": delivery.job_id,
            "status": delivery.status,
            "attempts": [],
            "tries": 0,
            "nextTryAt": delivery.next_try_at,
            "createdAt": delivery.created_at,
            "expiresAt": delivery.created_at + self._retention,
        }
        if delivery.next_try_at is None:
            del document["nextTryAt"]
        if delivery.sending:
            document["sending"] = delivery.sending.document()
        if delivery.replay_id:
            document["replayId"] = delivery.replay_id
        if delivery.order_key:
            document["orderKey"] = delivery.order_key
        return document


#: Without what the attempts say: they may hold much, and their number is enough.
_BRIEF: Document = {
    **dict.fromkeys(("eventId", "endpointId", "merchantId", "event", "jobId", "status", "tries", "nextTryAt"), 1),
    **dict.fromkeys(("createdAt", "error", "sending", "replayId", "orderKey"), 1),
    "attempts": {"$size": "$attempts"},
}


def _delivery(found: Document) -> Delivery:
    sending = found.get("sending")
    return replace(
        Delivery(
            found["eventId"],
            found["endpointId"],
            found["merchantId"],
            found["event"],
            found["jobId"],
            found["createdAt"],
        ),
        status=found["status"],
        attempts=found["attempts"],
        tries=found["tries"],
        next_try_at=found.get("nextTryAt"),
        error=found.get("error"),
        sending=Sending(sending["at"], sending["until"], sending["jobId"]) if sending else None,
        replay_id=found.get("replayId"),
        order_key=found.get("orderKey"),
    )
