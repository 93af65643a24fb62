"""A webhook's delivery as the rest of the house knows it, and as MongoDB keeps it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from ..clients.mongo import Document

OPEN = ("pending", "parked")

MOST_ATTEMPTS = 500  # that are kept of a delivery: a document has its limits

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
    """One delivery. `tries`: attempts that counted, of `attempts` that were made; `job_id`: the job that carries it.

    `traceparent`: of the last attempt that was traced, or "".
    """

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
    traceparent: str = ""

    @property
    def delivery_id(self) -> str:
        """`<event>:<endpoint>`."""
        return f"{self.event_id}:{self.endpoint_id}"


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a delivery. None leaves a field as it is; `next_try_at` None takes it away.

    `only_from`: the `sending` the writer holds, without which nothing is written; `only_idle`: nothing is written while
    somebody calls. What is over is changed by who holds it alone.
    """

    delivery_id: str
    status: Status | None = None
    next_try_at: datetime | None = None
    attempts: tuple[Document, ...] = ()
    tries: int = 0  # to be added
    error: str | None = None
    only_from: Sending | None = None
    only_idle: bool = False

    def update(self) -> tuple[Document, Document]:
        """As MongoDB is told, query and update. It also says that nobody calls any more."""
        update: Document = {"$unset": {"sending": 1}, "$set": {}}
        if self.status:
            update["$set"]["status"] = self.status
        if self.error is not None:
            update["$set"]["error"] = self.error
        if self.next_try_at:
            update["$set"]["nextTryAt"] = self.next_try_at
        else:
            update["$unset"]["nextTryAt"] = 1
        if self.attempts:
            update["$push"] = {"attempts": {"$each": list(self.attempts), "$slice": -MOST_ATTEMPTS}}
            update["$inc"] = {"tries": self.tries}
        if not update["$set"]:
            del update["$set"]
        query: Document = {"_id": self.delivery_id}
        if self.only_from:
            query["sending"] = self.only_from.document()
        else:
            query["status"] = {"$in": OPEN}
            if self.only_idle:
                query["sending"] = None
        return query, update


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
            query["status"] = self.statuses[0] if len(self.statuses) == 1 else {"$in": list(self.statuses)}
        window = {"$gte": self.since, "$lt": self.until}
        if window := {operator: at for operator, at in window.items() if at}:
            query["createdAt"] = window
        return query


def document_of(delivery: Delivery, retention: timedelta) -> Document:
    """A new delivery as it is stored, and kept for `retention`."""
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
        "expiresAt": delivery.created_at + retention,
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
BRIEF: Document = {
    **dict.fromkeys(("eventId", "endpointId", "merchantId", "event", "jobId", "status", "tries", "nextTryAt"), 1),
    **dict.fromkeys(("createdAt", "error", "sending", "replayId", "orderKey"), 1),
    "attempts": {"$size": "$attempts"},
    "tp": {"$last": "$attempts.tp"},
}


def held_by(delivery: Delivery) -> Document | None:
    """The mark of its caller as it is stored."""
    return delivery.sending.document() if delivery.sending else None


def delivery_of(found: Document) -> Delivery:
    """A delivery read with `BRIEF`."""
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
        traceparent=found.get("tp") or "",
    )
