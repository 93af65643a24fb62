"""`job_runs`: one document for each time a job ran: when, where, how long, how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import BulkWriteError

from ..clients.mongo import Database, Document

DUPLICATE = 11000  # MongoDB's error code


@dataclass(slots=True)
class Run:
    """One attempt of a job. Instants are Unix seconds; `end`: done, retry, snoozed, dead; `outcome`: the job's word."""

    job: str
    job_id: str
    lane: str
    worker: str
    attempt: int
    enqueued_at: float
    started_at: float
    duration_s: float
    end: str
    outcome: str
    error: str
    trace_id: str
    has_history: bool = True  # else it is only counted


class JobRuns:
    """Written in batches; each document leaves by itself when its days are over."""

    def __init__(self, database: Database) -> None:
        self._collection = database["job_runs"]

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        await self._collection.create_indexes(
            [
                IndexModel([("job", ASCENDING), ("startedAt", DESCENDING)]),
                IndexModel([("jobId", ASCENDING)]),
                IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0),
            ]
        )

    def document(self, run: Run, kept: timedelta) -> Document:
        """`run` as it is stored. Its `_id` is given here, so that writing it twice stores it once."""
        started = datetime.fromtimestamp(run.started_at, UTC)
        document: dict[str, Any] = {
            "_id": ObjectId(),
            "job": run.job,
            "jobId": run.job_id,
            "lane": run.lane,
            "worker": run.worker,
            "attempt": run.attempt,
            "enqueuedAt": datetime.fromtimestamp(run.enqueued_at, UTC),
            "startedAt": started,
            "durationMs": round(run.duration_s * 1000, 3),
            "end": run.end,
            "outcome": run.outcome,
            "traceId": run.trace_id,
            "expiresAt": started + kept,
        }
        if run.error:
            document["error"] = run.error
        return document

    async def add(self, documents: Sequence[Document]) -> None:
        """Store documents made by `document`. Safe to repeat: what is there already stays as it is."""
        try:
            await self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as e:
            if any(fault["code"] != DUPLICATE for fault in e.details["writeErrors"]):
                raise
