"""`job_runs`: one document for each time a job ran: when, where, how long, how it ended."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import OperationFailure

from ..clients.mongo import Database, Document
from .run_document import ENDED, FAILED, Joined, Run, RunDocuments

DUPLICATE = 11000  # MongoDB's error code
#: Codes that are about a document and no other: BadValue, InvalidBSON, FailedToParse, validation, BSONObjectTooLarge.
AT_FAULT = frozenset({2, 9, 22, 121, 10334, 17280})
#: Codes that are about none: Unauthorized, over a hosted MongoDB's quota, OutOfDiskSpace.
OF_SERVER = frozenset({13, 8000, 14031})
LATEST_WRITTEN = timedelta(days=3)  # after its start: what MongoDB was away for, and the run itself
IDS = datetime(1970, 1, 1, tzinfo=UTC), datetime(2106, 1, 1, tzinfo=UTC)  # four bytes of seconds
MOST_PAIRS = 500
PAIRS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run as it is stored. `waited_ms`: until the first attempt began, else None."""

    job: str
    job_id: str
    lane: str
    worker: str
    attempt: int
    started_at: datetime
    finished_at: datetime
    duration_ms: float
    waited_ms: float | None
    end: str
    outcome: str
    error: str
    page_id: str
    trace_id: str
    schedule: str
    tick_at: datetime | None
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended, and when (Unix seconds)."""

    end: str
    at: float
    job_id: str
    error: str
    page_id: str


@dataclass(frozen=True, slots=True)
class Sought:
    """Which runs are asked for; what is left out does not narrow.

    `since` and `until` are of their start; of a schedule's runs, of their tick as well.
    """

    job: str | None = None
    schedule: str | None = None
    ends: Collection[str] = ()
    since: datetime | None = None
    until: datetime | None = None


class JobRuns:
    """Written in batches; each document leaves by itself when its days are over."""

    def __init__(self, database: Database) -> None:
        self._collection = database["job_runs"]
        self._documents = RunDocuments()

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        is_of_schedule, is_failure = {"schedule": {"$exists": True}}, {"isFailure": True}
        await self._collection.create_indexes(
            [
                IndexModel([("job", ASCENDING), ("startedAt", DESCENDING)]),
                IndexModel([("job", ASCENDING), ("argumentsDigest", ASCENDING), ("startedAt", DESCENDING)]),
                IndexModel([("jobId", ASCENDING)]),
                IndexModel(
                    [("schedule", ASCENDING), ("startedAt", DESCENDING)], partialFilterExpression=is_of_schedule
                ),
                IndexModel([("startedAt", DESCENDING)], partialFilterExpression=is_failure, name="failures"),
                IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0),
            ]
        )

    def documents(self, runs: Iterable[Run], kept: timedelta) -> list[bytes]:
        """`runs` as they are stored. Their `_id`s are given here, so that writing them twice stores them once.

        Raises one of `clients.mongo.UNENCODABLE` for what BSON cannot hold.
        """
        return self._documents.make(runs, kept)

    async def add(self, documents: Sequence[bytes]) -> int:
        """Store documents made by `documents`; returns how many MongoDB refused for what is in them.

        Safe to repeat: what is there already stays as it is. Raises OperationFailure where MongoDB takes none, for want
        of room or of rights, DocumentTooLarge where they are too many at once, and what a connection raises. As one
        command: the driver's own way looks at each document in Python, which costs a fifth of it all.
        """
        answer = await self._collection.database.command(
            "insert", self._collection.name, documents=[Joined(documents)], ordered=False
        )
        faults = [fault for fault in answer.get("writeErrors", ()) if fault["code"] != DUPLICATE]
        others = [fault for fault in faults if fault["code"] not in AT_FAULT]
        # a fault nobody knows is of the document where others are taken
        if others and (len(faults) == len(documents) or any(fault["code"] in OF_SERVER for fault in others)):
            raise OperationFailure(others[0].get("errmsg", "refused"), others[0]["code"])
        return len(faults)

    async def latest(self, sought: Sought, limit: int = 50) -> list[PastRun]:
        """The runs that are asked for, the newest first."""
        query = _query(sought)
        # ids are made as runs are written, so without a job or a schedule their order is that of the ends
        is_indexed = bool(sought.job or sought.schedule or set(sought.ends) == set(FAILED))
        found = self._collection.find(query).sort("startedAt" if is_indexed else "_id", DESCENDING).limit(limit)
        return [_past(document) async for document in found]

    async def failing(self, since: datetime, most: int = MOST_PAIRS) -> list[tuple[str, str]]:
        """(job, digest of its arguments) of what failed since, the latest first, `most` of them."""
        groups: list[Document] = [
            {"$match": {"isFailure": True, "startedAt": {"$gt": since}}},
            {"$group": {"_id": {"j": "$job", "d": "$argumentsDigest"}, "last": {"$max": "$startedAt"}}},
            {"$sort": {"last": -1}},
            {"$limit": most},
        ]
        cursor = self._collection.aggregate(groups, hint="failures")
        return [(found["_id"]["j"], found["_id"].get("d", "")) async for found in cursor]

    async def last_ends(self, pairs: Collection[tuple[str, str]], n: int) -> dict[tuple[str, str], list[RunEnd]]:
        """How the last `n` runs of each (job, digest) ended, the newest first; only ends that say whether it works."""
        wanted = sorted(set(pairs))
        found: dict[tuple[str, str], list[RunEnd]] = {pair: [] for pair in wanted}
        for start in range(0, len(wanted), PAIRS_AT_ONCE):
            some = wanted[start : start + PAIRS_AT_ONCE]
            (first, *others) = [_last_of(pair, n) for pair in some]
            unions = [{"$unionWith": {"coll": self._collection.name, "pipeline": other}} for other in others]
            async for document in self._collection.aggregate([*first, *unions]):
                found[document["job"], document["argumentsDigest"]].append(_end(document))
        return found

    async def failures_in_row(self, job: str) -> int:
        """How many of its last runs failed one after the other, whatever their arguments; 100 at most are looked at."""
        query = {"job": job, "end": {"$in": list(ENDED)}}
        cursor = self._collection.find(query, {"end": 1}).sort("startedAt", DESCENDING).limit(100)
        count = 0
        async for document in cursor:
            if document["end"] == "done":
                break
            count += 1
        return count


def _query(sought: Sought) -> Document:
    query: Document = {}
    if sought.job is not None:
        query["job"] = sought.job
    if sought.schedule is not None:
        query["schedule"] = sought.schedule
    if sought.ends:
        query["end"] = {"$in": list(sought.ends)}
    if sought.ends and set(sought.ends) <= set(FAILED):
        query["isFailure"] = True
    begun = {op: at for op, at in (("$gte", sought.since), ("$lte", sought.until)) if at is not None}
    if begun and sought.schedule is not None:
        # a tick that was made up, or found missed, was only seen to when a worker was there again
        query["$or"] = [{"startedAt": begun}, {"tickAt": begun}]
    elif begun:
        query["startedAt"] = begun
        query["_id"] = {op: _id_at(at, LATEST_WRITTEN if op == "$lte" else timedelta(0)) for op, at in begun.items()}
    return query


def _id_at(at: datetime, later: timedelta) -> ObjectId:
    """The first id of `later` after then; of what lies outside of the seconds that ids know, the nearest."""
    first, last = IDS
    return ObjectId.from_datetime(min(max(at, first), last - later) + later)


def _last_of(pair: tuple[str, str], n: int) -> list[Document]:
    job, arguments = pair
    return [
        {"$match": {"job": job, "argumentsDigest": arguments, "end": {"$in": list(ENDED)}}},
        {"$sort": {"startedAt": -1}},
        {"$limit": n},
    ]


def _end(document: Document) -> RunEnd:
    at = document.get("finishedAt") or document["startedAt"]
    return RunEnd(
        document["end"],
        at.replace(tzinfo=UTC).timestamp(),
        document["jobId"],
        document.get("error", ""),
        document.get("pageId", ""),
    )


def _past(document: Document) -> PastRun:
    """Older documents lack some fields."""
    started_at = document["startedAt"].astimezone(UTC)
    finished_at, tick_at = document.get("finishedAt"), document.get("tickAt")
    return PastRun(
        job=document["job"],
        job_id=document["jobId"],
        lane=document["lane"],
        worker=document["worker"],
        attempt=document["attempt"],
        started_at=started_at,
        finished_at=finished_at.astimezone(UTC) if finished_at else started_at,
        duration_ms=document["durationMs"],
        waited_ms=document.get("waitMs"),
        end=document["end"],
        outcome=document["outcome"],
        error=document.get("error", ""),
        page_id=document.get("pageId", ""),
        trace_id=document.get("traceId", ""),
        schedule=document.get("schedule", ""),
        tick_at=tick_at.astimezone(UTC) if tick_at else None,
        details=document.get("details") or {},
    )
