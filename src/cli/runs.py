"""`runs`: what ran, how it ended, how long it waited and took; and what did not run, and why."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from ..catalog import CATALOG
from ..clients.mongo import Database
from ..errors import Misuse
from ..rules.times import in_short
from ..scheduling.book import book_of
from ..settings import Settings
from ..store.job_runs import JobRuns, PastRun, Sought
from ..store.run_document import FAILED as FAILED_ENDS
from ..store.run_minutes import RunMinutes, Summary
from ..store.schedules import Schedules
from .edge import checked, moment, settings_or_stop, with_database
from .shown import print_json, print_table

DAY = timedelta(days=1)
USUAL = 50
MUCH_MS = 1_000.0  # shown in words from here on
LATE_S = 5.0  # a run that began so long after its tick says so
HEADS = ("started", "job", "end", "waited", "took", "attempt", "lane", "worker", "what")
SUMMARY = ("job", "runs", "failed", "in a row", "p50", "p95", "p99", "longest", "waited", "longest wait", "not run")
NOTHING = "no run is known of that: is a worker running, and WORKER_HISTORY_DAYS above 0?"
NO_MATCH = "no run fits; `runs` without options shows the latest of all"


def runs(
    job: Annotated[str | None, typer.Option(help="only of this job")] = None,
    schedule: Annotated[str | None, typer.Option(help="only what this schedule started, skipped or missed")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="only what failed, to be tried again or for good")] = False,
    since: Annotated[
        str | None, typer.Option(help="started then or later: 2026-05-14T02:00, 2026-05-14, or 2h")
    ] = None,
    until: Annotated[str | None, typer.Option(help="started then or before")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=100_000, help=f"how many at most, the latest; {USUAL} without it")
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="per job: counts and durations; of a day without --since")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line each instead of a table")] = False,
) -> None:
    """Show runs, the latest first: when, how each ended, how long it waited for a slot and took, and what it said."""
    settings = settings_or_stop()
    begun, ended = checked(lambda: _span(since, until, settings))
    if summary:
        checked(lambda: _is_of_jobs(schedule, failed, limit))
        _show_summary(settings, job, begun, ended, as_json)
        return
    sought = Sought(job, schedule, FAILED_ENDS if failed else (), begun, ended)

    async def ask(database: Database) -> tuple[list[PastRun], str]:
        found = await JobRuns(database).latest(sought, limit or USUAL)
        return found, "" if found else await _why_none(database, settings, job, schedule)

    found, why = with_database(ask, settings)
    if as_json:
        for run in found:
            print_json(_report(run))
        return
    if not found:
        typer.echo(why, err=True)
        return
    zone = settings.service.zone
    print_table(
        HEADS,
        [_row(run, zone) for run in found],
        numbers=("waited", "took", "attempt"),
        spare=("attempt", "worker", "lane"),
    )


def _show_summary(
    settings: Settings, job: str | None, since: datetime | None, until: datetime | None, as_json: bool
) -> None:
    async def ask(database: Database) -> tuple[list[tuple[Summary, int]], str]:
        minutes = RunMinutes(database, timedelta(days=settings.worker.rollup_days))
        found = await minutes.summaries(since or datetime.now(UTC) - DAY, until, job)
        why = "" if found else await _why_none(database, settings, job, None)
        return [(each, await JobRuns(database).failures_in_row(each.job)) for each in found], why

    found, why = with_database(ask, settings)
    if as_json:
        for each, in_row in found:
            print_json(_summary_report(each, in_row))
    elif not found:
        typer.echo(why, err=True)
    else:
        print_table(
            SUMMARY,
            [_summary_row(*each) for each in found],
            numbers=SUMMARY[1:-1],
            spare=("longest wait", "p50", "p95"),
        )


async def _why_none(database: Database, settings: Settings, job: str | None, schedule: str | None) -> str:
    """What a person is told who found nothing: a name that is misspelt looks like a job that never ran."""
    if job is not None and job not in CATALOG:
        return _no_such("job", job, CATALOG)
    if schedule is not None:
        book = book_of(settings, await Schedules(database).all(), CATALOG)
        if schedule not in book.plans:
            return _no_such("schedule", schedule, book.plans)
    return NO_MATCH if await JobRuns(database).latest(Sought(), 1) else NOTHING


def _no_such(kind: str, name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=3)
    meant = f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(sorted(known))}"
    return f"no run fits, and there is no {kind} {name!r}{meant}"


def _span(since: str | None, until: str | None, settings: Settings) -> tuple[datetime | None, datetime | None]:
    begun, ended = moment("--since", since, settings), moment("--until", until, settings)
    if begun and ended and begun > ended:
        raise Misuse("--since lies after --until")
    return begun, ended


def _is_of_jobs(schedule: str | None, failed: bool, limit: int | None) -> None:
    if schedule or failed or limit:
        raise Misuse("--summary is of jobs: --job, --since and --until narrow it")


def _row(run: PastRun, zone: ZoneInfo) -> tuple[object, ...]:
    return (
        f"{run.started_at.astimezone(zone):%m-%d %H:%M:%S}",
        run.job + (f" {run.page_id}" if run.page_id else ""),
        run.end.upper() if run.end == "dead" else run.end,
        "" if run.waited_ms is None or run.end in ("skipped", "missed") else _span_of(run.waited_ms),
        "" if run.end in ("skipped", "missed") else _span_of(run.duration_ms),
        run.attempt or "",
        run.lane,
        run.worker.rpartition(":")[0],
        _what(run, zone),
    )


def _what(run: PastRun, zone: ZoneInfo) -> str:
    """What is to be said of it: the error or the outcome, and of which tick it was where that began late."""
    said = " ".join([run.error or run.outcome, *(f"{name}={value}" for name, value in run.details.items())])
    if run.tick_at is None or run.end in ("missed", "skipped"):
        return f"{run.schedule}: {said}" if run.schedule and run.schedule != run.job else said
    late_s = (run.started_at - run.tick_at).total_seconds() if run.attempt == 1 else 0.0
    about = [run.schedule] if run.schedule != run.job else []
    if late_s >= LATE_S:
        about.append(f"{in_short(late_s)} after its tick of {run.tick_at.astimezone(zone):%H:%M:%S}")
    return f"{said} ({', '.join(about)})" if about else said


def _span_of(ms: float) -> str:
    if ms < MUCH_MS:
        return f"{ms:.0f}ms"
    return f"{ms / 1000:.1f}s" if ms < 60 * MUCH_MS else in_short(ms / 1000)


def _report(run: PastRun) -> dict[str, Any]:
    instants = {name: value.isoformat() for name, value in asdict(run).items() if isinstance(value, datetime)}
    spans = {name: round(ms, 3) for name, ms in (("duration_ms", run.duration_ms), ("waited_ms", run.waited_ms)) if ms}
    return {**asdict(run), **instants, **spans}


def _summary_row(found: Summary, in_row: int) -> Sequence[object]:
    taken = found.durations
    failed = sum(found.ends.get(end, 0) for end in FAILED_ENDS)
    not_run = [f"{found.ends[end]} {end}" for end in ("skipped", "missed", "cancelled") if found.ends.get(end)]
    times = (taken.p50_s, taken.p95_s, taken.p99_s, taken.longest_s, found.wait_mean_s, found.longest_wait_s)
    return (found.job, taken.runs, failed or "", in_row or "", *(_span_of(s * 1000) for s in times), ", ".join(not_run))


def _summary_report(found: Summary, in_row: int) -> dict[str, Any]:
    return {
        "job": found.job,
        "ends": found.ends,
        "failures_in_row": in_row,
        **asdict(found.durations),
        "wait_mean_s": found.wait_mean_s,
        "longest_wait_s": found.longest_wait_s,
    }
