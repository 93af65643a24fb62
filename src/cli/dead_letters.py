"""`dead-letters`: what failed for good; look at it, replay it, drop it."""

import re
from datetime import datetime
from typing import Annotated, Any

import typer

from ..clients.mongo import Document
from ..deps import Deps
from ..engine import dead_letters as engine
from ..enqueue import JobQueue
from ..errors import Misuse
from ..log import configure_logging
from ..settings import Settings
from ..store.dead_letters import DeadLetters, Wanted
from .edge import FAILED, WRONG_CALL, checked, moment, settings_or_stop, stop, with_deps, with_letters
from .shown import print_json, print_table

Id = Annotated[str, typer.Argument(metavar="ID", help="the letter's id, as `dead-letters list` shows it")]
MaybeId = Annotated[str | None, typer.Argument(metavar="ID", help="one letter; else those that fit the options")]
OfJob = Annotated[str | None, typer.Option("--job", help="of this job")]
OfLane = Annotated[str | None, typer.Option("--lane", help="of this lane")]
WithError = Annotated[str | None, typer.Option("--error", help="whose error contains this, in any case")]
Since = Annotated[str | None, typer.Option(help="that failed since: 2026-05-14T14:00, or 2h for two hours ago")]
Until = Annotated[str | None, typer.Option(help="that failed before: as --since")]
Everything = Annotated[bool, typer.Option("--everything", help="all there are: needed where no other option is given")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only count")]

letters = typer.Typer(no_args_is_help=True, help="Look at jobs that failed for good, replay or drop them.")


@letters.command("list")
def list_(
    job: OfJob = None,
    lane: OfLane = None,
    error: WithError = None,
    since: Since = None,
    until: Until = None,
    with_replayed: Annotated[bool, typer.Option("--all", help="also those that were replayed")] = False,
    rows: Annotated[bool, typer.Option("--rows", help="instead of jobs the rows that could not be read")] = False,
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line each instead of a table")] = False,
) -> None:
    """Show the jobs that failed for good, the latest first."""
    settings = _settings()
    wanted = checked(lambda: _wanted(settings, job, lane, error, since, until, with_replayed=with_replayed))
    if rows and wanted != Wanted():
        stop("--rows are no jobs: only --limit and --json go with it", WRONG_CALL)

    async def ask(store: DeadLetters) -> tuple[list[Document], int]:
        if rows:
            return await store.latest_rows(limit), await store.row_count()
        found = [letter async for letter in store.jobs(wanted, limit, newest_first=True)]
        return found, await store.matching(wanted)

    found, matching = with_letters(ask, settings)
    if as_json:
        for letter in found:
            print_json(_report(letter, brief=True))
        return
    heads, cells, spare = ROWS if rows else JOBS
    print_table(heads, [cells(letter, settings) for letter in found], numbers=("times",), spare=spare)
    if matching > len(found):
        typer.echo(f"{len(found)} of {matching}; --limit shows more", err=True)


@letters.command()
def show(letter_id: Id) -> None:
    """Print one letter as one JSON line: arguments, error, traceback, every attempt."""
    letter = with_letters(lambda store: store.get(letter_id), _settings())
    if letter is None:
        stop(f"there is no dead letter {letter_id!r}; `dead-letters list` shows them", FAILED)
    print_json(_report(letter))


@letters.command()
def replay(
    letter_id: MaybeId = None,
    job: OfJob = None,
    lane: OfLane = None,
    error: WithError = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    per_second: Annotated[float, typer.Option(help="how many fall due each second")] = engine.PER_S,
) -> None:
    """Enqueue again, one letter or all that fit. Safe to repeat: each failure is replayed once."""
    wanted = _chosen(letter_id, job, lane, error, since, until, everything=everything, dry_run=dry_run)
    checked(lambda: engine.possible_rate(per_second))

    async def one(deps: Deps) -> dict[str, Any]:
        return {"job_id": await engine.replay_one(deps, JobQueue(deps.redis), str(letter_id))}

    async def many(deps: Deps) -> dict[str, Any]:
        queue = JobQueue(deps.redis)
        done = await engine.replay(deps, queue, wanted or Wanted(), per_s=per_second, dry_run=dry_run)
        for refused, why in done.refused.items():
            typer.echo(f"not replayed: {refused}: {why}", err=True)
        return {"matching": done.matching, "enqueued": done.enqueued, "refused": len(done.refused)}

    report = with_deps(one if wanted is None else many, level="ERROR")
    print_json(report)
    raise typer.Exit(FAILED if report.get("refused") else 0)


@letters.command()
def drop(
    letter_id: MaybeId = None,
    job: OfJob = None,
    lane: OfLane = None,
    error: WithError = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    dry_run: DryRun = False,
) -> None:
    """Delete for good, one letter or all that fit."""
    wanted = _chosen(letter_id, job, lane, error, since, until, everything=everything, dry_run=dry_run)

    async def one(deps: Deps) -> dict[str, Any]:
        return {"dropped": await engine.drop_one(deps, str(letter_id))}

    async def many(deps: Deps) -> dict[str, Any]:
        count = await engine.drop(deps, wanted or Wanted(), dry_run=dry_run)
        return {"matching": count, "dropped": 0 if dry_run else count}

    print_json(with_deps(one if wanted is None else many, level="ERROR"))


def _settings() -> Settings:
    settings = settings_or_stop()
    configure_logging("ERROR", settings.service.log_format, zone=settings.service.zone)
    return settings


def _chosen(letter_id: str | None, *filters: str | None, everything: bool, dry_run: bool) -> Wanted | None:
    """What a filter fits, or None for the one letter. A call that does not say which it means ends the command."""
    settings = _settings()

    def chosen() -> Wanted | None:
        wanted = _wanted(settings, *filters)
        has_filter = wanted != Wanted()
        if letter_id is not None:
            if has_filter or everything or dry_run:
                raise Misuse("an ID names one letter: give it alone, or only options")
            return None
        if not (has_filter or everything):
            raise Misuse("which ones? give an ID, --job, --lane, --error, --since or --until; or --everything")
        if has_filter and everything:
            raise Misuse("--everything goes with no other choice")
        return wanted

    return checked(chosen)


def _wanted(
    settings: Settings,
    job: str | None = None,
    lane: str | None = None,
    error: str | None = None,
    since: str | None = None,
    until: str | None = None,
    *,
    with_replayed: bool = False,
) -> Wanted:
    """Raises Misuse on an empty choice: `--job "$JOB"` with nothing in it must not mean all jobs."""
    for option, value in (("--job", job), ("--lane", lane), ("--error", error)):
        if value is not None and not value.strip():
            raise Misuse(f"{option} is empty")
    start, end = moment("--since", since, settings), moment("--until", until, settings)
    if start and end and start >= end:
        raise Misuse("--since is not before --until")
    return Wanted(job, lane, error, start, end, with_replayed)


def _row(letter: Document, settings: Settings) -> list[object]:
    last = letter["lastAt"].astimezone(settings.service.zone).strftime("%Y-%m-%d %H:%M:%S")
    return [letter["jobId"], letter["job"], letter["lane"], letter["status"], letter["count"], last, letter["error"]]


def _set_aside(letter: Document, settings: Settings) -> list[object]:
    last = letter["lastAt"].astimezone(settings.service.zone).strftime("%Y-%m-%d %H:%M:%S")
    return [letter["_id"], letter["stream"], letter["pageId"], letter["count"], last, letter["error"]]


JOBS = ("id", "job", "lane", "status", "times", "last", "error"), _row, ("times", "lane", "status")
ROWS = ("id", "stream", "page", "times", "last", "error"), _set_aside, ("times", "page", "stream")

#: What a list shows of a letter, of a job or of a row, and what more is shown of one.
BRIEF = ("kind", "status", "job", "lane", "stream", "pageId", "rowId", "error", "count", "firstAt", "lastAt")
FULL = (*BRIEF, "replayedAt", "replayedAs", "arguments", "traceback", "attempts", "raw")


def _report(letter: Document, *, brief: bool = False) -> dict[str, Any]:
    """The letter with our names as the command line writes them: `lastAt` is `last_at`."""
    fields = [field for field in (BRIEF if brief else FULL) if field in letter]
    shown = {re.sub("(?=[A-Z])", "_", field).lower(): _plain(letter[field]) for field in fields}
    return {"id": letter.get("jobId", letter["_id"]), **shown}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.isoformat() if isinstance(value, datetime) else value
