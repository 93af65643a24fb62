"""arq's Worker as our front door: it keeps the process, its signals and its sign of life, and picks up nothing.

The lanes serve arq's default queue like any other, and schedules are fired by `scheduling`: arq would put a job of its
own into its queue for each tick, pick it up by polling, and lose it where the connection drops at that moment.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from arq.connections import ArqRedis
from arq.constants import health_check_key_suffix

from ..clients.redis import OUTAGES, Patience, in_time
from .keys import FRONT_DOOR

ANY_WORKER = FRONT_DOOR + health_check_key_suffix
TRY_AGAIN_S = 1.0


class FrontDoor(ArqRedis):
    """What arq's Worker speaks with Redis through: it gives the sign of life, and finds nothing to pick up, because the
    lanes serve its queue.
    """

    health: Callable[[], str] | None = None

    async def psetex(self, name: Any, time_ms: Any, value: Any) -> Any:
        """arq's sign of life, under the name it is given, which tells of this machine, and under arq's usual one, which
        tells that any worker lives. arq itself runs no job, so the counts in it are ours.
        """
        said = self.health().encode() if self.health else value
        await super().psetex(ANY_WORKER, time_ms, said)
        return await super().psetex(name, time_ms, said)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """redis-py retries a command, but not the greeting of a connection it needs for it; arq would die of that.

        Nor does it ever stop waiting for an answer, and its Worker must not stand still.
        """
        while True:
            try:
                async with in_time():
                    return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except OUTAGES:
                patience = self.connection_pool.connection_kwargs.get("retry")
                if not (isinstance(patience, Patience) and patience.lasts):
                    raise
                await asyncio.sleep(TRY_AGAIN_S)

    async def delete(self, *names: Any) -> int:
        """arq's sign of life goes at the end; where Redis is away it runs out, and the rest of the end must come."""
        with suppress(*OUTAGES):
            return int(await super().delete(*names))
        return 0

    async def zrangebyscore(self, *args: Any, **options: Any) -> list[bytes]:
        """What arq's Worker asks for jobs to pick up."""
        return []


async def run_by_lanes(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> None:
    """What stands for every job in arq's own register, which wants coroutines; the lanes run the jobs."""
    raise RuntimeError("the lanes run this job: start the worker with `arq src.worker.WorkerSettings`")
