"""`schedules`: what was set at run time, and how far each schedule came.

A schedule of the settings has a document too: its state, and what was changed of it by command.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from ..clients.mongo import Database, Document

#: What a person sets, as the documents call it.
FIELDS: Final = (
    "job",
    "arguments",
    "schedule",
    "zone",
    "isEnabled",
    "catchUp",
    "catchUpMost",
    "overlap",
    "jitterSeconds",
)


AHEAD_MS: Final = 60_000  # that clocks may differ by


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run that ended. `end` as in `job_runs`; `tick_at`: the tick it was of, if of one."""

    end: str
    started_at: datetime
    duration_ms: float
    error: str = ""
    tick_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """One document. `given`: what was set at run time, of `FIELDS`, not checked: somebody may have written it by hand.

    `active_from`: ticks up to here do not count, it was made, changed, resumed or off then. `last_tick_at`: the newest
    tick that was decided, `last_job_id` the job it started. `skipped`, `missed`: ticks that did not run; `missed_since`
    and `missed_at` are the first and the last of those missed last.
    """

    name: str
    given: Mapping[str, Any] = field(default_factory=dict)
    active_from: datetime | None = None
    last_tick_at: datetime | None = None
    last_job_id: str = ""
    last_run: LastRun | None = None
    skipped: int = 0
    missed: int = 0
    missed_since: datetime | None = None
    missed_at: datetime | None = None


@dataclass(slots=True)
class Progress:
    """What is to be noted of a schedule's ticks since the last time."""

    tick: datetime | None = None
    job_id: str = ""
    skipped: int = 0
    missed: int = 0
    missed_since: datetime | None = None
    missed_at: datetime | None = None


def both(earlier: Progress, later: Progress | None) -> Progress:
    """What is to be noted of two: the counts of both, and the later of everything else."""
    if later is None:
        return earlier
    return Progress(
        later.tick or earlier.tick,
        later.job_id or earlier.job_id,
        earlier.skipped + later.skipped,
        earlier.missed + later.missed,
        later.missed_since or earlier.missed_since,
        later.missed_at or earlier.missed_at,
    )


class Schedules:
    """One document per schedule, by name. Every method may be repeated, but for the counts of `note`."""

    def __init__(self, database: Database) -> None:
        self._collection = database["schedules"]

    async def ensure_indexes(self) -> None:
        """Create what is missing."""
        await self._collection.create_indexes([IndexModel([("name", ASCENDING)], unique=True)])

    async def all(self) -> dict[str, StoredSchedule]:
        """Every schedule there is a document of, by name."""
        cursor = self._collection.find({"name": {"$type": "string"}}).sort("name", ASCENDING)
        return {document["name"]: _stored(document) async for document in cursor}

    async def add(self, name: str, given: Mapping[str, Any], at: datetime) -> bool:
        """A new schedule; False where there is one of that name."""
        made = {"name": name, **given, "activeFrom": at, "createdAt": at, "updatedAt": at}
        try:
            await self._collection.insert_one(made)
        except DuplicateKeyError:
            return False
        return True

    async def change(self, name: str, given: Mapping[str, Any], at: datetime, *, make: bool, restart: bool) -> bool:
        """Set some of its fields. `make`: one of the settings may have no document yet. `restart`: ticks before `at`
        do not count any more. Returns whether it was there, or was made.
        """
        change: Document = {"$set": {**given, "updatedAt": at, **({"activeFrom": at} if restart else {})}}
        while True:
            try:
                done = await self._collection.update_one({"name": name}, change, upsert=make)
            except DuplicateKeyError:  # two at once made it
                continue
            return bool(done.matched_count or done.upserted_id)

    async def rests(self, name: str, at: datetime) -> None:
        """It is off: ticks up to `at` do not count. Never goes back."""
        await self._collection.update_one({"name": name}, {"$max": {"activeFrom": at}})

    async def reset(self, name: str, at: datetime) -> bool:
        """Forget what was set of it at run time; its state stays. Returns whether anything was."""
        changed = {"name": name, "$or": [{field: {"$exists": True}} for field in FIELDS]}
        gone: Document = {"$unset": dict.fromkeys(FIELDS, ""), "$set": {"activeFrom": at, "updatedAt": at}}
        return bool((await self._collection.update_one(changed, gone)).matched_count)

    async def remove(self, name: str) -> bool:
        """It is no more; returns whether it was."""
        return bool((await self._collection.delete_one({"name": name})).deleted_count)

    async def note(self, name: str, progress: Progress, *, make: bool) -> None:
        """Note how far its ticks came; an older tick than the noted one changes nothing, unless that lies ahead of now
        and is of a clock that was wrong. `make`: see `change`.
        """
        if progress.tick is not None:
            newer = {"lastTickAt": {"$not": {"$gte": progress.tick}}}
            wrong = {"$expr": {"$gt": ["$lastTickAt", {"$add": ["$$NOW", AHEAD_MS]}]}}
            started = {"lastJobId": progress.job_id} if progress.job_id else {}
            change: Document = {"$set": {"lastTickAt": progress.tick, **started}}
            done = await self._collection.update_one({"name": name, "$or": [newer, wrong]}, change)
            if make and not done.matched_count:
                with suppress(DuplicateKeyError):  # it is there, and as far as that
                    await self._collection.update_one({"name": name, **newer}, change, upsert=True)
        counts = {key: n for key, n in (("skipped", progress.skipped), ("missed", progress.missed)) if n}
        if counts:
            counted: Document = {"$inc": counts}
            if progress.missed:
                counted["$set"] = {"missedSince": progress.missed_since, "missedAt": progress.missed_at}
            await self._collection.update_one({"name": name}, counted)

    async def ran(self, name: str, run: LastRun, fence: int, *, make: bool = False) -> None:
        """Note a run that ended. One with a lower `fence` than the noted one changes nothing: its holder was thought
        dead, and another one has run since. `make`: see `change`; its tick may be noted after it.
        """
        older = {"name": name, "lastRun.fence": {"$not": {"$gte": fence}}}
        told = {"end": run.end, "startedAt": run.started_at, "durationMs": run.duration_ms, "error": run.error}
        told["tickAt"] = run.tick_at
        with suppress(DuplicateKeyError):  # it is there, and of a later holder
            await self._collection.update_one(older, {"$set": {"lastRun": {**told, "fence": fence}}}, upsert=make)


def _stored(document: Document) -> StoredSchedule:
    last = document.get("lastRun")
    return StoredSchedule(
        name=document["name"],
        given={name: document[name] for name in FIELDS if name in document},
        active_from=_instant(document.get("activeFrom")),
        last_tick_at=_instant(document.get("lastTickAt")),
        last_job_id=str(document.get("lastJobId") or ""),
        last_run=_last_run(last) if isinstance(last, dict) else None,
        skipped=int(document.get("skipped") or 0),
        missed=int(document.get("missed") or 0),
        missed_since=_instant(document.get("missedSince")),
        missed_at=_instant(document.get("missedAt")),
    )


def _last_run(last: Document) -> LastRun | None:
    started_at = _instant(last.get("startedAt"))
    if started_at is None:
        return None
    end, error = str(last.get("end") or "?"), str(last.get("error") or "")
    return LastRun(end, started_at, float(last.get("durationMs") or 0), error, _instant(last.get("tickAt")))


def _instant(value: object) -> datetime | None:
    return value.astimezone(UTC) if isinstance(value, datetime) else None
