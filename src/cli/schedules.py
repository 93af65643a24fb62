"""`schedules`: what runs when; added, changed, paused and started while the workers run."""

from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from ..catalog import CATALOG
from ..deps import Deps
from ..engine.queue import Queue
from ..errors import Misuse
from ..rules.schedule import Schedule, parse_schedule
from ..scheduling.book import Book
from ..scheduling.desk import Desk, run_now
from ..scheduling.plan import Plan
from ..settings import Settings
from .edge import arguments_of, checked, settings_or_stop, with_deps
from .schedules_shown import HEADS, report, row, shown_instant
from .shown import print_json, print_table

MOST_TICKS = 1_000

Name = Annotated[str, typer.Argument(metavar="NAME", help="the schedule's name, as `schedules list` shows it")]
Json = Annotated[bool, typer.Option("--json", help="one JSON line each instead of a table")]
Job = Annotated[str | None, typer.Option(help="the job it starts; without it the job of the schedule's own name")]
Args = Annotated[list[str] | None, typer.Option("--arg", help="an argument, name=value; may stand several times")]
Cron = Annotated[
    str | None,
    typer.Option("--cron", "--schedule", help="5 cron fields, 6 with seconds first, @hourly, or @every 1h30m"),
]
Zone = Annotated[str | None, typer.Option(help="the zone of its hours, like Asia/Ho_Chi_Minh; without it TIMEZONE")]
CatchUp = Annotated[
    str | None,
    typer.Option(help="ticks missed while no worker ran: none, latest, or all of them; usually latest for daily ones"),
]
Most = Annotated[int | None, typer.Option("--catch-up-most", help="of `all`, how many at most; 100")]
Overlap = Annotated[
    str | None,
    typer.Option(
        help="a tick while the run before goes on: skip, queue, or cancel_previous; usually skip, of `all` queue"
    ),
]
Jitter = Annotated[float | None, typer.Option(help="seconds within which a tick is put off by chance; 0")]

schedules = typer.Typer(
    invoke_without_command=True, help="Show what runs when; add, change, pause and start schedules."
)


@schedules.callback()
def _show(ctx: typer.Context) -> None:
    """Show all schedules, unless something is to be done with one."""
    if ctx.invoked_subcommand is None:
        list_()


@schedules.command("list")
def list_(as_json: Json = False) -> None:
    """Show every schedule: when it runs next, how its last run ended, and what did not run."""

    async def ask(deps: Deps) -> tuple[Book, datetime, ZoneInfo]:
        return await _desk(deps).book(), _now(deps), deps.settings.service.zone

    book, now, zone = with_deps(ask, level="ERROR")
    if as_json:
        for plan in book.plans.values():
            print_json(report(plan, now, book.faults.get(plan.name)))
    else:
        print_table(HEADS, [row(plan, now, zone) for plan in book.plans.values()], numbers=("skipped", "missed"))
    for fault in book.faults.values():
        typer.echo(f"WRONG {fault}", err=True)


@schedules.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="its name: letters, digits, `_`, `-` and `.`")],
    job: Job = None,
    cron: Cron = None,
    arg: Args = None,
    zone: Zone = None,
    catch_up: CatchUp = None,
    catch_up_most: Most = None,
    overlap: Overlap = None,
    jitter: Jitter = None,
    paused: Annotated[bool, typer.Option("--paused", help="it fires only once it is resumed")] = False,
) -> None:
    """Add a schedule; workers have it within some seconds. Prints it as one JSON line."""
    given = checked(lambda: _given(job or name, cron, arg, zone, catch_up, catch_up_most, overlap, jitter))
    if cron is None:
        checked(lambda: _refuse("--cron says when it runs: '*/5 * * * *', @hourly, '@every 30m'"))
    given["job"] = job or name
    _change(lambda desk: desk.add(name, {**given, **({"isEnabled": False} if paused else {})}))


@schedules.command("set")
def set_(
    name: Name,
    job: Job = None,
    cron: Cron = None,
    arg: Args = None,
    zone: Zone = None,
    catch_up: CatchUp = None,
    catch_up_most: Most = None,
    overlap: Overlap = None,
    jitter: Jitter = None,
) -> None:
    """Change a schedule, one of the settings too; what is not named stays. Prints it as one JSON line."""

    async def change(desk: Desk) -> Plan:
        target = job or ((await desk.plan(name)).job if arg else None)
        return await desk.change(name, _given(target, cron, arg, zone, catch_up, catch_up_most, overlap, jitter, job))

    _change(change)


@schedules.command()
def pause(name: Name) -> None:
    """Let it fire no more; what runs goes on."""
    _change(lambda desk: desk.pause(name))


@schedules.command()
def resume(name: Name) -> None:
    """Let it fire again, from its next tick on."""
    _change(lambda desk: desk.resume(name))


@schedules.command()
def remove(name: Name) -> None:
    """Remove one that was added; undo what was changed of one of the settings."""

    async def work(deps: Deps) -> None:
        await _desk(deps).remove(name)

    with_deps(work, level="ERROR")
    print_json({"name": name, "removed": True})


@schedules.command()
def run(name: Name) -> None:
    """Start its job now, beside its ticks; prints the job's id as one JSON line."""

    async def work(deps: Deps) -> tuple[str, Plan]:
        plan = await _desk(deps).plan(name)
        return await run_now(Queue(deps.redis, CATALOG), plan), plan

    job_id, plan = with_deps(work, level="ERROR")
    print_json({"name": name, "job": plan.job, "job_id": job_id})


@schedules.command("next")
def next_(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="a schedule, or an expression that is to be tried")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=MOST_TICKS, help="how many ticks")] = 5,
    zone: Annotated[str | None, typer.Option(help="for an expression: the zone of its hours")] = None,
    as_json: Json = False,
) -> None:
    """Show the next ticks: of all schedules, of one, or of an expression before it is set."""
    settings = settings_or_stop()
    tried = checked(lambda: _expression(name, zone, settings))
    if tried is not None:
        schedule, where = tried
        ticks = _ticks([("", schedule)], datetime.now(UTC), count)
    else:

        async def ask(deps: Deps) -> tuple[list[tuple[str, Schedule]], datetime]:
            desk = _desk(deps)
            plans = (await desk.book()).plans.values() if name is None else [await desk.plan(name)]
            return [(plan.name, plan.schedule) for plan in plans if plan.is_on and plan.schedule], _now(deps)

        found, now = with_deps(ask, level="ERROR")
        where, ticks = settings.service.zone, _ticks(found, now, count)
    if as_json:
        for who, tick in ticks:
            print_json({"schedule": who or name, "tick": tick.isoformat(), "local": tick.astimezone(where).isoformat()})
        return
    rows = [(who or name, shown_instant(tick, where), tick.isoformat()) for who, tick in ticks]
    print_table(("schedule", f"tick ({where})", "UTC"), rows)


def _ticks(of: list[tuple[str, Schedule]], now: datetime, count: int) -> list[tuple[str, datetime]]:
    """The next `count` ticks of all of them together."""
    found: list[tuple[datetime, str]] = []
    for name, schedule in of:
        tick = now
        for _ in range(count):
            tick = schedule.next_after(tick)
            found.append((tick, name))
    return [(name, tick) for tick, name in sorted(found)[:count]]


def _expression(text: str | None, zone: str | None, settings: Settings) -> tuple[Schedule, ZoneInfo] | None:
    """What `next` is to try, where it is no name. Raises Misuse on what is none and no expression."""
    if text is None or not (text.startswith("@") or " " in text):
        return None
    try:
        where = ZoneInfo(zone) if zone else settings.service.zone
        schedule = parse_schedule(text, where)
    except (ValueError, KeyError) as e:
        raise Misuse(str(e).strip("'\"")) from e
    return (schedule, where) if schedule else None


def _given(
    target: str | None,
    cron: str | None,
    arg: list[str] | None,
    zone: str | None,
    catch_up: str | None,
    most: int | None,
    overlap: str | None,
    jitter: float | None,
    job: str | None = None,
) -> dict[str, Any]:
    """The options as fields of the document; `target` is the job whose arguments `arg` names. Raises Misuse."""
    given: dict[str, Any] = {
        "job": job,
        "schedule": cron,
        "zone": zone,
        "catchUp": catch_up,
        "catchUpMost": most,
        "overlap": overlap,
        "jitterSeconds": jitter,
    }
    if arg:
        if target not in CATALOG:
            raise Misuse(f"there is no job {target!r}; there are {', '.join(sorted(CATALOG))}")
        given["arguments"] = CATALOG[target].written(arguments_of(CATALOG[target], arg))
    return {field: value for field, value in given.items() if value is not None}


def _refuse(line: str) -> None:
    raise Misuse(line)


def _change(work: Any) -> None:
    async def ask(deps: Deps) -> tuple[Plan, datetime]:
        return await work(_desk(deps)), _now(deps)

    plan, now = with_deps(ask, level="ERROR")
    print_json(report(plan, now, None))


def _desk(deps: Deps) -> Desk:
    return Desk(deps.settings, deps.schedules, CATALOG, deps.now())


def _now(deps: Deps) -> datetime:
    return datetime.fromtimestamp(deps.now(), UTC)
