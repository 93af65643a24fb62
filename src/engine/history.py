"""The runs of this process on their way to `job_runs` and `run_minutes`, in batches: no job waits for its history."""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import timedelta
from itertools import count
from random import getrandbits

from loguru import logger

from ..clients import mongo
from ..store.job_runs import JobRuns
from ..store.run_document import Run
from ..store.run_minutes import MINUTE_S, Minute, RunMinutes

EVERY_S = 1.0
CHUNK = 16  # runs that become documents at a time: many enough to share a call, few enough to be in the cache still
BATCH = 1_000  # documents in one call
KEPT_WAITING = 50_000  # while MongoDB is away; then the oldest are dropped, and that is said
BUSY = 2_000  # runs in a second: the jobs go first then, and their history follows in a calmer one
PUT_OFF = KEPT_WAITING // 2  # runs, or
LONGEST_S = 5.0  # so long: then it is written whatever goes on
MINUTES_EVERY_S = 10.0
KEPT_MINUTES = 20_000
END_S = 5.0
UNKNOWN = "unknown"  # a name that is none of our jobs' came from outside, and there may be any number of them


class History:
    """`add` never waits; `keep` writes until cancelled; `close` writes the rest. `known` are the names of our jobs.

    Runs become documents some at a time: one by one, between the jobs, takes twice as long; and so does doing it by the
    thousand, when the first of them have left the processor's cache long since.
    """

    def __init__(
        self, runs: JobRuns, minutes: RunMinutes, *, days: float, worker: str = "", known: Collection[str] = ()
    ) -> None:
        self._runs = runs
        self._kept = timedelta(days=days)
        self._fresh: list[Run] = []
        self._waiting: deque[bytes] = deque(maxlen=KEPT_WAITING)
        self._batch: list[bytes] = []  # under way, and again after an outage: their ids are theirs by now
        self._later: list[list[bytes]] = []  # parts of a batch that MongoDB refused as a whole
        self._dropped = 0
        self._tally = _Tally(minutes, worker, known)

    def add(self, run: Run) -> None:
        """Note a run; it is stored within about a second, and in a burst of thousands within `LONGEST_S`."""
        self._fresh.append(run)
        if len(self._fresh) == CHUNK:
            asyncio.get_running_loop().call_soon(self._make)  # what is wrong in there must not cost the job its end

    async def keep(self) -> None:
        """Write what there is each `EVERY_S` seconds, or sooner where a batch is full; runs until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + MINUTES_EVERY_S
        while True:
            await self._calm()
            while len(self._waiting) >= BATCH and await self._write():
                pass
            if not await self._write():
                await asyncio.sleep(EVERY_S)
            if loop.time() >= due:
                await self._tally.write()
                due = loop.time() + MINUTES_EVERY_S

    async def _calm(self) -> None:
        """Wait a second, and in a burst until it is over, or until too much waits."""
        for _ in range(int(LONGEST_S / EVERY_S)):
            before = len(self._waiting)
            await asyncio.sleep(EVERY_S)
            if len(self._waiting) - before < BUSY or len(self._waiting) >= PUT_OFF:
                return

    def _make(self) -> None:
        """Count the runs there are, and make documents of them."""
        runs, self._fresh = self._fresh, []
        self._tally.count(runs)
        made = self._made([run for run in runs if run.history_days != 0])
        self._dropped += max(0, len(self._waiting) + len(made) - KEPT_WAITING)
        self._waiting.extend(made)

    def _made(self, runs: list[Run]) -> list[bytes]:
        try:
            return self._runs.documents(runs, self._kept)
        except mongo.UNENCODABLE as e:
            if len(runs) > 1:
                return [document for run in runs for document in self._made([run])]
            logger.error("a run is missing in the history, it cannot be encoded", error=type(e).__name__)
            return []

    async def close(self) -> None:
        """Write the rest, within `END_S` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                while (self._fresh or self._waiting or self._batch) and await self._write():
                    pass
                await self._tally.write()
        if left := len(self._fresh) + len(self._waiting) + len(self._batch) + sum(map(len, self._later)):
            logger.warning("history not written", runs=left)

    async def _write(self) -> bool:
        if len(self._waiting) < BATCH:
            self._make()
        # one that was refused is tried with others: where those are taken, it is at fault and not the server
        while self._waiting and len(self._batch) < BATCH and not self._later:
            self._batch.append(self._waiting.popleft())
        if not self._batch:
            return True
        try:
            refused, why = await self._runs.add(self._batch), "refused"
        except mongo.FAILURES as e:
            # of one that refuses too: it is full, or somebody took rights away, and will give them back
            why = type(e).__name__
            if isinstance(e, mongo.REFUSALS):
                why = f"it refuses them ({e.code}): is there room, and may its user write?"
            logger.warning("history waits for MongoDB", runs=len(self._waiting) + len(self._batch), error=why)
            return False
        except mongo.UNENCODABLE as e:
            if len(self._batch) > 1:  # too much for one message, or one of them is: halves find it
                half = len(self._batch) // 2
                self._later, self._batch = [self._batch[half:], *self._later], self._batch[:half]
                return await self._write()
            refused, why = 1, type(e).__name__
        if refused:
            logger.error("runs are missing in the history, MongoDB refuses them", runs=refused, error=why)
        self._batch = self._later.pop(0) if self._later else []
        if self._dropped:
            logger.error("MongoDB was away for too long, runs are missing in the history", runs=self._dropped)
            self._dropped = 0
        return True


class _Tally:
    """Counts per minute, written whole: those that changed, and those of past minutes for the last time."""

    def __init__(self, store: RunMinutes, worker: str, known: Collection[str]) -> None:
        self._store = store
        self._worker = worker
        self._known = known
        self._minutes: dict[tuple[str, str, int], Minute] = {}
        self._numbers = count(getrandbits(40))  # a command of the same host and process id counts beside this one

    def count(self, runs: Iterable[Run]) -> None:
        """Count runs in the minutes they ended in."""
        last, minute = None, None
        for run in runs:
            found = run.job, run.lane, int(run.started_at + run.duration_s) // MINUTE_S
            if found != last or minute is None:  # in a storm most are like the one before
                last, minute = found, self._minute(*found)
            minute.add(run)

    def _minute(self, job: str, lane: str, number: int) -> Minute:
        key = job if job in self._known else UNKNOWN, lane, number * MINUTE_S
        if key not in self._minutes:
            self._minutes[key] = Minute(*key, self._worker, next(self._numbers))
        return self._minutes[key]

    async def write(self) -> None:
        """Write what changed. What could not be written is with the next time."""
        changed = [minute for minute in self._minutes.values() if minute.is_new]
        for minute in changed:
            minute.is_new = False
        try:
            await self._store.save(changed)
        except (*mongo.FAILURES, asyncio.CancelledError) as e:
            for minute in changed:
                minute.is_new = True
            if isinstance(e, asyncio.CancelledError):
                raise
            logger.warning("counts of runs wait for MongoDB", minutes=len(changed), error=type(e).__name__)
        newest = max((at for _, _, at in self._minutes), default=0)
        for key, minute in list(self._minutes.items()):
            if (not minute.is_new and key[2] < newest) or len(self._minutes) > KEPT_MINUTES:
                del self._minutes[key]
