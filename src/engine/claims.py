"""What the lanes ask of Redis: claim, renew, finish. Every call can be repeated, and only the holder can end a job."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any

import orjson
from loguru import logger
from redis.asyncio import Redis

from ..clients.redis import in_time
from . import keys
from .letters import Attempts
from .queue import KEPT_MS, MAX_DELAY_S
from .scripts import Scripts

ARRIVED, ENDED = "hold", "end"  # kinds of what `finish.lua` is told
STALE_MS = 1000.0  # half of how long a handed job waits for its worker (enqueue.lua)
MOST = 500  # jobs in one call: Redis does nothing else meanwhile


@dataclass(slots=True)
class Claimed:
    """A job this process may run while it renews its lease.

    `failed`: attempts that failed; `killed`: workers that died while they ran it; `score`: its place in the lane;
    `fence`: higher than that of every holder before; `is_stopped`: somebody wanted it to end while it ran last.
    """

    lane: str
    job_id: str
    payload: bytes | str | None
    failed: int
    killed: int
    score: bytes
    fence: int = 0
    is_stopped: bool = False

    @property
    def tries(self) -> str:
        """`failed` and `killed` as the scripts keep them."""
        return f"{self.failed}:{self.killed}"


@dataclass(slots=True)
class Answer:
    """What a claim brought. `waiting`: due jobs per lane before it. `next_due_s`: until the next falls due, or None."""

    jobs: list[Claimed]
    waiting: list[tuple[str, int]]
    next_due_s: float | None

    @property
    def has_more(self) -> bool:
        """Whether due jobs were left behind."""
        return sum(count for _, count in self.waiting) > len(self.jobs)


#: How one job ended, as `finish.lua` takes it: kind, lane, id and five fields of the kind.
Finish = tuple[Any, ...]


def ended(job: Claimed, result: str, keep_s: float, unique: str, *, is_failed: bool) -> Finish:
    """It is over."""
    return ENDED, job.lane, job.job_id, result, int(keep_s * 1000), unique, "failed" if is_failed else "", ""


def again(job: Claimed, in_s: float, tries: str, attempt: str, priority: int, lane: str) -> Finish:
    """It runs again in `in_s` seconds, in `lane`. `attempt`: what failed, as JSON, or nothing where nothing did."""
    return "again", job.lane, job.job_id, max(1, int(min(in_s, MAX_DELAY_S) * 1000)), tries, attempt, priority, lane


def given_back(job: Claimed) -> Finish:
    """It waits where it waited before."""
    return "back", job.lane, job.job_id, job.score.decode(), "", "", "", ""


def handed(message: bytes) -> tuple[Claimed, float]:
    """A job `enqueue.lua` claimed in our name, from the message that brought it, and when, in ms of Redis' clock."""
    lane, job_id, payload, at_ms, fence = orjson.loads(message)
    return Claimed(lane, job_id, payload, 0, 0, str(int(at_ms)).encode(), int(fence)), at_ms


def arrived(job: Claimed, lease_s: float) -> Finish:
    """A job that was handed over is here: its lease is that of any other from now on."""
    return ARRIVED, job.lane, job.job_id, int(lease_s * 1000), "", "", "", ""


class Claims:
    """The claims of one worker process, which Redis knows by `token`.

    Raises what redis raises: the connection does not retry by itself, because a claim whose answer is lost has to be
    looked after (`unheard`).
    """

    def __init__(self, redis: Redis, token: str, *, lease_s: float, head_start_s: float) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._token = token
        self._lease_ms = int(lease_s * 1000)
        self._head_start_ms = int(head_start_s * 1000)
        self._ahead_ms = inf  # Redis' clock before our monotonic one, at most

    def is_stale(self, at_ms: float) -> bool:
        """Whether what happened at `at_ms` of Redis' clock is so long ago that a handed job may be another's by now."""
        return monotonic() * 1000 + self._ahead_ms - at_ms > STALE_MS

    async def claim(self, keys_: Sequence[tuple[str, float, float]], free: int, *, suspects: int) -> Answer:
        """Up to `free` due jobs; `keys_` are (lane, key, step) as `Shares.keys` has them.

        `suspects`: how many jobs that killed two workers may be among them.
        """
        args: list[Any] = [self._token, self._lease_ms, min(free, MOST), suspects]
        for lane, key, step in keys_:
            args += (lane, key, step)
        asked = monotonic()
        async with in_time():
            rows, next_due_ms, dues, now_ms, fence = await self._scripts("claim", args)
        # not since the answer: it may have lain here while the loop stood, with what was handed over behind it, and
        # that would look too young then by all that time
        self._ahead_ms = now_ms - asked * 1000
        jobs = [_claimed(keys_[number - 1][0], int(fence), *rest) for number, *rest in rows if _is_id(rest[0])]
        waiting = [(lane, due) for (lane, _, _), due in zip(keys_, dues, strict=True)]
        return Answer(jobs, waiting, None if next_due_ms < 0 else next_due_ms / 1000)

    async def take_no_more(self, last_word: bytes) -> bool:
        """No job is handed over to us from now on, until we claim again; `last_word` comes to us behind the last that
        was. Returns whether we listen.
        """
        async with in_time(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.FREE + self._token)
            pipe.publish(keys.HAND + self._token, last_word)
            _, listeners = await pipe.execute()
        return bool(listeners)

    async def unheard(self, lanes: Iterable[str], held: Collection[str]) -> int:
        """After a claim whose answer was lost: put what it claimed, and we do not hold, first in line; how many.

        `held` may change meanwhile, and is to be the thing itself: a job may be handed over to us while Redis is asked.
        """
        before, found = set(held), list[Finish]()
        for lane in lanes:
            async with in_time():
                running = await self._redis.execute_command("HGETALL", keys.RUNNING + lane)
            ours = {i.decode(errors="replace") for i, owner in running.items() if owner.decode() == self._token}
            # given back and not only put first: another worker that finds it first would hold us for dead
            found += [("back", lane, job_id, "1", "", "", "", "") for job_id in ours - before if job_id not in held]
        await self.finish(found)
        return len(found)

    async def renew(self, held: Sequence[tuple[str, str]]) -> list[str]:
        """Renew the leases of (lane, job id); returns the ids that another worker has taken meanwhile."""
        lost: list[str] = []
        for start in range(0, max(len(held), 1), MOST):
            args: list[Any] = [self._token, self._lease_ms, self._head_start_ms]
            for pair in held[start : start + MOST]:
                args += pair
            async with in_time():
                lost += [job_id.decode() for job_id in await self._scripts("renew", args)]
        return lost

    async def finish(self, batch: Sequence[Finish]) -> None:
        """Write down how jobs ended. Safe to repeat."""
        for start in range(0, len(batch), MOST):
            # one argument for all: redis-py packs each argument in Python
            records = orjson.dumps(batch[start : start + MOST])
            async with in_time():
                await self._scripts("finish", [self._token, KEPT_MS, records])

    async def past(self, job_id: str) -> Attempts:
        """The attempts of a job that failed, oldest first."""
        async with in_time():
            attempts = await self._redis.execute_command("LRANGE", keys.ATTEMPTS + job_id, 0, -1)
        return [orjson.loads(attempt) for attempt in attempts]

    async def announce(self, lanes: Iterable[str]) -> None:
        """Make the lanes known, with what is waiting in them or not."""
        async with in_time():
            await self._redis.execute_command("SADD", keys.LANES, *lanes)
        await self.renew([])


def _is_id(job_id: bytes) -> bool:
    try:
        job_id.decode()
    except UnicodeDecodeError:
        logger.error("no job has such an id, take it out of its lane by hand", job_id=repr(job_id))
        return False
    return True


def _claimed(
    lane: str, fence: int, job_id: bytes, payload: bytes | None, tries: bytes, score: bytes, is_stopped: int
) -> Claimed:
    failed, _, killed = tries.partition(b":")
    return Claimed(lane, job_id.decode(), payload, int(failed or 0), int(killed or 0), score, fence, bool(is_stopped))
