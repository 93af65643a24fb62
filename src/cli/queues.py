"""`queues`, `jobs`, `enqueue`: what Redis alone knows, so that MongoDB may be away."""

import asyncio
import time
from dataclasses import asdict
from typing import Annotated, Any, NoReturn

import typer

from ..catalog import CATALOG
from ..clients import mongo
from ..clients.mongo import open_database
from ..engine.facts import JobInfo, QueueStats, Stopped
from ..engine.listing import listed
from ..engine.queue import Queue
from ..errors import ServiceError
from ..rules.times import in_short
from ..scheduling.stopped import note_stopped
from ..settings import Settings
from ..store.dead_letters import DeadLetters
from .edge import FAILED, AtRedis, arguments_of, checked, run_or_stop, stop
from .shown import print_json, print_table

COUNTS = ("pending", "active", "scheduled", "retry", "dead")
Lane = Annotated[str, typer.Argument(help="the lane's name, as `queues` shows it")]
Json = Annotated[bool, typer.Option("--json", help="one JSON line each instead of a table")]

queues = typer.Typer(invoke_without_command=True, help="Show all lanes; pause and resume them.")
jobs = typer.Typer(invoke_without_command=True, help="Show the jobs that wait or run; show one job.")


def enqueue(
    job: Annotated[str, typer.Argument(help="the job's name")],
    arg: Annotated[list[str] | None, typer.Option(help="an argument, name=value; may stand several times")] = None,
    priority: Annotated[int, typer.Option(help="0 or more; more is sooner within the lane")] = 0,
    delay: Annotated[float, typer.Option(help="seconds from now, not before")] = 0.0,
    unique_key: Annotated[str | None, typer.Option(help="at most one job with this key waits or runs")] = None,
) -> None:
    """Put a job into its lane for the workers; prints its id as one JSON line. Of a duplicate, the id of the first."""
    redis = AtRedis()

    def prepared() -> Any:
        arguments = arguments_of(redis.queue.declaration(job), arg or [])
        return redis.queue.prepare(job, arguments, priority=priority, delay_s=delay, unique_key=unique_key)

    new = checked(prepared)
    (job_id,) = redis.ask(lambda: redis.queue.put([new]))
    print_json({"job_id": job_id, "job": job, "lane": new.lane})


@queues.callback()
def _show_queues(ctx: typer.Context, as_json: Json = False) -> None:
    """Show all lanes: what waits, runs, failed, and since when the first in line waits."""
    if ctx.invoked_subcommand:
        return
    redis = AtRedis()
    stats = redis.ask(redis.queue.stats)
    if as_json:
        for lane, of_lane in stats.items():
            print_json({"lane": lane, **asdict(of_lane)})
        return
    numbers = (*COUNTS, "latency", "processed", "failed")
    heads = ("lane", *COUNTS, "paused", *numbers[len(COUNTS) :])
    print_table(heads, [_row(lane, of_lane) for lane, of_lane in stats.items()], numbers=numbers, spare=("processed",))


@queues.command()
def pause(lane: Lane) -> None:
    """Let no worker take another job of a lane; what runs goes on."""
    redis = AtRedis()
    redis.ask(lambda: redis.queue.pause(lane))
    typer.echo(f"{lane} is paused; `queues resume {lane}` goes on")


@queues.command()
def resume(lane: Lane) -> None:
    """Go on with a paused lane."""
    redis = AtRedis()
    redis.ask(lambda: redis.queue.resume(lane))
    typer.echo(f"{lane} goes on")


@jobs.callback()
def _show_jobs(
    ctx: typer.Context,
    lane: Annotated[str | None, typer.Option(help="only this lane, in the order its jobs will run")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="how many at most")] = 50,
    as_json: Json = False,
) -> None:
    """Show the jobs that run or wait: running ones first, then due ones, failed ones, later ones."""
    if ctx.invoked_subcommand:
        return
    redis = AtRedis()
    found = redis.ask(lambda: listed(redis.queue, lane, limit))
    now = time.time()
    if as_json:
        for job_id, info in found:
            print_json({**_report(job_id, info), "age_s": round(max(0.0, now - info.enqueued_at), 3)})
        return
    heads = ("id", "job", "lane", "state", "attempt", "age", "error")
    rows = [
        (job_id, info.job, info.lane, info.state, info.attempt, in_short(now - info.enqueued_at), info.error or "")
        for job_id, info in found
    ]
    print_table(heads, rows, numbers=("attempt", "age"), spare=("attempt", "lane"))


@jobs.command()
def show(job_id: Annotated[str, typer.Argument(metavar="ID", help="the job's id")]) -> None:
    """Print where one job is, and how it ended, as one JSON line."""
    redis = AtRedis()
    info = redis.ask(lambda: redis.queue.job(job_id))
    if info is None:
        _not_found(job_id, redis)
    print_json(_report(job_id, info))


@jobs.command()
def cancel(job_id: Annotated[str, typer.Argument(metavar="ID", help="the job's id")]) -> None:
    """Stop a job: one that waits is over at once, one that runs is ended by its worker within some seconds."""
    redis = AtRedis()
    found, info = redis.ask(lambda: _cancelled(redis.queue, job_id))
    if found.word == "unknown" and info is None:
        _not_found(job_id, redis)
    if found.word == "unknown":
        stop(f"job {job_id!r} has ended already: see `jobs show {job_id}`", FAILED)
    if found.word == "removed":
        _record(job_id, found, redis.settings)
    print_json({"job_id": job_id, "was": "waiting" if found.word == "removed" else found.word})


async def _cancelled(queue: Queue, job_id: str) -> tuple[Stopped, JobInfo | None]:
    found = await queue.cancel(job_id)
    return found, await queue.job(job_id) if found.word == "unknown" else None


def _record(job_id: str, stopped: Stopped, settings: Settings) -> None:
    """Redis has let it go already, so that MongoDB, where it is away, costs the note only."""

    async def noted() -> None:
        async with open_database(settings.mongo) as database:
            await note_stopped(database, settings, job_id, stopped, CATALOG)

    try:
        asyncio.run(noted())
    except (ServiceError, *mongo.FAILURES) as e:
        typer.echo(f"it is stopped, but `runs` will not show that: MongoDB is away ({type(e).__name__})", err=True)


def _row(lane: str, stats: QueueStats) -> list[object]:
    counts = [getattr(stats, name) for name in COUNTS]
    latency = f"{stats.latency_s:.1f}s" if stats.latency_s < 60 else in_short(stats.latency_s)
    return [lane, *counts, "paused" if stats.paused else "", latency, stats.processed, stats.failed]


def _report(job_id: str, info: JobInfo) -> dict[str, Any]:
    return {"id": job_id, **asdict(info)}


def _not_found(job_id: str, redis: AtRedis) -> NoReturn:
    """Only now MongoDB is asked: a job that failed for good is a dead letter when its result is gone."""

    async def letter() -> str:
        try:
            async with open_database(redis.settings.mongo) as database:
                found = await DeadLetters(database).get(job_id)
        except (ServiceError, *mongo.FAILURES):
            return (
                f"; whether there is a dead letter of it is not known: MongoDB at {redis.settings.mongo.shown} is away"
            )
        return f"; it failed for good: see `dead-letters show {job_id}`" if found else ""

    stop(f"there is no job {job_id!r} that waits, runs or ended just now{run_or_stop(letter, redis.settings)}", FAILED)
