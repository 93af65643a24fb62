"""A run, and the document it is stored as.

The bytes of that document are put together here (bsonspec.org): every run of every job pays for its history, and a
dictionary of datetimes for the driver to encode takes three times as long, a sixth of what an empty job takes in all.
What a run has in common with others is encoded once; what only few have, an error or a page, by the driver.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from random import getrandbits
from secrets import token_bytes
from struct import Struct
from struct import error as StructError  # noqa: N812 - a class, whatever its name
from time import time
from typing import Any, Final

import bson
import orjson
from bson.raw_bson import RawBSONDocument

from ..clients.mongo import Document

FAILED: Final = ("retry", "dead")
ENDED: Final = ("done", *FAILED)  # ends that say whether it works
MOST_KEPT = 1024  # of each kind of bytes that many runs share
DAY_MS = 86_400_000
END = b"\0"
OBJECT_ID, DATE, DOUBLE, TEXT = b"\x07", b"\x09", b"\x01", b"\x02"  # kinds of elements


@dataclass(slots=True)
class Run:
    """One attempt of a job. Instants are Unix seconds; `outcome`: the job's word.

    `end`: done, retry, snoozed, dead, cancelled; of a schedule's tick that did not run skipped (the run before it went
    on) or missed (nobody was there). `arguments`: of them only a digest and a page's id are stored. `schedule`: whose
    tick or order it was, or ""; `history_days`: how long it is kept, None for the setting; `details`: what
    the job says beside its word; `times`: how many ticks it stands for, where they were missed;
    `ready_at`: when it fell due, where that is later than it was enqueued, else 0.
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
    details: Mapping[str, Any] | None = None
    times: int = 1
    ready_at: float = 0.0

    @property
    def waited_s(self) -> float:
        """How long it was due and waited for a slot; never below 0, whatever the clocks of others say."""
        since = self.ready_at if self.ready_at > self.enqueued_at else self.enqueued_at
        return self.started_at - since if self.started_at > since else 0.0


def digest(arguments: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that are the same for the same arguments; nothing can be read from them."""
    if not arguments:
        return ""
    try:
        text = orjson.dumps(arguments, default=str, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        text = repr(sorted(arguments)).encode(errors="replace")
    return blake2b(text, digest_size=8).hexdigest()


def _named(kind: bytes, name: str) -> bytes:
    return kind + name.encode() + b"\0"


ID, ENQUEUED, STARTED = _named(OBJECT_ID, "_id"), _named(DATE, "enqueuedAt"), _named(DATE, "startedAt")
FINISHED, EXPIRES = _named(DATE, "finishedAt"), _named(DATE, "expiresAt")
DURATION, WAITED = _named(DOUBLE, "durationMs"), _named(DOUBLE, "waitMs")
JOB_ID, TRACE_ID = _named(TEXT, "jobId"), _named(TEXT, "traceId")
WAIT: Final = Struct(f"<{len(WAITED)}sd")


def _elements(document: Document) -> bytes:
    """The fields of a document, without its length and its end."""
    return bytes(bson.encode(document))[4:-1]


NO_MORE: Final = _elements({"argumentsDigest": ""}) + END


class Joined(RawBSONDocument):
    """Many documents, one behind the other as an insert has them (OP_MSG, section kind 1), for the driver to copy.

    To it they are one: it asks a document for its bytes, and takes half as long as the server to ask each of thousands.
    """

    def __init__(self, documents: Sequence[bytes]) -> None:
        super().__init__(documents[0])
        self._bytes = b"".join(documents)

    @property
    def raw(self) -> bytes:
        """The bytes of all."""
        return self._bytes


class RunDocuments:
    """Makes the documents of one process."""

    def __init__(self) -> None:
        self._numbers = count(getrandbits(23))
        self._process = token_bytes(5)

    def make(self, runs: Iterable[Run], kept: timedelta) -> list[bytes]:
        """One for each run, with an `_id` made as ObjectId's own are: its seconds, this process, a number.

        Many at once take half the time that they take one by one between the jobs. Raises OverflowError or another
        ValueError, or TypeError, for what BSON cannot hold.
        """
        made, numbers, usual_ms = [], self._numbers, int(kept.total_seconds() * 1000)
        this_process = int(time()).to_bytes(4, "big") + self._process
        for run in runs:
            job_id, trace_id = run.job_id.encode(), run.trace_id.encode()
            rest = _common(run.job, run.lane, run.worker, run.attempt, run.end, run.outcome, run.schedule)
            if run.attempt == 1:
                rest += WAIT.pack(WAITED, run.waited_s * 1000)
            is_more = run.arguments or run.error or run.details or run.schedule or run.times != 1
            rest += _rare(run) if is_more else NO_MORE
            head = _head(len(job_id), len(trace_id))
            started_at, duration_s, days = run.started_at, run.duration_s, run.history_days
            started_ms = int(started_at * 1000)
            try:
                first = head.pack(
                    head.size + len(rest),
                    ID,
                    this_process + (next(numbers) & 0xFFFFFF).to_bytes(3, "big"),
                    ENQUEUED,
                    int(run.enqueued_at * 1000),
                    STARTED,
                    started_ms,
                    FINISHED,
                    int((started_at + duration_s) * 1000),
                    EXPIRES,
                    started_ms + (usual_ms if days is None else int(days * DAY_MS)),
                    DURATION,
                    duration_s * 1000,
                    JOB_ID,
                    len(job_id) + 1,
                    job_id,
                    TRACE_ID,
                    len(trace_id) + 1,
                    trace_id,
                )
            except StructError as e:
                raise OverflowError("a time or a length of the run is beyond what BSON holds") from e
            made.append(first + rest)
        return made


@lru_cache(MOST_KEPT)
def _head(job_id: int, trace_id: int) -> Struct:
    """The document's length, what differs from run to run; by the lengths of two texts."""
    dates = "".join(f"{len(name)}sq" for name in (ENQUEUED, STARTED, FINISHED, EXPIRES))
    texts = f"{len(JOB_ID)}si{job_id}sx{len(TRACE_ID)}si{trace_id}sx"
    return Struct(f"<i{len(ID)}s12s{dates}{len(DURATION)}sd{texts}")


@lru_cache(MOST_KEPT)
def _common(job: str, lane: str, worker: str, attempt: int, end: str, outcome: str, schedule: str) -> bytes:
    document: Document = {
        "job": job,
        "lane": lane,
        "worker": worker,
        "attempt": attempt,
        "end": end,
        "outcome": outcome,
    }
    if end in FAILED:
        document["isFailure"] = True
    if schedule:
        document["schedule"] = schedule
    return _elements(document)


def _rare(run: Run) -> bytes:
    """What few runs have, or no two the same; and the document's end."""
    document: Document = {"argumentsDigest": digest(run.arguments)}
    if run.details:
        document["details"] = run.details
    if run.times != 1:
        document["times"] = run.times
    if run.error:
        document["error"] = run.error
    if isinstance(page_id := run.arguments.get("page_id"), str):
        document["pageId"] = page_id
    if run.schedule and run.tick_at is not None:
        document["tickAt"] = datetime.fromtimestamp(run.tick_at, UTC)
    return _elements(document) + END
