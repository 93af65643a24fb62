"""`dead_letters`: what we stopped trying, kept for a human: jobs that failed for good, rows that cannot be read."""

from datetime import UTC, datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel

from ..clients.mongo import Database, Document


class DeadLetters:
    """One document per failing thing, however often it fails: `_id` names it, `count` and `lastAt` follow it."""

    def __init__(self, database: Database) -> None:
        self._collection = database["dead_letters"]

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        await self._collection.create_indexes(
            [
                IndexModel([("kind", ASCENDING), ("lastAt", DESCENDING)]),
                IndexModel([("pageId", ASCENDING), ("lastAt", DESCENDING)], sparse=True),
            ]
        )

    async def add_job(
        self, *, job: str, job_id: str, arguments: dict[str, Any], error: str, traceback: str, attempts: int
    ) -> None:
        """Keep a job that failed for good. Texts must be redacted already. Safe to repeat: counts, never doubles."""
        await self._add(
            f"job:{job_id}",
            {
                "kind": "job",
                "job": job,
                "arguments": arguments,
                "error": error,
                "traceback": traceback,
                "attempts": attempts,
            },
        )

    async def add_row(self, *, stream: str, page_id: str, row_id: str, error: str, raw: str) -> None:
        """Set a row aside: `error` says in words what is wrong, `raw` is its JSON text. Safe to repeat."""
        key = f"row:{stream}:{page_id}:{row_id}"
        await self._add(
            key, {"kind": "row", "stream": stream, "pageId": page_id, "rowId": row_id, "error": error, "raw": raw}
        )

    async def rows(self, stream: str, page_id: str) -> list[Document]:
        """The page's rows that are set aside, newest first, at most 100."""
        found = self._collection.find({"kind": "row", "stream": stream, "pageId": page_id})
        return list(await found.sort("lastAt", DESCENDING).to_list(100))

    async def count(self) -> int:
        """How many there are."""
        return int(await self._collection.estimated_document_count())

    async def _add(self, key: str, what: Document) -> None:
        now = datetime.now(UTC)
        await self._collection.update_one(
            {"_id": key},
            {"$set": {**what, "lastAt": now}, "$setOnInsert": {"firstAt": now}, "$inc": {"count": 1}},
            upsert=True,
        )
