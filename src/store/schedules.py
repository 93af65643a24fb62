"""`schedules`: when each schedule last fired, so that a tick missed while nobody ran is found at the next start."""

from datetime import datetime

from pymongo import ASCENDING, IndexModel

from ..clients.mongo import Database


class Schedules:
    """One document per schedule, by name."""

    def __init__(self, database: Database) -> None:
        self._collection = database["schedules"]

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        await self._collection.create_indexes([IndexModel([("name", ASCENDING)], unique=True)])

    async def fired(self, name: str, tick: datetime) -> None:
        """Note that `name` fired for `tick`; an older tick than the noted one changes nothing. Safe to repeat."""
        await self._collection.update_one({"name": name}, {"$max": {"lastTickAt": tick}}, upsert=True)

    async def last_tick(self, name: str) -> datetime | None:
        """The newest tick `name` fired for, in UTC, or None."""
        document = await self._collection.find_one({"name": name}, {"lastTickAt": 1})
        return (document or {}).get("lastTickAt")
