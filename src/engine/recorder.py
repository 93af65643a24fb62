"""What becomes of each run of this process: it is counted, goes to the history, and whoever wants to know is told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from functools import partial

from loguru import logger

from ..clients import mongo
from ..deps import Deps
from ..store.run_document import Run
from . import metrics
from .dead_letters import recount
from .history import History
from .upkeep import kept_up

RECOUNT_S, RECOUNT_ALL_S = 1.0, 60.0


class Recorder:
    """Call it with each run; it never waits. `on_run`: who else is told. Made by `recording`."""

    def __init__(self, history: History | None, known: Collection[str], deaths: asyncio.Event) -> None:
        self._history = history
        self._known = known
        self._deaths = deaths
        self.on_run: list[Callable[[Run], None]] = []

    def __call__(self, run: Run) -> None:
        """Take note of a run."""
        metrics.RUNS.count(run, is_known=run.job in self._known)
        if self._history:
            self._history.add(run)
        if run.end == "dead":
            self._deaths.set()
        for listener in self.on_run:
            listener(run)


@asynccontextmanager
async def recording(deps: Deps, known: Collection[str], worker: str) -> AsyncIterator[Recorder]:
    """Record the runs of the jobs `known` in this `worker`; on leaving what is not written yet is."""
    days, deaths = deps.settings.worker.history_days, asyncio.Event()
    history = History(deps.job_runs, deps.run_minutes, days=days, worker=worker, known=known) if days else None
    tasks = [asyncio.create_task(kept_up(partial(_recount_after, deps, deaths)))]
    if history:
        tasks.append(asyncio.create_task(kept_up(history.keep)))
    try:
        yield Recorder(history, known, deaths)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if history:
            await history.close()


async def _recount_after(deps: Deps, deaths: asyncio.Event) -> None:
    """Keep the number of dead letters that `Queue.stats` shows in step; until cancelled.

    Soon after each death, at most once a second; and each minute, in case Redis forgot.
    """
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(RECOUNT_ALL_S):
                await deaths.wait()
        deaths.clear()
        try:
            await recount(deps)
        except mongo.FAILURES as e:
            logger.warning("dead letters not counted", error=type(e).__name__)
            deaths.set()
        await asyncio.sleep(RECOUNT_S)
