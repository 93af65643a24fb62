"""What schedules ask of Redis: the time, what is to be stopped, and that a tick is decided once.

Redis' clock is the one all workers share: a machine whose own is wrong fires no tick early or twice.
"""

from dataclasses import dataclass
from secrets import token_hex
from typing import Literal, cast

import orjson
from redis.asyncio import Redis

from ..clients.redis import in_time
from .declaration import Declaration
from .facts import as_text
from .queue import KEPT_MS, NewJob
from .scripts import Scripts

Overlap = Literal["skip", "queue", "cancel_previous"]
Word = Literal["old", "skipped", "dropped", "fired"]
Before = Literal["", "waits", "removed", "running"]


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a tick.

    `old`: it was decided before. `skipped`: the run before it (`before`) goes on. `fired`: its job is stored; `became`
    says of the run before: "" it was over, `waits` the new one lines up behind it, `removed` it waited and was taken
    out, `running` it runs and is being stopped. `job_id`: its job, or the one that waits or runs with its unique key.
    """

    word: Word
    before: str
    became: Before
    job_id: str = ""


class Ticks:
    """Raises what redis raises. Every call can be repeated, and brings the answer of the first.

    Of the arguments, `known` is the last tick that is known to be decided, in case Redis forgot, and `now` the time at
    which it was found due. Ticks not later than the last that was decided are old: they are to be given in their order.
    """

    def __init__(self, redis: Redis) -> None:
        self._scripts = Scripts(redis)
        self._token = token_hex(8)

    async def look(self) -> tuple[float, list[str]]:
        """Redis' time in Unix seconds, and the ids of jobs that are to be stopped wherever they run."""
        async with in_time():
            now_ms, stopped = await self._scripts("look", [])
        return now_ms / 1000, [as_text(job_id) for job_id in stopped]

    async def drop(self, name: str, tick: float, *, known: float, now: float) -> float | None:
        """Decide that a tick which was missed starts nothing. Returns the one that was decided before it (0.0: none
        that is known), or None where this one was decided by another.
        """
        word, *_, last_ms = await self._decide(name, tick, known, "drop", "[]", "[]", now)
        return None if word == "old" else float(last_ms) / 1000

    async def decide(
        self,
        name: str,
        tick: float,
        *,
        known: float,
        now: float,
        overlap: Overlap,
        job: NewJob,
        declaration: Declaration[...],
    ) -> Decided:
        """Decide a schedule's tick (Unix seconds), and store `job` where it fires, in one step."""
        lanes = orjson.dumps([lane for lane in (declaration.lane, declaration.retry_lane) if lane])
        word, before, became, job_id, _ = await self._decide(
            name, tick, known, overlap, lanes, orjson.dumps(job.record), now
        )
        return Decided(cast(Word, word), before, cast(Before, became), job_id)

    async def _decide(
        self, name: str, tick: float, known: float, overlap: str, lanes: bytes | str, job: bytes | str, now: float
    ) -> list[str]:
        args = [name, int(tick * 1000), int(known * 1000), overlap, KEPT_MS, lanes, job, int(now * 1000), self._token]
        async with in_time():
            return [as_text(part) for part in await self._scripts("tick", args)]
