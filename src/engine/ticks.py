"""What schedules ask of Redis: the time, what is to be stopped, and that a tick is decided once.

Redis' clock is the one all workers share: a machine whose own is wrong fires no tick early or twice.
"""

from dataclasses import dataclass
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
    """Raises what redis raises. Every call can be repeated."""

    def __init__(self, redis: Redis) -> None:
        self._scripts = Scripts(redis)

    async def look(self) -> tuple[float, list[str]]:
        """Redis' time in Unix seconds, and the ids of jobs that are to be stopped wherever they run."""
        async with in_time():
            now_ms, stopped = await self._scripts("look", [])
        return now_ms / 1000, [as_text(job_id) for job_id in stopped]

    async def drop(self, name: str, tick: float, *, known: float) -> bool:
        """Decide that a tick which was missed starts nothing; returns whether it was decided here."""
        args = [name, int(tick * 1000), int(known * 1000), "drop", KEPT_MS, "[]", "[]"]
        async with in_time():
            word, _, _ = await self._scripts("tick", args)
        return as_text(word) != "old"

    async def decide(
        self, name: str, tick: float, *, known: float, overlap: Overlap, job: NewJob, declaration: Declaration[...]
    ) -> Decided:
        """Decide a schedule's tick (Unix seconds), and store `job` where it fires, in one step.

        `known`: the last tick that is known to be decided, in case Redis forgot. Ticks not later than the last that
        was decided are `old`: they are to be given in their order.
        """
        lanes = orjson.dumps([lane for lane in (declaration.lane, declaration.retry_lane) if lane])
        args = [name, int(tick * 1000), int(known * 1000), overlap, KEPT_MS, lanes, orjson.dumps(job.record)]
        async with in_time():
            word, before, became, *job_id = map(as_text, await self._scripts("tick", args))
        return Decided(cast(Word, word), before, cast(Before, became), *job_id)
