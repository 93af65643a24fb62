"""`job_runs`: one document for each time a job ran: when, where, how long, how it ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import BulkWriteError

from ..clients.mongo import Database, Document

DUPLICATE = 11000  # MongoDB's error code


@dataclass(slots=True)
class Run:
    """One attempt of a job. Instants are Unix seconds; `outcome`: the job's word.

    `end`: done, retry, snoozed, dead, cancelled; of a schedule's tick that did not run skipped (the run before it went
    on) or missed (nobody was there). `arguments`: of them only a digest is stored. `schedule`: whose tick or order it
    was, or ""; `history_days`: how long it is kept, None for the setting.
    """

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
    arguments: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = ""
    tick_at: float | None = None
    history_days: float | None = None
    fence: int = 0


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
