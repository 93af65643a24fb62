"""The queue as its callers see it: enqueue, look, pause. Light: arq, pydantic and redis, nothing of what jobs use."""

import asyncio
import builtins
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from secrets import token_hex
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..errors import Misuse, Transient
from . import keys
from .declaration import Declaration
from .scripts import Scripts
from .trace import to_send
from .wire import deserialize, write_job

KEPT_MS = 30 * 86_400_000  # how long an undelivered job waits in Redis
MAX_BYTES = 512 * 1024  # of one job as written
MAX_PRIORITY = 1_000
MAX_DELAY_S = 366 * 86_400.0
CHUNK = 500  # jobs in one call: Redis does nothing else meanwhile
ENQUEUE_S = 10.0  # tries included
TRY_AGAIN_S = 0.1

State = Literal["pending", "scheduled", "retry", "active", "done", "dead"]


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One lane. `pending`: due and waiting; `scheduled`: due later; `retry`: failed and waiting for the next try.

    `latency_s`: how long the first in line has waited. `processed` and `failed` (for good) count since Redis was
    empty; `dead` are the dead letters that nobody has replayed or dropped.
    """

    pending: int
    active: int
    scheduled: int
    retry: int
    dead: int
    paused: bool
    latency_s: float
    processed: int
    failed: int


@dataclass(frozen=True, slots=True)
class JobInfo:
    """One job. Instants are Unix seconds or None; `attempt` is 1 for a job that never failed."""

    state: State
    job: str
    lane: str
    attempt: int
    enqueued_at: float
    started_at: float | None = None
    finished_at: float | None = None
    outcome: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be enqueued, checked and written already; made by `Queue.prepare`."""

    job_id: str
    lane: str
    payload: bytes
    delay_ms: int
    priority: int
    unique: str
    once_ms: int = 0

    @property
    def record(self) -> tuple[Any, ...]:
        """As `enqueue.lua` takes it."""
        return self.lane, self.job_id, self.payload, self.delay_ms, self.priority, self.unique, self.once_ms


_sequence = count()
_process = token_hex(7)


def _as_another_process() -> None:
    global _process
    _process = token_hex(7)


os.register_at_fork(after_in_child=_as_another_process)


def new_id() -> str:
    """An id no other job has; ids made later in one process sort later, so jobs of the same ms stay in order."""
    return f"{time.time_ns() // 1_000_000:012x}{next(_sequence) & 0xFFFFFF:06x}{_process}"


class Queue:
    """Speaks with one Redis about the jobs of `declared` (name -> declaration). Safe for many tasks at once."""

    def __init__(self, redis: Redis, declared: Mapping[str, Declaration[Any]]) -> None:
        self.redis = redis
        self._declared = declared
        self._scripts = Scripts(redis)

    def declaration(self, name: str) -> Declaration[Any]:
        """The job of that name. Raises Misuse with the names there are."""
        if name not in self._declared:
            raise Misuse(f"there is no job {name!r}; there are {', '.join(sorted(self._declared))}")
        return self._declared[name]

    def prepare(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        priority: int = 0,
        delay_s: float = 0.0,
        unique_key: str | None = None,
        job_id: str | None = None,
        once_s: float = 0.0,
    ) -> NewJob:
        """A job checked and written. Raises Misuse on all that could be wrong with it.

        `unique_key` takes the place of the declared one. `job_id`: to enqueue under an id that says what the job is,
        accepted once while it waits or runs and for `once_s` seconds from when it is due.
        """
        declaration = self.declaration(name)
        if not 0 <= priority <= MAX_PRIORITY:
            raise Misuse(f"{name}: priority must be 0 to {MAX_PRIORITY}; more is sooner")
        if not 0 <= delay_s <= MAX_DELAY_S:
            raise Misuse(f"{name}: delay_s must be 0 to {MAX_DELAY_S:.0f} seconds")
        written = declaration.written(arguments)
        unique = f"{name}:{unique_key}" if unique_key else ""
        if declaration.unique_key and not unique:
            unique = declaration.key(**declaration.checked(written)) or ""
        try:
            payload = write_job(
                name, written, time.time_ns() // 1_000_000, priority=priority, unique=unique, tp=to_send()
            )
        except (TypeError, ValueError) as e:
            raise Misuse(f"{name}: an argument cannot be written as JSON: {e}") from e
        if len(payload) > MAX_BYTES:
            raise Misuse(
                f"{name}: the job is {len(payload)} bytes long, at most {MAX_BYTES} are taken; pass an id instead"
            )
        return NewJob(
            job_id or new_id(), declaration.lane, payload, int(delay_s * 1000), priority, unique, int(once_s * 1000)
        )

    async def put(self, jobs: Sequence[NewJob]) -> list[str]:
        """Store `jobs` and return, for each, the id of the job that stands for it: a duplicate's is the first one's.

        Known to be stored on return. Safe to repeat with the same jobs. Raises Transient when Redis does not take them
        within `ENQUEUE_S` seconds; some may be stored then, and the same jobs can be put again.
        """
        ids: list[str] = []
        for start in range(0, len(jobs), CHUNK):
            args: list[Any] = [KEPT_MS]
            for job in jobs[start : start + CHUNK]:
                args += job.record
            ids += [_text(job_id) for job_id in await self._patiently("enqueue", args)]
        return ids

    async def stats(self) -> dict[str, QueueStats]:
        """Every lane that has a job of ours or was ever used, by name."""
        known = {_text(lane) for lane in await self.redis.execute_command("SMEMBERS", keys.LANES)}
        lanes = sorted(known | {declaration.lane for declaration in self._declared.values()})
        *rows, now = await self._patiently("stats", list(lanes))
        return {lane: _stats(row, now) for lane, row in zip(lanes, rows, strict=True)}

    async def job(self, job_id: str) -> JobInfo | None:
        """Where a job is and how it ended, or None: never heard of, or over for longer than results are kept."""
        lanes = sorted(
            {_text(lane) for lane in await self.redis.execute_command("SMEMBERS", keys.LANES)} | {keys.FRONT_DOOR}
        )
        async with self.redis.pipeline(transaction=True) as pipe:
            for key in (keys.RESULT, keys.JOB, keys.TRIES, keys.IN_PROGRESS):
                pipe.get(key + job_id)
            pipe.lindex(keys.ATTEMPTS + job_id, -1)
            pipe.time()
            for lane in lanes:
                pipe.zscore(lane, job_id)
            result, payload, tries, started, last, now, *scores = await pipe.execute()
        if result:
            return _ended(deserialize(result))
        found = [(lane, score) for lane, score in zip(lanes, scores, strict=True) if score is not None]
        if not (payload and found):
            return None
        failed = int((tries or b"0").partition(b":")[0])
        lane, score = found[0]
        state: State = (
            "active" if started else "pending" if score <= now[0] * 1000 else "retry" if last else "scheduled"
        )
        return _waiting(_readable(payload), state, lane, failed + 1, int(started or 0), last)

    async def pause(self, lane: str) -> None:
        """No worker takes another job of the lane until `resume`; running ones go on. Raises Misuse on a wrong name."""
        await self.redis.execute_command("SADD", keys.PAUSED, await self._known(lane))

    async def resume(self, lane: str) -> None:
        """Go on with a paused lane at once."""
        await self.redis.execute_command("SREM", keys.PAUSED, await self._known(lane))
        await self.redis.publish(keys.WAKE, lane)

    async def waiting(self, lane: str, limit: int) -> list[str]:
        """Ids of the first jobs of a lane, in the order they will run; running ones stand at their lease's end."""
        return [_text(job_id) for job_id in await self.redis.zrange(lane, 0, limit - 1)]

    async def _known(self, lane: str) -> str:
        lanes = await self.stats()
        if lane not in lanes:
            raise Misuse(f"there is no lane {lane!r}; there are {', '.join(lanes)}")
        return lane

    async def _patiently(self, script: str, args: list[Any]) -> Any:
        """Every script can be repeated, so a connection that drops with the answer under way costs only time."""
        try:
            async with asyncio.timeout(ENQUEUE_S):
                while True:
                    try:
                        return await self._scripts(script, args)
                    except (RedisError, OSError) as e:
                        error: BaseException = e
                        await asyncio.sleep(TRY_AGAIN_S)
        except builtins.TimeoutError as e:
            why = type(error).__name__ if "error" in locals() else "no answer"
            raise Transient(f"Redis did not take it within {ENQUEUE_S:g} s ({why}): is it running and not full?") from e


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _stats(row: list[Any], now: int) -> QueueStats:
    pending, active, scheduled, retry, paused, score, payload, processed, failed, dead = row
    latency_s = 0.0
    if payload:
        # a head start puts the score before the enqueueing, a delay after it
        since = max(float(score), float(_readable(payload).get("et") or 0))
        latency_s = max(0.0, (now - since) / 1000)
    return QueueStats(pending, active, scheduled, retry, dead, bool(paused), latency_s, processed, failed)


def _readable(payload: bytes) -> dict[str, Any]:
    """The job's dictionary; empty for one in a format we do not know."""
    try:
        return deserialize(payload)
    except ValueError:
        return {}


def _waiting(job: dict[str, Any], state: State, lane: str, attempt: int, started_ms: int, last: Any) -> JobInfo:
    error = (deserialize(last).get("error") or None) if last else None
    started_at = started_ms / 1000 if started_ms > 1 else None
    enqueued_at = (job.get("et") or 0) / 1000
    return JobInfo(state, str(job.get("f", "?")), lane, attempt, enqueued_at, started_at=started_at, error=error)


def _ended(job: dict[str, Any]) -> JobInfo:
    is_done = bool(job["s"])
    return JobInfo(
        "done" if is_done else "dead",
        str(job["f"]),
        str(job.get("q", "")),
        int(job["t"]),
        job["et"] / 1000,
        started_at=job["st"] / 1000,
        finished_at=job["ft"] / 1000,
        outcome=str(job["r"]) if is_done else None,
        error=None if is_done else str(job["r"]),
    )
