"""`webhook_deliveries`: one event on its way to one endpoint, with every attempt."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from functools import partial

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne

from ..batcher import Batcher
from ..clients.mongo import DUPLICATE, Collection, Database, Document, insert, journaled, quick
from ..errors import Transient
from .webhook_records import BRIEF, OPEN, Change, Choice, Delivery, Sending, delivery_of, document_of, held_by


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
                # what people ask for without saying whose; the others are too many to be indexed for it
                IndexModel([("createdAt", ASCENDING)], partialFilterExpression={"status": "dead"}),
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
        async for found in self._collection.find(choice.query(), BRIEF).sort("createdAt", order).limit(limit):
            yield delivery_of(found)

    async def count(self, choice: Choice) -> int:
        """How many fit."""
        return int(await self._collection.count_documents(choice.query()))

    async def overdue(self, before: datetime, limit: int, after: Delivery | None = None) -> list[Delivery]:
        """Open ones whose next try should have been before then, the most overdue first; those `after` a known one."""
        query: Document = {"nextTryAt": {"$lt": before}}
        if after:
            same = {"nextTryAt": after.next_try_at, "_id": {"$gt": after.delivery_id}}
            query = {"$and": [query, {"$or": [{"nextTryAt": {"$gt": after.next_try_at}}, same]}]}
        found = self._collection.find(query, BRIEF).sort([("nextTryAt", ASCENDING), ("_id", ASCENDING)])
        return [delivery_of(document) async for document in found.limit(limit)]

    async def hand_over(self, delivery: Delivery, job_id: str) -> None:
        """Have `job_id` carry it, unless somebody calls at this moment or another job has got it. Safe to repeat."""
        await self._journaled.update_one(
            {"_id": delivery.delivery_id, "jobId": delivery.job_id, "sending": held_by(delivery)},
            {"$set": {"jobId": job_id}},
        )

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
                        **_undoable(delivery, replay_id),
                    }
                },
            )
            for delivery, at, job_id in zip(deliveries, next_try_at, job_ids, strict=True)
        ]
        if operations:
            await self._journaled.bulk_write(operations, ordered=False)

    async def wake(self, endpoint_id: str, at: datetime) -> None:
        """Have what is parked without a job be due, so that it is found if nobody lives to give it one."""
        parked = {"endpointId": endpoint_id, "status": "parked", "nextTryAt": None}
        await self._journaled.update_many(parked, {"$set": {"nextTryAt": at}})

    async def cancel(self, replay_id: str) -> list[str]:
        """Put back what a replay has not tried yet to what it was before; returns the jobs that carried those.

        What it made for events that had no delivery is deleted; for that the list has its own id. Safe to repeat.
        """
        untried = {"replayId": replay_id, "status": {"$in": list(OPEN)}, "tries": 0, "sending": None}
        found = [each async for each in self._collection.find(untried, {"jobBefore": 1})]
        await self._collection.delete_many({**untried, "before": None})
        waits = {"$cond": [{"$in": ["$before", list(OPEN)]}, "$$NOW", "$$REMOVE"]}  # if no job carries it any more
        await self._collection.update_many(
            untried,
            [
                {"$set": {"status": "$before", "jobId": "$jobBefore", "nextTryAt": waits}},
                {"$unset": ["replayId", "before", "jobBefore"]},
            ],
        )
        return [each.get("jobBefore", each["_id"]) for each in found]

    async def drop(self, delivery_ids: Sequence[str]) -> None:
        """Delete deliveries whose event was never accepted."""
        await self._collection.delete_many({"_id": {"$in": list(delivery_ids)}})

    async def _add_many(self, collection: Collection, deliveries: list[Delivery]) -> list[bool | Exception]:
        faults = await insert(collection, [document_of(each, self._retention) for each in deliveries])
        codes = [faults[at]["code"] if at in faults else None for at in range(len(deliveries))]
        return [
            Transient(f"MongoDB did not take a delivery (error {code})") if code not in (None, DUPLICATE) else not code
            for code in codes
        ]

    async def _get_many(self, delivery_ids: list[str]) -> list[Delivery | None]:
        query = {"_id": {"$in": delivery_ids}}
        found = {document["_id"]: delivery_of(document) async for document in self._collection.find(query, BRIEF)}
        return [found.get(delivery_id) for delivery_id in delivery_ids]

    async def _begin_many(self, asked: list[tuple[Delivery, Sending, Document | None]]) -> list[bool | Exception]:
        operations = []
        for delivery, sending, interrupted in asked:
            update: Document = {"$set": {"sending": sending.document(), "jobId": sending.job_id}}
            if interrupted:
                update["$push"] = {"attempts": interrupted}
            query = {"_id": delivery.delivery_id, "status": {"$in": OPEN}, "sending": held_by(delivery)}
            operations.append(UpdateOne(query, update))
        done = await quick(self._collection).bulk_write(operations, ordered=False)
        if done.matched_count == len(asked):
            return [True] * len(asked)
        ids = [delivery.delivery_id for delivery, _, _ in asked]
        now = {found["_id"]: delivery_of(found) async for found in self._collection.find({"_id": {"$in": ids}}, BRIEF)}
        return [
            delivery.delivery_id in now and now[delivery.delivery_id].sending == sending
            for delivery, sending, _ in asked
        ]

    async def _written(self, changes: list[tuple[Document, Document]]) -> int:
        """How many matched."""
        if len(changes) == 1:  # a bulk costs the driver much more
            return int((await self._journaled.update_one(*changes[0])).matched_count)
        operations = [UpdateOne(query, update) for query, update in changes]
        return int((await self._journaled.bulk_write(operations, ordered=False)).matched_count)

    async def _settle_many(self, changes: list[Change]) -> list[Exception | None]:
        if await self._written([change.update() for change in changes]) == len(changes):
            return [None] * len(changes)
        ids = [change.delivery_id for change in changes]
        there = {found["_id"] async for found in self._collection.find({"_id": {"$in": ids}}, {"_id": 1})}
        # a primary that was voted out took them with it: they were not on a majority yet
        return [None if each in there else Transient(f"delivery {each} is gone from MongoDB") for each in ids]


def _undoable(delivery: Delivery, replay_id: str | None) -> Document:
    """What `cancel` needs to put it back; a delivery the replay has made is deleted instead."""
    if replay_id is None or delivery.replay_id == replay_id:
        return {}
    return {"replayId": replay_id, "before": delivery.status, "jobBefore": delivery.job_id}
