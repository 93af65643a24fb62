"""`run_minutes`: what ran in each minute, counted per job, lane and worker; outlives the runs themselves.

A worker writes whole counts, not changes of them, under an id of its own: writing them twice counts them once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pymongo import ASCENDING, IndexModel, UpdateOne

from ..clients.mongo import Database, Document
from ..rules.durations import Durations, bucket_of, durations
from .run_document import ENDED, Run

MINUTE_S = 60


@dataclass(slots=True)
class Minute:
    """One minute of one job in one lane and worker. `number` tells two of the same minute apart."""

    job: str
    lane: str
    at: int  # Unix seconds of its beginning
    worker: str
    number: int
    ends: dict[str, int] = field(default_factory=dict)
    duration_ms: float = 0.0
    longest_ms: float = 0.0
    waits: int = 0
    wait_ms: float = 0.0
    longest_wait_ms: float = 0.0
    buckets: dict[int, int] = field(default_factory=dict)
    is_new: bool = True  # something of it is not written

    def add(self, run: Run) -> None:
        """Count a run."""
        self.is_new, end, ends, buckets = True, run.end, self.ends, self.buckets
        ends[end] = ends.get(end, 0) + run.times
        if end not in ENDED:
            return
        ms = run.duration_s * 1000
        self.duration_ms += ms
        if ms > self.longest_ms:
            self.longest_ms = ms
        bucket = bucket_of(ms)
        buckets[bucket] = buckets.get(bucket, 0) + 1
        if run.attempt == 1:
            waited_ms = run.waited_s * 1000
            self.waits += 1
            self.wait_ms += waited_ms
            if waited_ms > self.longest_wait_ms:
                self.longest_wait_ms = waited_ms


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a job's runs in a span. `ends`: how many by end; `waits` are first attempts, in seconds."""

    job: str
    ends: dict[str, int]
    durations: Durations
    wait_mean_s: float
    longest_wait_s: float


class RunMinutes:
    """Every method may be repeated."""

    def __init__(self, database: Database, kept: timedelta) -> None:
        self._collection = database["run_minutes"]
        self._kept = kept

    async def ensure_indexes(self) -> None:
        """Create what is missing."""
        await self._collection.create_indexes(
            [
                IndexModel([("job", ASCENDING), ("minute", ASCENDING)]),
                IndexModel([("minute", ASCENDING)]),
                IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0),
            ]
        )

    async def save(self, minutes: Sequence[Minute]) -> None:
        """Store these as they are now."""
        if minutes:
            await self._collection.bulk_write([self._update(minute) for minute in minutes], ordered=False)

    async def percentiles(self, job: str, since: datetime) -> Durations:
        """How long a job's runs took since then; those of it that ended done, retry or dead."""
        found = await self.summaries(since, job=job)
        return found[0].durations if found else durations({}, 0.0)

    async def summaries(self, since: datetime, until: datetime | None = None, job: str | None = None) -> list[Summary]:
        """What became of the runs of each job, or of one, in these minutes; by name."""
        span: Document = {"minute": {"$gte": since, **({"$lt": until} if until else {})}}
        match = {"$match": {**({"job": job} if job is not None else {}), **span}}
        waits = {"waits": {"$sum": "$waits"}, "waitMs": {"$sum": "$waitMs"}, "longest": {"$max": "$longestWaitMs"}}
        totals = {"$group": {"_id": "$job", "longestMs": {"$max": "$longestMs"}, **waits}}
        found = {row["_id"]: row async for row in self._collection.aggregate([match, totals])}
        ends, buckets = await self._counts(match, "ends"), await self._counts(match, "buckets")
        return [_summary(name, found[name], ends.get(name, {}), buckets.get(name, {})) for name in sorted(found)]

    async def _counts(self, match: Document, field_: str) -> dict[str, dict[str, int]]:
        """Per job, the counts of one field's parts added up."""
        parts = [
            match,
            {"$project": {"job": 1, "part": {"$objectToArray": f"${field_}"}}},
            {"$unwind": "$part"},
            {"$group": {"_id": {"job": "$job", "k": "$part.k"}, "n": {"$sum": "$part.v"}}},
        ]
        found: dict[str, dict[str, int]] = {}
        async for row in self._collection.aggregate(parts):
            found.setdefault(row["_id"]["job"], {})[row["_id"]["k"]] = row["n"]
        return found

    def _update(self, minute: Minute) -> UpdateOne:
        at = datetime.fromtimestamp(minute.at, UTC)
        told: Document = {
            "job": minute.job,
            "lane": minute.lane,
            "minute": at,
            "worker": minute.worker,
            "ends": minute.ends,
            "durationMs": round(minute.duration_ms, 3),
            "longestMs": round(minute.longest_ms, 3),
            "waits": minute.waits,
            "waitMs": round(minute.wait_ms, 3),
            "longestWaitMs": round(minute.longest_wait_ms, 3),
            "buckets": {str(bucket): count for bucket, count in minute.buckets.items()},
            "expiresAt": at + self._kept,
        }
        identity = f"{minute.job}|{minute.lane}|{minute.at}|{minute.worker}|{minute.number}"
        return UpdateOne({"_id": identity}, {"$set": told}, upsert=True)


def _summary(job: str, row: Document, ends: dict[str, int], buckets: dict[str, int]) -> Summary:
    taken = durations({int(bucket): count for bucket, count in buckets.items()}, row["longestMs"])
    mean_s = row["waitMs"] / row["waits"] / 1000 if row["waits"] else 0.0
    return Summary(job, ends, taken, mean_s, row["longest"] / 1000)
