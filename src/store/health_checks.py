"""`health_checks`: how everything that is looked at stands, so that a restart or another worker does not begin anew."""

from collections.abc import Mapping, Sequence

from pymongo import ASCENDING, IndexModel, ReplaceOne

from ..clients.mongo import Database, Document
from ..rules.health import Health


class HealthChecks:
    """One document per name. Of two that look at once the last one's word stays."""

    def __init__(self, database: Database) -> None:
        self._collection = database["health_checks"]

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        await self._collection.create_indexes([IndexModel([("name", ASCENDING)], unique=True)])

    async def all(self) -> dict[str, Health]:
        """By name, in its order."""
        return {
            document["name"]: _health(document) async for document in self._collection.find().sort("name", ASCENDING)
        }

    async def save(self, found: Mapping[str, Health]) -> None:
        """In the place of what was there."""
        writes = [ReplaceOne({"name": name}, _document(name, health), upsert=True) for name, health in found.items()]
        if writes:
            await self._collection.bulk_write(writes, ordered=False)

    async def forget(self, names: Sequence[str]) -> None:
        """These are not looked at any more."""
        if names:
            await self._collection.delete_many({"name": {"$in": list(names)}})


def _document(name: str, health: Health) -> Document:
    return {
        "name": name,
        "state": health.state,
        "since": health.since,
        "inRow": health.in_row,
        "turnedAt": health.turned_at,
        "lastError": health.last_error,
        "lastMs": health.last_ms,
        "checkedAt": health.checked_at,
    }


def _health(document: Document) -> Health:
    return Health(
        state=document["state"],
        since=document["since"],
        in_row=document["inRow"],
        turned_at=document["turnedAt"],
        last_error=document["lastError"],
        last_ms=document["lastMs"],
        checked_at=document["checkedAt"],
    )
