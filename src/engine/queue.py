"""The queue as its callers see it: enqueue, look, pause. Light: arq, pydantic and redis, nothing of what jobs use."""

import asyncio
import builtins
import math
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from secrets import token_hex
from typing import Any, Literal, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..errors import Misuse, Transient
from ..rules.lanes import LANES
from ..tracing import UNDECIDED, new_traceparent
from . import keys
from .declaration import Declaration
from .facts import JobInfo, QueueStats, Stopped, as_text, info_of, stats_of
from .scripts import Scripts
from .trace import to_send
from .wire import write_job

KEPT_MS = 30 * 86_400_000  # how long an undelivered job waits in Redis
MAX_BYTES = 512 * 1024  # of one job as written
MAX_PRIORITY = 1_000
MAX_DELAY_S = 366 * 86_400.0
CHUNK = 500  # jobs in one call: Redis does nothing else meanwhile
LOOK = 50  # jobs looked at in one call: each answer may hold MAX_BYTES
ENQUEUE_S = 10.0  # tries included
TRY_AGAIN_S = 0.1


Tick = tuple[str, float | None]


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
    group: str = ""

    @property
    def record(self) -> tuple[Any, ...]:
        """As `enqueue.lua` takes it."""
        times = self.delay_ms, self.priority, self.unique, self.once_ms
        return self.lane, self.job_id, self.payload.decode(), *times, self.group


_sequence = count()
_process = token_hex(7)


def _as_another_process() -> None:
    global _process
    _process = token_hex(7)


os.register_at_fork(after_in_child=_as_another_process)


def new_id() -> str:
    """An id no other job has; ids made later in one process sort later, so jobs of the same ms stay in order."""
    return f"{time.time_ns() // 1_000_000:012x}{next(_sequence) & 0xFFFFFF:06x}{_process}"


@asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    """What Redis does not answer in time is Transient, whatever the connection calls it."""
    try:
        async with asyncio.timeout(ENQUEUE_S):
            yield
    except (RedisError, OSError) as e:
        raise Transient(f"Redis gave no answer ({type(e).__name__}): is it running?") from e


def _is_finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _payload(
    declaration: Declaration[Any], written: dict[str, Any], *, priority: int, unique: str, tick: Tick | None, link: str
) -> bytes:
    name, now_ms = declaration.name, time.time_ns() // 1_000_000
    # of a tick each worker writes a job, and one of them stands: who runs it begins the trace
    is_tick = tick is not None and tick[1] is not None
    tp = new_traceparent(UNDECIDED) if is_tick else to_send(name, declaration.lane)
    try:
        payload = write_job(name, written, now_ms, priority=priority, unique=unique, tp=tp, tick=tick, link=link)
    except (TypeError, ValueError) as e:
        raise Misuse(f"{name}: an argument cannot be written as JSON: {e}") from e
    if len(payload) > MAX_BYTES:
        raise Misuse(f"{name}: the job is {len(payload)} bytes long, at most {MAX_BYTES} are taken; pass an id instead")
    return payload


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
        group: str = "",
        tick: Tick | None = None,
        link: str = "",
    ) -> NewJob:
        """A job checked and written. Raises Misuse on all that could be wrong with it.

        `unique_key` takes the place of the declared one. `job_id`: to enqueue under an id that says what the job is,
        accepted once while it waits or runs and for `once_s` seconds from when it is due. `group`: jobs of one group
        run one after the other, in the order they were stored; the next when the one before is over. `tick`: the
        schedule that starts it, and which tick of it (Unix seconds), or None for one between two. `link`: the
        traceparent of a run whose work this one does again.
        """
        declaration = self.declaration(name)
        if not (isinstance(priority, int) and 0 <= priority <= MAX_PRIORITY):
            raise Misuse(f"{name}: priority must be 0 to {MAX_PRIORITY}; more is sooner")
        if not (isinstance(delay_s, int | float) and 0 <= delay_s <= MAX_DELAY_S):
            raise Misuse(f"{name}: delay_s must be 0 to {MAX_DELAY_S:.0f} seconds")
        written = declaration.written(arguments)
        unique = f"{name}:{unique_key}" if unique_key else ""
        if declaration.unique_key and not unique:
            unique = declaration.key(**declaration.checked(written)) or ""
        payload = _payload(declaration, written, priority=priority, unique=unique, tick=tick, link=link)
        if payload.count(b"null") > 1 and not _is_finite(arguments):  # NaN would arrive as null, as `t` does
            raise Misuse(f"{name}: an argument holds NaN or an infinite number, which JSON cannot")
        return NewJob(
            job_id or new_id(),
            declaration.lane,
            payload,
            int(delay_s * 1000),
            priority,
            unique,
            int(once_s * 1000),
            group,
        )

    async def put(self, jobs: Sequence[NewJob]) -> list[str]:
        """Store `jobs` and return, for each, the id of the job that stands for it: a duplicate's is the first one's.

        Known to be stored on return. Safe to repeat with the same jobs. Raises Transient when Redis does not take them
        within `ENQUEUE_S` seconds; some may be stored then, and the same jobs can be put again.
        """
        ids: list[str] = []
        for start in range(0, len(jobs), CHUNK):
            # one argument for all: redis-py packs each argument in Python
            records = orjson.dumps([job.record for job in jobs[start : start + CHUNK]])
            ids += [as_text(job_id) for job_id in await self._patiently("enqueue", [KEPT_MS, records])]
        return ids

    @_answered()
    async def waits(self, job_ids: Sequence[str]) -> set[str]:
        """Those of the jobs that wait or run; others are over, or were never heard of."""
        found: list[Any] = []
        for start in range(0, len(job_ids), CHUNK):
            async with self.redis.pipeline(transaction=False) as pipe:
                for job_id in job_ids[start : start + CHUNK]:
                    pipe.exists(keys.JOB + job_id)
                found += await pipe.execute()
        return {job_id for job_id, count in zip(job_ids, found, strict=True) if count}

    async def hurry(self, due: Sequence[tuple[str, float]]) -> None:
        """Let waiting jobs run sooner: (job id, in how many seconds from now). Never later than they would have.

        One that runs now, and is put back, is due then. Safe to repeat; ids that are in no lane do nothing. Raises
        Transient when Redis does not take it within `ENQUEUE_S` seconds.
        """
        lanes = orjson.dumps(await self.lanes())
        for start in range(0, len(due), CHUNK):
            records = orjson.dumps([(job_id, int(in_s * 1000)) for job_id, in_s in due[start : start + CHUNK]])
            await self._patiently("hurry", [lanes, records])

    @_answered()
    async def stats(self) -> dict[str, QueueStats]:
        """Every lane that has a job of ours or was ever used, by name."""
        lanes = await self.lanes()
        *rows, now, head_start = await self._patiently("stats", list(lanes))
        return {lane: stats_of(row, now, head_start) for lane, row in zip(lanes, rows, strict=True)}

    async def job(self, job_id: str) -> JobInfo | None:
        """Where a job is and how it ended, or None: never heard of, or over for longer than results are kept."""
        return (await self.jobs([job_id]))[0]

    @_answered()
    async def jobs(self, job_ids: Sequence[str]) -> list[JobInfo | None]:
        """The same of many jobs, in few round trips."""
        lanes = sorted({*await self.lanes(), keys.FRONT_DOOR})
        infos: list[JobInfo | None] = []
        for start in range(0, len(job_ids), LOOK):
            async with self.redis.pipeline(transaction=True) as pipe:
                for job_id in job_ids[start : start + LOOK]:
                    for key in (keys.RESULT, keys.JOB, keys.TRIES, keys.IN_PROGRESS):
                        pipe.get(key + job_id)
                    pipe.lindex(keys.ATTEMPTS + job_id, -1)
                    for lane in lanes:
                        pipe.zscore(lane, job_id)
                pipe.time()
                *answers, now = await pipe.execute()
            width = 5 + len(lanes)
            rows = (answers[at : at + width] for at in range(0, len(answers), width))
            infos += [info_of(row, lanes, now[0] * 1000 + now[1] // 1000) for row in rows]
        return infos

    @_answered()
    async def pause(self, lane: str) -> None:
        """No worker takes another job of the lane until `resume`; running ones go on. Raises Misuse on a wrong name."""
        await self.redis.execute_command("SADD", keys.PAUSED, await self.known_lane(lane))

    @_answered()
    async def resume(self, lane: str) -> None:
        """Go on with a paused lane at once."""
        await self.redis.execute_command("SREM", keys.PAUSED, await self.known_lane(lane))
        await self.redis.publish(keys.WAKE, lane)

    @_answered()
    async def waiting(self, lane: str, limit: int) -> list[str]:
        """Ids of the first jobs of a lane, in the order they will run; running ones stand at their lease's end."""
        return [as_text(job_id) for job_id in await self.redis.zrange(lane, 0, limit - 1)]

    async def cancel(self, job_id: str) -> Stopped:
        """Stop a job: one that waits is over at once, one that runs is ended by its worker within some seconds.

        Nothing of it is replayed. Safe to repeat. Raises Transient when Redis does not take it.
        """
        word, *rest = await self._patiently("cancel", [job_id, *await self.lanes()])
        found = cast(Literal["removed", "running", "unknown"], as_text(word))
        if not rest:
            return Stopped(found)
        lane, payload, fence = rest
        return Stopped(found, as_text(lane), payload, int(fence))

    async def known_lane(self, lane: str) -> str:
        """`lane`. Raises Misuse, with the lanes there are, where it is none."""
        lanes = await self.stats()
        if lane not in lanes:
            raise Misuse(f"there is no lane {lane!r}; there are {', '.join(lanes)}")
        return lane

    async def lanes(self) -> list[str]:
        """Every lane that has a job of ours or was ever used."""
        declared = {lane for each in self._declared.values() for lane in (each.lane, each.retry_lane) if lane}
        seen = {as_text(lane) for lane in await self.redis.execute_command("SMEMBERS", keys.LANES)}
        return sorted({*LANES, keys.FRONT_DOOR, *declared, *seen})

    async def _patiently(self, script: str, args: list[Any]) -> Any:
        """Every script can be repeated, so a connection that drops with the answer under way costs only time."""
        why = "no answer"
        try:
            async with asyncio.timeout(ENQUEUE_S):
                while True:
                    try:
                        return await self._scripts(script, args)
                    except (RedisError, OSError) as e:
                        why = type(e).__name__
                        await asyncio.sleep(TRY_AGAIN_S)
        except builtins.TimeoutError as e:
            raise Transient(f"Redis did not take it within {ENQUEUE_S:g} s ({why}): is it running and not full?") from e
