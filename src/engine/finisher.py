"""Writes down how jobs ended, all that ended since the last writing in one call."""

import asyncio
from collections.abc import Callable, Sequence

from loguru import logger
from redis.exceptions import RedisError

from .claims import Claims, Finish

AWAY_S = (0.05, 1.0)  # wait after the first failure, and at most


class Finisher:
    """`add` never waits; `keep` writes until cancelled, and through any outage; `flushed` waits for the rest.

    `on_written` gets what is known to be stored.
    """

    def __init__(self, claims: Claims, on_written: Callable[[Sequence[Finish]], None]) -> None:
        self._claims = claims
        self._on_written = on_written
        self._waiting: list[Finish] = []
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def add(self, finish: Finish) -> None:
        """Note how a job ended."""
        self._waiting.append(finish)
        self._some.set()
        self._none.clear()

    async def flushed(self) -> None:
        """Returns when everything is stored."""
        await self._none.wait()

    async def keep(self) -> None:
        """Write whatever there is; runs until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._waiting = self._waiting, []
            await self._written(batch)
            self._on_written(batch)
            if not self._waiting:
                self._none.set()

    async def _written(self, batch: Sequence[Finish]) -> None:
        wait_s, longest_s = AWAY_S
        while True:
            try:
                return await self._claims.finish(batch)
            except (RedisError, OSError) as e:
                logger.warning("ends of jobs wait for Redis", jobs=len(batch), error=type(e).__name__)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, longest_s)
