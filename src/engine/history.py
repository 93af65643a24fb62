"""The runs of this process on their way to `job_runs`, in batches, so that no job waits for its history."""

import asyncio
from collections import deque
from contextlib import suppress
from datetime import timedelta

from loguru import logger

from ..clients import mongo
from ..clients.mongo import Document
from ..store.job_runs import JobRuns, Run

EVERY_S = 1.0
BATCH = 500  # made in the event loop: some 3 ms
KEPT_WAITING = 50_000  # while MongoDB is away; then the oldest are dropped, and that is said
END_S = 5.0


class History:
    """`add` never waits; `keep` writes until cancelled; `close` writes the rest."""

    def __init__(self, runs: JobRuns, *, days: float) -> None:
        self._runs = runs
        self._kept = timedelta(days=days)
        self._waiting: deque[Run] = deque(maxlen=KEPT_WAITING)
        self._batch: list[Document] = []  # made once, so that a second writing stores nothing twice
        self._later: list[list[Document]] = []  # parts of a batch that MongoDB refused as a whole
        self._dropped = 0

    def add(self, run: Run) -> None:
        """Note a run; it is stored within about a second."""
        if len(self._waiting) == KEPT_WAITING:
            self._dropped += 1
        self._waiting.append(run)

    async def keep(self) -> None:
        """Write what there is each `EVERY_S` seconds, or sooner where a batch is full; runs until cancelled."""
        while True:
            if len(self._waiting) < BATCH:
                await asyncio.sleep(EVERY_S)
            if not await self._write():
                await asyncio.sleep(EVERY_S)

    async def close(self) -> None:
        """Write the rest, within `END_S` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                while (self._waiting or self._batch) and await self._write():
                    pass
        if left := len(self._waiting) + len(self._batch):
            logger.warning("history not written", runs=left)

    async def _write(self) -> bool:
        if not self._batch:
            count = min(BATCH, len(self._waiting))
            self._batch = [self._runs.document(self._waiting.popleft(), self._kept) for _ in range(count)]
        if not self._batch:
            return True
        try:
            await self._runs.add(self._batch)
        except mongo.OUTAGES as e:
            logger.warning("history waits for MongoDB", runs=len(self._waiting), error=type(e).__name__)
            return False
        except (*mongo.FAILURES, *mongo.UNENCODABLE) as e:
            if len(self._batch) > 1:  # one of them is at fault: halves find it without holding up the others for long
                half = len(self._batch) // 2
                self._later, self._batch = [self._batch[half:], *self._later], self._batch[:half]
                return await self._write()
            logger.error("a run is missing in the history, MongoDB refuses it", error=type(e).__name__)
        self._batch = self._later.pop(0) if self._later else []
        if self._dropped:
            logger.error("MongoDB was away for too long, runs are missing in the history", runs=self._dropped)
            self._dropped = 0
        return True
