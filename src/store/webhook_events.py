"""`webhook_events`: what happened, as the bytes every endpoint is sent, each event accepted once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from pymongo import ASCENDING, IndexModel

from ..batcher import Batcher
from ..clients.mongo import DUPLICATE, Collection, Database, Document, insert, journaled, quick
from ..errors import Transient


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `body`: the request body, as JSON. `endpoint_ids`: who subscribed to it when it was accepted."""

    event_id: str
    merchant_id: str
    event: str
    body: bytes
    endpoint_ids: tuple[str, ...]
    created_at: datetime
    idempotency_key: str | None = None
    order_key: str | None = None


class WebhookEvents:
    """Raises what the driver raises."""

    def __init__(self, database: Database, retention: timedelta) -> None:
        self._collection = database["webhook_events"]
        self._retention = retention
        self._add = Batcher(partial(self._add_many, quick(self._collection)))
        self._add_durably = Batcher(partial(self._add_many, journaled(self._collection)))
        self._get = Batcher(self._get_many)

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        await self._collection.create_indexes(
            [
                IndexModel([("eventId", ASCENDING)], unique=True),
                IndexModel(
                    [("merchantId", ASCENDING), ("idempotencyKey", ASCENDING)],
                    unique=True,
                    partialFilterExpression={"idempotencyKey": {"$exists": True}},
                ),
                IndexModel([("merchantId", ASCENDING), ("createdAt", ASCENDING), ("eventId", ASCENDING)]),
                IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0),
            ]
        )

    async def add(self, event: Event, *, durably: bool = False) -> Event:
        """Store the event and return it; where its id or its idempotency key is taken, the one that has it.

        On the disk on return where that is `durably`, else when a delivery of it is settled. Safe to repeat. Many at
        once are written in one round trip.
        """
        return await (self._add_durably if durably else self._add)(event)

    async def extend(self, event_id: str, endpoint_ids: Sequence[str]) -> None:
        """Add to the endpoints that get it. Safe to repeat."""
        await self._collection.update_one(
            {"eventId": event_id}, {"$addToSet": {"endpointIds": {"$each": list(endpoint_ids)}}}
        )

    async def drop(self, event_id: str) -> None:
        """Delete it. Safe to repeat."""
        await self._collection.delete_one({"eventId": event_id})

    async def get(self, event_id: str) -> Event | None:
        """The event of that id. Many at once are read in one round trip."""
        return await self._get(event_id)

    async def after(self, merchant_id: str, at: datetime, event_id: str, until: datetime, limit: int) -> list[Event]:
        """A merchant's events accepted after (`at`, `event_id`) and before `until`, oldest first, at most `limit`."""
        query: Document = {
            "merchantId": merchant_id,
            "createdAt": {"$lt": until},
            "$or": [{"createdAt": {"$gt": at}}, {"createdAt": at, "eventId": {"$gt": event_id}}],
        }
        found = self._collection.find(query).sort([("createdAt", ASCENDING), ("eventId", ASCENDING)]).limit(limit)
        return [_event(document) async for document in found]

    async def _add_many(self, collection: Collection, events: list[Event]) -> list[Event | Exception]:
        faults = await insert(collection, [self._document(event) for event in events])
        return [await self._taken(event, faults[at]) if at in faults else event for at, event in enumerate(events)]

    async def _taken(self, event: Event, fault: Document) -> Event | Exception:
        """Who has the id or the key."""
        error = Transient(f"MongoDB did not take event {event.event_id} (error {fault['code']})")
        if fault["code"] != DUPLICATE:
            return error
        same: list[Document] = [{"eventId": event.event_id}]
        if event.idempotency_key is not None:
            same.append({"merchantId": event.merchant_id, "idempotencyKey": event.idempotency_key})
        found = await self._collection.find_one({"$or": same})
        return _event(found) if found else error

    async def _get_many(self, event_ids: list[str]) -> list[Event | None]:
        found = {
            document["eventId"]: _event(document)
            async for document in self._collection.find({"eventId": {"$in": event_ids}})
        }
        return [found.get(event_id) for event_id in event_ids]

    def _document(self, event: Event) -> Document:
        document: Document = {
            "eventId": event.event_id,
            "merchantId": event.merchant_id,
            "event": event.event,
            "body": event.body,
            "endpointIds": list(event.endpoint_ids),
            "createdAt": event.created_at,
            "expiresAt": event.created_at + self._retention,
        }
        if event.idempotency_key is not None:
            document["idempotencyKey"] = event.idempotency_key
        if event.order_key is not None:
            document["orderKey"] = event.order_key
        return document


def _event(found: Document) -> Event:
    return Event(
        event_id=found["eventId"],
        merchant_id=found["merchantId"],
        event=found["event"],
        body=bytes(found["body"]),
        endpoint_ids=tuple(found["endpointIds"]),
        created_at=found["createdAt"],
        idempotency_key=found.get("idempotencyKey"),
        order_key=found.get("orderKey"),
    )
