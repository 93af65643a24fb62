"""Schedules: arq's Worker tells the time, we compute it in civil time, and a tick goes straight into the job's lane.

arq would put a job of its own into its queue for each tick, pick it up by polling, and lose it where the connection
drops at that moment. `Clock` is the connection we give to arq's Worker, and what arq wants to enqueue for a tick it
enqueues for good: the scheduled job itself, due at the tick, under an id of job and tick, so that one of many
workers wins.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from arq.connections import ArqRedis
from arq.constants import health_check_key_suffix
from arq.cron import CronJob as ArqCronJob
from arq.jobs import Job as ArqJob
from loguru import logger

from ..clients import mongo
from ..clients.redis import OUTAGES, Patience, in_time
from ..deps import Deps
from ..errors import Transient
from ..rules.schedule import Schedule, parse_schedule
from .job import Job
from .keys import FRONT_DOOR
from .queue import Queue

PREFIX = "cron:"
ANY_WORKER = FRONT_DOOR + health_check_key_suffix
STALL = timedelta(seconds=30)  # a tick later than this was missed; of several missed ones the last counts
CATCH_UP = timedelta(hours=12)  # schedules with a longer period make up one missed tick when a worker starts
ONCE_S = 3600.0  # how long a tick that has run is remembered in Redis: clocks of workers may differ by that much
TRY_AGAIN_S = 1.0

OnTick = Callable[[str, datetime], Awaitable[None]]


class Clock(ArqRedis):
    """arq's Worker as a clock: its ticks go to `on_tick`, and it finds nothing to pick up, because the lanes serve its
    queue. `on_tick` gets the job's name and the tick (UTC), and is called again until it no longer raises Transient.
    """

    on_tick: OnTick
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

        Nor does it ever stop waiting for an answer, and a clock must not stand still.
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

    async def enqueue_job(self, function: str, *args: Any, **options: Any) -> ArqJob | None:
        """What arq's `run_cron` calls at a tick, up to a second early."""
        if not function.startswith(PREFIX):
            return await super().enqueue_job(function, *args, **options)
        # not the due time arq names: a worker whose loop was late enqueues the same tick at another time
        tick = datetime.fromtimestamp(int(options["_job_id"].rpartition(":")[2]) / 1000, UTC)
        while True:
            try:
                await self.on_tick(function.removeprefix(PREFIX), tick)
            except Transient as e:
                logger.warning("tick waits", job=function.removeprefix(PREFIX), error=str(e))
                await asyncio.sleep(TRY_AGAIN_S)
            else:
                return None

    async def zrangebyscore(self, *args: Any, **options: Any) -> list[bytes]:
        """What arq's Worker asks for jobs to pick up."""
        return []


class CronJob(ArqCronJob):
    """arq's CronJob with a schedule of ours in civil time. All instants are UTC."""

    schedule: Schedule
    now: Callable[[], datetime]

    def calculate_next(self, prev_run: datetime) -> None:
        """The next tick; ticks missed while the loop stood still are skipped, not fired in a burst."""
        self.next_run = self.schedule.next_after(max(prev_run, self.now() - STALL))


def cron_job(job: Job[Any], schedule: Schedule, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> CronJob:
    """The schedule of `job` as arq's Worker takes it."""
    made = CronJob(
        name=PREFIX + job.name,
        coroutine=run_by_lanes,
        month=None,
        day=None,
        weekday=None,
        hour=None,
        minute=None,
        second=0,
        microsecond=0,
        run_at_startup=False,
        unique=True,
        job_id=None,
        timeout_s=None,
        keep_result_s=0,
        keep_result_forever=False,
        max_tries=1,
    )
    made.schedule, made.now = schedule, now
    return made


async def run_by_lanes(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> None:
    """What stands for every job in arq's own register, which wants coroutines; the lanes run the jobs."""
    raise RuntimeError("the lanes run this job: start the worker with `arq src.worker.WorkerSettings`")


async def fire(deps: Deps, queue: Queue, job: Job[Any], tick: datetime) -> None:
    """Enqueue a scheduled job for `tick` and note that it fired. Safe to repeat. Raises Transient without Redis."""
    due_in_s = max(0.0, (tick - datetime.now(UTC)).total_seconds())
    arguments = job.declaration.scheduled_arguments
    job_id = f"{job.name}:{int(tick.timestamp())}"
    await queue.put([queue.prepare(job.name, arguments, job_id=job_id, delay_s=due_in_s, once_s=ONCE_S)])
    try:
        await deps.schedules.fired(job.name, tick)
    except mongo.FAILURES as e:  # at worst the tick is made up once more at the next start
        logger.warning("tick fired but not noted", job=job.name, error=type(e).__name__)


async def make_up(deps: Deps, queue: Queue, job: Job[Any], schedule: Schedule, now: datetime) -> bool:
    """At start: fire the newest tick missed while no worker ran, for schedules of half a day or more.

    A schedule that never fired counts as missed, so a new shop's history does not wait for the night.
    """
    last = await deps.schedules.last_tick(job.name)
    missed = missed_tick(schedule, last, now)
    if missed is None:
        return False
    logger.info("missed tick made up", job=job.name, tick=missed.isoformat())
    await fire(deps, queue, job, missed)
    return True


def missed_tick(schedule: Schedule, last: datetime | None, now: datetime) -> datetime | None:
    """The newest tick in (last, now], where the schedule's period is long enough to be worth making up."""
    following = schedule.next_after(now)
    if schedule.next_after(following) - following < CATCH_UP:
        return None
    if last is None:
        return now
    tick, newest = schedule.next_after(last), None
    while tick <= now:
        newest, tick = tick, schedule.next_after(tick)
    return newest


def schedules_of(jobs: Iterable[Job[Any]], expressions: dict[str, str], zone: ZoneInfo) -> dict[str, Schedule]:
    """Per job name its schedule, without those that are `off`. Raises ValueError on a wrong expression."""
    parsed = {job.name: parse_schedule(expressions[job.name], zone) for job in jobs if job.name in expressions}
    return {name: schedule for name, schedule in parsed.items() if schedule is not None}
