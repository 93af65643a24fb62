"""`dead_letters`: what we stopped trying, kept for a human: jobs that failed for good, rows that cannot be read."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel

from .. import meters
from ..clients.mongo import Database, Document

DEAD, REPLAYED = "dead", "replayed"
REPLAYED_KEPT = timedelta(days=30)  # a letter whose job was queued again and did not come back


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters of jobs: those that fit all that is given. `error` is a part of the error's text, in any case."""

    job: str | None = None
    lane: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    with_replayed: bool = False

    def query(self) -> Document:
        """As MongoDB asks for them. The window is over the last failure, from `since` to before `until`."""
        query: Document = {"kind": "job"}
        if not self.with_replayed:
            query["status"] = {"$ne": REPLAYED}
        if self.job:
            query["job"] = self.job
        if self.lane:
            query["lane"] = self.lane
        if self.error:
            query["error"] = {"$regex": re.escape(self.error), "$options": "i"}
        window = {"$gte": self.since, "$lt": self.until}
        if window := {operator: at for operator, at in window.items() if at}:
            query["lastAt"] = window
        return query


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
                IndexModel([("lastJobId", ASCENDING)], sparse=True),
                IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0),
            ]
        )

    async def add_job(
        self,
        *,
        job: str,
        lane: str,
        letter_id: str,
        job_id: str,
        arguments: dict[str, Any],
        error: str,
        traceback: str,
        attempts: list[dict[str, Any]],
        raw: bytes | None = None,
    ) -> None:
        """Keep a job that failed for good. Texts must be redacted already. Safe to repeat: counts, never doubles.

        `letter_id`: what failed, the same each time; `job_id`: the job it was this time. `attempts`: every failed one,
        oldest first. `raw`: the job as it was queued, where it cannot be read.
        """
        letter: Document = {
            "kind": "job",
            "status": DEAD,
            "job": job,
            "jobId": letter_id,
            "lastJobId": job_id,
            "lane": lane,
            "arguments": arguments,
            "error": error,
            "traceback": traceback,
            "attempts": attempts,
        }
        await self._add(f"job:{letter_id}", letter if raw is None else {**letter, "raw": raw})

    async def add_row(self, *, stream: str, page_id: str, row_id: str, error: str, raw: str) -> None:
        """Set a row aside: `error` says in words what is wrong, `raw` is its JSON text. Safe to repeat."""
        meters.ROWS.add(stream, "set_aside")
        key = f"row:{stream}:{page_id}:{row_id}"
        await self._add(
            key, {"kind": "row", "stream": stream, "pageId": page_id, "rowId": row_id, "error": error, "raw": raw}
        )

    async def rows(self, stream: str, page_id: str) -> list[Document]:
        """The page's rows that are set aside, newest first, at most 100."""
        found = self._collection.find({"kind": "row", "stream": stream, "pageId": page_id})
        return list(await found.sort("lastAt", DESCENDING).to_list(100))

    async def latest_rows(self, limit: int) -> list[Document]:
        """Rows that are set aside, of all pages, the latest first."""
        return list(await self._collection.find({"kind": "row"}).sort("lastAt", DESCENDING).to_list(limit))

    async def row_count(self) -> int:
        """How many rows of all pages are set aside."""
        return int(await self._collection.count_documents({"kind": "row"}))

    async def jobs(self, wanted: Wanted, limit: int = 0, *, newest_first: bool = False) -> AsyncIterator[Document]:
        """Letters of jobs that `wanted` fits, oldest first unless told; all of them where `limit` is 0."""
        order = DESCENDING if newest_first else ASCENDING
        async for letter in self._collection.find(wanted.query()).sort("lastAt", order).limit(limit):
            yield letter

    async def matching(self, wanted: Wanted) -> int:
        """How many letters of jobs `wanted` fits."""
        return int(await self._collection.count_documents(wanted.query()))

    async def get(self, letter_id: str) -> Document | None:
        """The letter whose `_id` or whose job's id that is, or None."""
        ids = [{"_id": {"$in": [letter_id, f"job:{letter_id}"]}}, {"lastJobId": letter_id}]
        return await self._collection.find_one({"$or": ids})

    async def are_open(self, job_ids: Sequence[str]) -> dict[str, bool]:
        """Of those of these jobs that have a letter: whether it is open, or was replayed."""
        found = self._collection.find({"lastJobId": {"$in": list(job_ids)}}, {"lastJobId": 1, "status": 1})
        return {letter["lastJobId"]: letter.get("status") != REPLAYED async for letter in found}

    async def replayed(self, letter: Document, job_id: str) -> None:
        """Note that the letter's job is in the queue again as `job_id`; if it fails again, the letter is open again."""
        now = datetime.now(UTC)
        await self._collection.update_one(
            {"_id": letter["_id"], "lastAt": letter["lastAt"]},
            {"$set": {"status": REPLAYED, "replayedAt": now, "replayedAs": job_id, "expiresAt": now + REPLAYED_KEPT}},
        )

    async def reopened(self, job_ids: Sequence[str]) -> None:
        """The replays of these jobs' letters were called off: the letters are open as before. Safe to repeat."""
        await self._collection.update_many(
            {"_id": {"$in": [f"job:{job_id}" for job_id in job_ids]}, "status": REPLAYED},
            {"$set": {"status": DEAD}, "$unset": {"replayedAt": 1, "replayedAs": 1, "expiresAt": 1}},
        )

    async def drop(self, letter_id: str) -> bool:
        """Delete one letter; False where it is gone already."""
        return bool((await self._collection.delete_one({"_id": letter_id})).deleted_count)

    async def open_by_lane(self) -> dict[str, int]:
        """Per lane how many jobs' letters are open."""
        stages = [{"$match": Wanted().query()}, {"$group": {"_id": "$lane", "count": {"$sum": 1}}}]
        return {str(row["_id"]): int(row["count"]) async for row in self._collection.aggregate(stages)}

    async def count(self) -> int:
        """How many are open, jobs and rows."""
        return int(await self._collection.count_documents({"status": {"$ne": REPLAYED}}))

    async def _add(self, key: str, what: Document) -> None:
        now = datetime.now(UTC)
        await self._collection.update_one(
            {"_id": key},
            {
                "$set": {**what, "lastAt": now},
                "$setOnInsert": {"firstAt": now},
                "$inc": {"count": 1},
                "$unset": {"expiresAt": 1},
            },
            upsert=True,
        )
