"""`alerts`: what is wrong now and what was: customers who wait, data that is late, agents that are gone.

One document an episode. `key` names what is wrong (`waiting:<conversation>`, `agent:<id>` ...): of one key one document
is open at most, which the index sees to, whoever opens it. `steps` are those that were handed to the outbox, in order.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from ..clients.mongo import Database, Document, insert_new

WAITING = "waiting"
KEPT = timedelta(days=90)  # after the end

Severity = Literal["info", "warning", "high", "critical"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One episode. Times are Unix seconds; `since` is when it began, on the clock of whoever has it (Pancake, or ours).

    `quiet_until`: acknowledged or snoozed, and no step is sent before. `facts`: what texts are made of.
    """

    alert_id: str
    key: str
    kind: str
    severity: str
    since: float
    page_id: str | None = None
    conversation_id: str | None = None
    message_id: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    is_open: bool = True
    quiet_until: float = 0.0
    acked_by: str | None = None
    opened_at: float = 0.0
    resolved_at: float | None = None
    reason: str | None = None


class Alerts:
    """Every method may be repeated and run from several workers at once."""

    def __init__(self, database: Database) -> None:
        self._collection = database["alerts"]

    async def ensure_indexes(self) -> None:
        """Create what is missing."""
        is_open = {"status": "open"}
        await self._collection.create_indexes(
            [
                IndexModel([("key", ASCENDING)], unique=True, partialFilterExpression=is_open, name="one_open"),
                IndexModel([("pageId", ASCENDING), ("kind", ASCENDING)], partialFilterExpression=is_open),
                IndexModel([("openedAt", DESCENDING)]),
                IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0),
            ]
        )

    async def open(self, alerts: Sequence[Alert]) -> set[str]:
        """Open those whose key has none open; returns the ids of those that are new.

        One that was over begins again: the answer that ended it was taken back. What was told stays told, by the ids
        of the outbox.
        """
        if not alerts:
            return set()
        faults = await insert_new(self._collection, [_document(alert) for alert in alerts])
        there = [alerts[place].alert_id for place in faults]
        if there:
            again = {
                "$set": {"status": "open", "steps": []},
                "$unset": {"resolvedAt": "", "reason": "", "expiresAt": ""},
            }
            writes = [UpdateOne({"_id": alert_id, "status": "resolved"}, again) for alert_id in there]
            with suppress(BulkWriteError):  # another one of its key is open
                await self._collection.bulk_write(writes, ordered=False)
        return {alert.alert_id for place, alert in enumerate(alerts) if place not in faults}

    async def by_key(self, keys: Iterable[str]) -> dict[str, Alert]:
        """The open ones of these keys."""
        found = self._collection.find({"key": {"$in": list(keys)}, "status": "open"})
        return {document["key"]: _alert(document) async for document in found}

    async def open_below(self, prefix: str) -> dict[str, Alert]:
        """The open ones whose keys start with `prefix`, which ends in a colon, by key."""
        after = prefix[:-1] + chr(ord(":") + 1)
        found = self._collection.find({"key": {"$gte": prefix, "$lt": after}, "status": "open"}).hint("one_open")
        return {document["key"]: _alert(document) async for document in found}

    async def open_of(self, page_id: str) -> list[Alert]:
        """Customers of a page who wait and are told of."""
        query = {"pageId": page_id, "kind": WAITING, "status": "open"}
        return [_alert(document) async for document in self._collection.find(query)]

    async def get(self, alert_ids: Iterable[str]) -> dict[str, Alert]:
        """Those of these ids that there are."""
        found = self._collection.find({"_id": {"$in": list(alert_ids)}})
        return {document["_id"]: _alert(document) async for document in found}

    async def latest(
        self,
        *,
        is_open: bool | None = True,
        page_id: str | None = None,
        waiting: bool | None = None,
        most: int = 100,
    ) -> list[Alert]:
        """The newest first; `waiting`: only of customers who wait, or only all others."""
        query: Document = {} if is_open is None else {"status": "open" if is_open else "resolved"}
        if page_id is not None:
            query["pageId"] = page_id
        if waiting is not None:
            query["kind"] = WAITING if waiting else {"$ne": WAITING}
        found = self._collection.find(query).sort("openedAt", DESCENDING).limit(most)
        return [_alert(document) async for document in found]

    async def record(self, steps: Sequence[tuple[str, str, str]]) -> None:
        """These steps are in the outbox: (alert id, step, severity). One that is recorded stays as it was."""
        writes = [
            UpdateOne(
                {"_id": alert_id, "steps.name": {"$ne": step}},
                {
                    "$push": {"steps": {"name": step, "severity": severity, "at": datetime.now(UTC)}},
                    "$set": {"severity": severity},
                },
            )
            for alert_id, step, severity in steps
        ]
        if writes:
            await self._collection.bulk_write(writes, ordered=True)

    async def anchor(self, moved: Sequence[tuple[str, str, float]]) -> None:
        """The same wait began with another message than was known: (alert id, message id, since)."""
        writes = [
            UpdateOne({"_id": alert_id, "status": "open"}, {"$set": {"messageId": message_id, "since": since}})
            for alert_id, message_id, since in moved
        ]
        if writes:
            await self._collection.bulk_write(writes, ordered=False)

    async def resolve(self, alert_ids: Sequence[str], at: float, reason: str) -> None:
        """They are over. One that is over already stays as it was."""
        now = datetime.now(UTC)
        ended = {"status": "resolved", "resolvedAt": at, "reason": reason, "expiresAt": now + KEPT}
        await self._collection.update_many({"_id": {"$in": list(alert_ids)}, "status": "open"}, {"$set": ended})

    async def hush(self, alert_id: str, until: float, by: str | None) -> Alert | None:
        """No step before `until`; `by` is who acknowledged, None for a snooze. None where no such alert is open."""
        found = await self._collection.find_one_and_update(
            {"_id": alert_id, "status": "open"},
            {"$set": {"quietUntil": until, "ackedBy": by, "hushedAt": datetime.now(UTC)}},
            return_document=ReturnDocument.AFTER,
        )
        return _alert(found) if found else None

    async def open_one(self, alert: Alert) -> Alert:
        """The open alert of this key: this one, or the one that was open before."""
        while True:
            try:
                await self._collection.insert_one(_document(alert))
            except DuplicateKeyError:
                found = await self.by_key([alert.key])
                if alert.key in found:
                    return found[alert.key]
                alert = replace(alert, alert_id=f"{alert.alert_id}+")  # it was open under this very id, and is over
                continue
            return alert


def _document(alert: Alert) -> Document:
    return {
        "_id": alert.alert_id,
        "key": alert.key,
        "kind": alert.kind,
        "status": "open",
        "severity": alert.severity,
        "since": alert.since,
        "pageId": alert.page_id,
        "conversationId": alert.conversation_id,
        "messageId": alert.message_id,
        "facts": alert.facts,
        "steps": [],
        "quietUntil": alert.quiet_until,
        "openedAt": alert.opened_at,
        "createdAt": datetime.now(UTC),
    }


def _alert(document: Document) -> Alert:
    return Alert(
        alert_id=document["_id"],
        key=document["key"],
        kind=document["kind"],
        severity=document["severity"],
        since=document["since"],
        page_id=document["pageId"],
        conversation_id=document["conversationId"],
        message_id=document["messageId"],
        facts=document["facts"],
        steps=tuple(step["name"] for step in document["steps"]),
        is_open=document["status"] == "open",
        quiet_until=document.get("quietUntil") or 0.0,
        acked_by=document.get("ackedBy"),
        opened_at=document.get("openedAt") or 0.0,
        resolved_at=document.get("resolvedAt"),
        reason=document.get("reason"),
    )
