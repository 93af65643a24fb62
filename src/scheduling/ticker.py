"""The loop in each worker that fires schedules: all workers try each tick, and Redis lets one of them.

No worker is the leader, so none has to be found dead before another fires. A tick is decided and its job is stored in
one step (`engine/lua/tick.lua`), and the time is Redis' own. What a tick was decided to be goes to MongoDB afterwards,
and is made good there by any worker that finds it missing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic

from loguru import logger

from ..clients import mongo
from ..clients.redis import OUTAGES
from ..deps import Deps
from ..engine.queue import Queue
from ..engine.ticks import Decided, Ticks
from ..engine.upkeep import kept_up
from ..errors import Misuse
from ..rules.schedule import Schedule
from ..rules.ticks import Missed, due, latest_until, missed_between, shift_s
from ..rules.times import EPOCH
from ..store.run_document import Run
from ..store.schedules import StoredSchedule
from .book import Book, book_of
from .notes import Notes
from .plan import Declared, Plan

LOOK_S = 1.0
RELOAD_S = 2.0  # a change is in force everywhere within this, and what MongoDB takes to answer
STORED_S = 5.0  # for MongoDB to answer
MOST_TOLD = 1_000
HEAL_AFTER = timedelta(seconds=10)  # whoever decided a tick has noted it by then, or died
AHEAD = timedelta(minutes=1)  # that clocks may differ by
REST = timedelta(minutes=1)  # between two notes that a schedule is off
ONCE_S = 3600.0  # a worker of an older version knows a tick by its job's id alone

Look = Callable[[], Awaitable[tuple[float, list[str]]]]


class Ticker:
    """Fires the schedules of `settings` and of the documents. `on_stop` is told which jobs are to be stopped."""

    def __init__(
        self,
        deps: Deps,
        queue: Queue,
        declared: Declared,
        on_stop: Callable[[Sequence[str]], None] = lambda _: None,
        *,
        look: Look | None = None,
    ) -> None:
        self._deps = deps
        self._queue = queue
        self._declared = declared
        self._on_stop = on_stop
        self._ticks = Ticks(deps.redis)
        self._look = look or self._ticks.look
        self.book = Book()
        self._now = EPOCH
        self._through: dict[str, datetime] = {}  # all ticks up to here are decided
        self._decided: dict[str, datetime] = {}  # the last tick that is known to be decided
        self._next: dict[str, tuple[Schedule, datetime, datetime]] = {}  # of `_through`, what follows
        self._notes = Notes(deps.schedules, self._is_given)
        self._away_since: float | None = None
        self._told = set[str]()  # faults that were logged
        self._fires = True
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read the schedules and begin to fire. Raises what motor raises where MongoDB does not answer."""
        await self.load()
        self._loops = [asyncio.create_task(kept_up(loop)) for loop in (self._keep_ticking, self._keep_book)]
        self._loops.append(asyncio.create_task(kept_up(self._notes.keep)))

    def stop_firing(self) -> None:
        """Fire no more; until `close` what was decided is still noted, and what is to be stopped here still is."""
        self._fires = False

    async def close(self) -> None:
        """End, and note what is left, within some seconds."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._notes.close()

    def ran(self, run: Run) -> None:
        """A run ended; of one that a schedule started, that is noted. Never waits."""
        self._notes.ran(run)

    async def load(self) -> None:
        """Read what was set at run time."""
        async with asyncio.timeout(STORED_S):
            stored = await self._deps.schedules.all()
        self.book = book_of(self._deps.settings, stored, self._declared, self.book)
        self._heal(stored)
        for name, fault in self.book.faults.items():
            self._tell(name, fault)

    async def note_rest(self) -> None:
        """Of schedules that are off, note that they are: turned on again, by whatever hand, they missed nothing."""
        for plan in self.book.plans.values():
            state = plan.state
            known = [at for at in (state.last_tick_at, state.active_from) if at is not None]
            if known and not plan.is_on and self._now - max(known) > REST:
                async with asyncio.timeout(STORED_S):
                    await self._deps.schedules.rests(plan.name, self._now)

    def _tell(self, name: str, fault: str) -> None:
        """Once: it is looked at each second."""
        if fault not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(fault)
            logger.error("schedule cannot be used", schedule=name, error=fault)

    def _heal(self, stored: Mapping[str, StoredSchedule]) -> None:
        """A worker may die between deciding a tick and noting it."""
        for name in self._decided.keys() & self.book.plans.keys():
            one, tick = stored.get(name), self._decided[name]
            noted = one.last_tick_at if one else None
            if self._now - tick > HEAL_AFTER and (noted is None or noted < tick):
                self._notes.of(name).tick = tick

    async def tick(self) -> float:
        """Fire what is due; returns how many seconds there are to the next tick, at most `LOOK_S`. Raises OUTAGES."""
        now_s, stopped = await self._look()
        if stopped:
            self._on_stop(stopped)
        now = self._now = datetime.fromtimestamp(now_s, UTC)
        soonest = LOOK_S
        for plan in list(self.book.plans.values()):
            if not self._fires:
                break
            if not plan.is_on:
                continue
            try:
                following = await self._serve(plan, now)
            except OUTAGES:
                raise
            except Exception as e:  # noqa: BLE001 - one schedule with a bug is to stop no other
                self._tell(plan.name, f"{type(e).__name__}: {e}")
            else:
                soonest = min(soonest, (following - now).total_seconds())
        self._away_since = None
        return max(0.0, soonest)

    async def _keep_ticking(self) -> None:
        while True:
            try:
                wait_s = await self.tick()
            except OUTAGES as e:
                if self._away_since is None:
                    self._away_since = monotonic()
                    logger.warning("schedules wait for Redis", error=type(e).__name__)
                wait_s = LOOK_S
            await asyncio.sleep(wait_s)

    async def _keep_book(self) -> None:
        is_away = False
        while True:
            await asyncio.sleep(RELOAD_S)
            try:
                await self.load()
                await self.note_rest()
                is_away = False
            except (TimeoutError, *mongo.FAILURES) as e:
                if not is_away:
                    logger.warning("schedules stay as they were, MongoDB is away", error=type(e).__name__)
                is_away = True

    async def _serve(self, plan: Plan, now: datetime) -> datetime:
        """Decide a schedule's ticks up to now; returns its next one."""
        assert plan.schedule is not None  # noqa: S101 - the caller has looked
        through = self._decided_through(plan, now)
        known = self._next.get(plan.name)
        if known and known[:2] == (plan.schedule, through) and now < known[2]:
            return known[2]
        # what came due while Redis was away was not slept through
        catch_up = "latest" if plan.catch_up == "none" and self._away_since else plan.catch_up
        found = due(plan.schedule, through, now, catch_up=catch_up, most=plan.most)
        if found.missed:
            await self._drop(plan, found.missed, now)
            self._through[plan.name] = self._decided[plan.name] = found.missed.last
        for tick in found.fire:
            await self._fire(plan, tick, now)
            self._through[plan.name] = self._decided[plan.name] = tick
        through = self._through[plan.name] = max(found.through, through)
        following = plan.schedule.next_after(max(through, now))
        self._next[plan.name] = (plan.schedule, through, following)
        return following

    def _decided_through(self, plan: Plan, now: datetime) -> datetime:
        state, own = plan.state, self._through.get(plan.name)
        told = [at for at in (own, state.last_tick_at, state.active_from) if at is not None]
        # what lies ahead is of a clock that was wrong
        known = [at for at in told if at <= now + AHEAD]
        if len(known) < len(told) and own not in known:
            return now
        if known:
            return max(known)
        assert plan.schedule is not None  # noqa: S101 - the caller has looked
        # one that never fired: a new shop's history does not wait for the night
        latest = latest_until(plan.schedule, now) if plan.catch_up == "latest" else None
        return latest - timedelta(seconds=1) if latest else now

    async def _drop(self, plan: Plan, missed: Missed, now: datetime) -> None:
        """Decide that these start nothing; who decides it tells, of those that nobody has told of."""
        assert plan.schedule is not None  # noqa: S101 - the caller has looked
        known_s = _seconds(plan.state.last_tick_at)
        before_s = await self._ticks.drop(plan.name, missed.last.timestamp(), known=known_s, now=now.timestamp())
        if before_s is None:
            return
        if before_s >= missed.first.timestamp():  # others looked while we stood still, or a moment ago
            missed = missed_between(plan.schedule, datetime.fromtimestamp(before_s, UTC), missed.last)
        progress = self._notes.of(plan.name)
        progress.tick = missed.last
        progress.missed += missed.count
        progress.missed_since, progress.missed_at = missed.first, missed.last
        first, last = (f"{at.astimezone(plan.zone):%Y-%m-%d %H:%M:%S %z}" for at in (missed.first, missed.last))
        which = f"{missed.count} ticks from {first} to {last}" if missed.count > 1 else f"the tick of {last}"
        text = f"no worker was there for {which}"
        logger.warning("ticks missed", schedule=plan.name, job=plan.job, error=text)
        job_id = f"{plan.name}:{int(missed.last.timestamp())}"
        self._record(plan, "missed", missed.last, job_id, text, times=missed.count)

    async def _fire(self, plan: Plan, tick: datetime, now: datetime) -> None:
        """Decide a tick, and take note of it where it was decided here."""
        job_id = f"{plan.name}:{int(tick.timestamp())}"
        due_at = tick + timedelta(seconds=shift_s(plan.name, tick, plan.jitter_s))
        in_line = plan.overlap != "skip"
        try:
            job = self._queue.prepare(
                plan.job,
                plan.arguments,
                job_id=job_id,
                delay_s=max(0.0, (due_at - now).total_seconds()),
                once_s=ONCE_S,
                # runs of one schedule line up behind each other; where its job is unique that would drop the new one
                unique_key=job_id if in_line else None,
                group=f"schedule:{plan.name}" if in_line else "",
                tick=(plan.name, tick.timestamp()),
            )
        except Misuse as e:
            logger.error("tick cannot be fired", schedule=plan.name, error=str(e))
            return
        decided = await self._ticks.decide(
            plan.name,
            tick.timestamp(),
            known=_seconds(plan.state.last_tick_at),
            now=now.timestamp(),
            overlap=plan.overlap,
            job=job,
            declaration=self._declared[plan.job],
        )
        self._take(plan, tick, decided)

    def _take(self, plan: Plan, tick: datetime, decided: Decided) -> None:
        """Note and tell what was decided here."""
        if decided.word == "old":
            return
        progress = self._notes.of(plan.name)
        progress.tick = tick
        if decided.word == "skipped":
            progress.skipped += 1
            text = f"the run before it goes on ({decided.before})"
            logger.warning(
                "job skipped (max concurrent executions reached)",
                job=plan.job,
                max_concurrent=1,
                schedule=plan.name,
                tick=tick.isoformat(),
                job_id=decided.before,
            )
            self._record(plan, "skipped", tick, f"{plan.name}:{int(tick.timestamp())}", text)
        else:
            progress.job_id = decided.job_id
            logger.debug("tick fired", schedule=plan.name, job=plan.job, tick=tick.isoformat())
            if decided.became == "removed":
                self._record(plan, "cancelled", None, decided.before, f"the tick of {tick.isoformat()} took its place")

    def _record(self, plan: Plan, end: str, tick: datetime | None, job_id: str, text: str, *, times: int = 1) -> None:
        now = self._deps.now()
        lane = self._declared[plan.job].lane
        run = Run(plan.job, job_id, lane, "", 0, now, now, 0.0, end, "", text, "", plan.arguments, plan.name)
        run.tick_at, run.times = tick.timestamp() if tick else None, times
        self._deps.record(run)

    def _is_given(self, name: str) -> bool:
        plan = self.book.plans.get(name)
        return plan is not None and plan.is_given


def _seconds(instant: datetime | None) -> float:
    return instant.timestamp() if instant else 0.0
