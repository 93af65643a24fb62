"""Writes down how jobs ended, all that ended since the last writing in one call."""

import asyncio
from collections.abc import Callable, Sequence

from loguru import logger
from redis.exceptions import RedisError

from .claims import Claims, Finish

AWAY_S = (0.05, 1.0)  # wait after the first failure, and at most


class Finisher:
    """`add` never waits; `keep` writes until cancelled, and through any outage; `flushed` waits for the rest."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
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

    async def keep(self, on_written: Callable[[Sequence[Finish]], None]) -> None:
        """Write whatever there is, and tell what is known to be stored; runs until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._waiting = self._waiting, []
            try:
                await self._written(batch)
            except Exception:
                self._waiting = batch + self._waiting  # a bug, and whoever keeps us up begins again
                self._some.set()
                raise
            on_written(batch)
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
            except Exception as e:  # noqa: BLE001 - a bug in one of them is not to keep the others for ever
                if len(batch) == 1:
                    logger.opt(exception=e).error("the end of a job cannot be written", job_id=batch[0][2])
                    return None
                for finish in batch:
                    await self._written([finish])
                return None
