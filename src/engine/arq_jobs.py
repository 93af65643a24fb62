"""Jobs and schedules in the shapes arq's Worker takes.

arq is the carrier: it delivers, and forgets. Tries, timeouts and ends are decided by our boundary, so arq's own limits
stand above ours: past them it would drop a job without calling us.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from arq import Retry, func
from arq.constants import job_key_prefix, result_key_prefix
from arq.cron import CronJob as ArqCronJob
from arq.worker import Function
from loguru import logger
from redis.exceptions import WatchError

from ..clients.redis import OUTAGES, in_time
from ..deps import Deps
from ..errors import Transient
from ..rules.schedule import Schedule, parse_schedule
from .boundary import run_job
from .job import Job
from .running import Running
from .wire import JobError

Ctx = dict[str, Any]
ARQ_GRACE_S = 45.0  # longer than writing the dead letter may take
ENQUEUE_TRIES = 3
ARQ_TRIES = 1_000_000
RESULT_KEPT_S = 60
CRON_TIMEOUT_S = 10.0  # a tick only enqueues
ATTEMPTS_KEPT_S = 7 * 86_400
REDIS_BACK_S = 5.0
STALL = timedelta(seconds=30)  # a tick later than this was missed; of several missed ones the last counts
CATCH_UP = timedelta(hours=12)  # schedules with a longer period make up one missed tick when a worker starts
ATTEMPTS = "folkform:attempts:"


def arq_function(job: Job[Any], default_timeout_s: float) -> Function:
    """`job` as arq runs it: retried and snoozed by raising arq's Retry, with our own count of attempts."""

    async def run(ctx: Ctx, *args: Any, **kwargs: Any) -> str:
        deps: Deps = ctx["deps"]
        running: Running = ctx["running"]
        job_id: str = ctx["job_id"]
        key = ATTEMPTS + job_id
        with running.tracked(job_id):
            await running.renew(job_id)
            attempt = await _attempts(deps, key) + 1
            end = await run_job(job, deps, job.named(args, kwargs), job_id=job_id, attempt=attempt)
            if end.kind == "snoozed":
                raise Retry(defer=end.again_in_s)
            await _set_attempts(deps, key, attempt if end.kind == "retry" else 0)
            if end.kind == "retry":
                raise Retry(defer=end.again_in_s)
            if end.kind == "dead":
                raise JobError(end.error)
            return end.outcome

    return func(
        run,
        name=job.name,
        timeout=(job.timeout_s or default_timeout_s) + ARQ_GRACE_S,
        # a kept result would block the next job with the same id
        keep_result=0 if job.unique_key else RESULT_KEPT_S,
        max_tries=ARQ_TRIES,
    )


async def _attempts(deps: Deps, key: str) -> int:
    """How many attempts of the job failed so far. A Redis that is away is no failure of the job: it runs later."""
    try:
        async with in_time():
            return int(await deps.redis.get(key) or 0)
    except OUTAGES as e:
        raise Retry(defer=REDIS_BACK_S) from e


async def _set_attempts(deps: Deps, key: str, attempts: int) -> None:
    """Not known to Redis, one attempt more is made: better than one less."""
    with suppress(*OUTAGES):
        async with in_time():
            if attempts:
                await deps.redis.set(key, attempts, ex=ATTEMPTS_KEPT_S)
            else:
                await deps.redis.delete(key)


async def enqueue(deps: Deps, name: str, unique_key: str | None, arguments: dict[str, Any]) -> bool:
    """Put a job into arq's queue; False where one with the same key already waits or runs.

    arq answers None for a duplicate and for a connection that dropped with nothing stored, so a None is looked into.
    Raises Transient when the job cannot be stored.
    """
    for _ in range(ENQUEUE_TRIES):
        async with in_time():
            with suppress(WatchError):
                if await deps.redis.enqueue_job(name, _job_id=unique_key, **arguments) is not None:
                    return True
            if unique_key and await deps.redis.exists(job_key_prefix + unique_key, result_key_prefix + unique_key):
                return False
    raise Transient(f"{name} could not be put into the queue")


class CronJob(ArqCronJob):
    """arq's CronJob with a schedule of ours in civil time. All instants are UTC."""

    schedule: Schedule
    now: Callable[[], datetime]

    def calculate_next(self, prev_run: datetime) -> None:
        """The next tick; ticks missed while the loop stood still are skipped, not fired in a burst."""
        self.next_run = self.schedule.next_after(max(prev_run, self.now() - STALL))


def cron_job(job: Job[Any], schedule: Schedule, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> CronJob:
    """A cron job that does one thing: enqueue `job`, under an id of schedule and tick, so that one worker wins."""

    async def tick(ctx: Ctx) -> str:
        deps: Deps = ctx["deps"]
        # not the score: a worker whose loop was late enqueues the same tick at another time
        at = datetime.fromtimestamp(int(ctx["job_id"].rpartition(":")[2]) // 1000, UTC)
        await fire(deps, job, at)
        return "enqueued"

    made = CronJob(
        name=f"cron:{job.name}",
        coroutine=tick,
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
        timeout_s=CRON_TIMEOUT_S,
        keep_result_s=0,
        keep_result_forever=False,
        max_tries=10,
    )
    made.schedule, made.now = schedule, now
    return made


async def fire(deps: Deps, job: Job[Any], tick: datetime) -> None:
    """Enqueue a scheduled job for `tick` and note that it fired. Safe to repeat."""
    key = f"{job.name}:{int(tick.timestamp())}"
    await enqueue(deps, job.name, key, job.scheduled_arguments)
    await deps.schedules.fired(job.name, tick)


async def make_up(deps: Deps, job: Job[Any], schedule: Schedule, now: datetime) -> bool:
    """At start: fire the newest tick missed while no worker ran, for schedules of half a day or more.

    A schedule that never fired counts as missed, so a new shop's history does not wait for the night.
    """
    last = await deps.schedules.last_tick(job.name)
    missed = missed_tick(schedule, last, now)
    if missed is None:
        return False
    logger.info("missed tick made up", job=job.name, tick=missed.isoformat())
    await fire(deps, job, missed)
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
