"""`machine_state`: what the looks at the machine remember between them, so that another worker goes on with it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pymongo import ASCENDING, IndexModel

from ..clients.mongo import Database, Document
from ..rules.machine import Growth

LETTERS = {"jobs": "dead_letters", "rows": "rows_set_aside"}  # of what -> `_id`
KEPT = timedelta(days=30)  # without a look


@dataclass(frozen=True, slots=True)
class Usual:
    """How long a job takes: `p99_s` of the `runs` that were known at `at` (Unix seconds)."""

    runs: int
    p99_s: float
    at: float


class MachineState:
    """One document a matter. Of two that look at once the last one's word stays. Every method may be repeated."""

    def __init__(self, database: Database) -> None:
        self._collection = database["machine_state"]

    async def ensure_indexes(self) -> None:
        """Create what is missing."""
        await self._collection.create_indexes([IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0)])

    async def growth(self, kind: str) -> Growth | None:
        """How the dead letters of `jobs` or `rows` stood at the last look; None before the first."""
        found = await self._collection.find_one({"_id": LETTERS[kind]})
        return Growth(found["mark"], found["count"], found["grewAt"], found["since"]) if found else None

    async def save_growth(self, kind: str, growth: Growth) -> None:
        """In the place of what was there."""
        state = {"mark": growth.mark, "count": growth.count, "grewAt": growth.grew_at, "since": growth.since}
        await self._save(LETTERS[kind], state)

    async def usual(self, jobs: Iterable[str]) -> dict[str, Usual]:
        """What is noted of these jobs."""
        found = self._collection.find({"_id": {"$in": [f"usual:{job}" for job in jobs]}})
        return {
            document["_id"].removeprefix("usual:"): Usual(document["runs"], document["p99S"], document["at"])
            async for document in found
        }

    async def save_usual(self, usual: Mapping[str, Usual]) -> None:
        """Note it, per job."""
        for job, one in usual.items():
            await self._save(f"usual:{job}", {"runs": one.runs, "p99S": one.p99_s, "at": one.at})

    async def _save(self, name: str, state: Document) -> None:
        kept: Document = {**state, "expiresAt": datetime.now(UTC) + KEPT}
        await self._collection.update_one({"_id": name}, {"$set": kept}, upsert=True)
