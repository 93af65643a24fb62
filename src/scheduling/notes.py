"""What became of schedules on its way to MongoDB: how far each came, what did not run, how its last run ended."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from loguru import logger

from ..clients import mongo
from ..store.run_document import Run
from ..store.schedules import LastRun, Progress, Schedules, both

NOTE_S = 0.2
AGAIN_S = 1.0
STORED_S = 5.0  # for MongoDB to answer at the end


class Notes:
    """`of` and `ran` never wait; `keep` writes until cancelled, through any outage; `close` writes the rest.

    `makes` says of which schedules a document may be made: one that was removed is not to come back.
    """

    def __init__(self, schedules: Schedules, makes: Callable[[str], bool]) -> None:
        self._schedules = schedules
        self._makes = makes
        self._progress: dict[str, Progress] = {}
        self._ran: dict[str, tuple[LastRun, int]] = {}
        self._some = asyncio.Event()

    def of(self, name: str) -> Progress:
        """What is to be noted of a schedule; fill in what there is to say."""
        self._some.set()
        return self._progress.setdefault(name, Progress())

    def ran(self, run: Run) -> None:
        """A run ended; of one that a schedule started, and that a lane held, that is noted."""
        if not (run.schedule and run.fence):
            return
        started_at = datetime.fromtimestamp(run.started_at, UTC)
        tick_at = None if run.tick_at is None else datetime.fromtimestamp(run.tick_at, UTC)
        self._keep_last(
            run.schedule, LastRun(run.end, started_at, run.duration_s * 1000, run.error, tick_at), run.fence
        )

    async def keep(self) -> None:
        """Write whatever there is, soon after it came."""
        while True:
            await self._some.wait()
            await asyncio.sleep(NOTE_S)
            try:
                await self._write()
            except mongo.FAILURES as e:
                logger.warning("how far the schedules came is noted later", error=type(e).__name__)
                await asyncio.sleep(AGAIN_S)

    async def close(self) -> None:
        """Write the rest, within some seconds."""
        try:
            async with asyncio.timeout(STORED_S):
                await self._write()
        except (TimeoutError, *mongo.FAILURES) as e:
            logger.warning("how far the schedules came was not noted", error=type(e).__name__)

    def _keep_last(self, name: str, run: LastRun, fence: int) -> None:
        if name not in self._ran or fence >= self._ran[name][1]:
            self._ran[name] = (run, fence)
        self._some.set()

    async def _write(self) -> None:
        self._some.clear()
        while self._progress:
            name, progress = next(iter(self._progress.items()))
            del self._progress[name]
            try:
                await self._schedules.note(name, progress, make=self._makes(name))
            except BaseException:
                self._progress[name] = both(progress, self._progress.get(name))
                self._some.set()
                raise
        while self._ran:
            name, (run, fence) = self._ran.popitem()
            try:
                await self._schedules.ran(name, run, fence, make=self._makes(name))
            except BaseException:
                self._keep_last(name, run, fence)
                raise
