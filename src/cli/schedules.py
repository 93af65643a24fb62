"""`schedules`: what runs when; added, changed, paused and started while the workers run."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

import typer

from ..catalog import CATALOG
from ..clients.mongo import Database
from ..deps import Deps
from ..engine.queue import Queue
from ..errors import Misuse
from ..log import configure_logging
from ..rules.schedule import Schedule, parse_schedule
from ..scheduling.desk import Desk, run_now
from ..scheduling.plan import Plan
from ..settings import Settings
from ..store.agents import Agents
from ..store.schedules import Schedules
from .edge import FAILED, arguments_of, checked, settings_or_stop, stop, with_database, with_deps
from .schedules_shown import HEADS, report, row, shown_instant
from .shown import print_json, print_table

T = TypeVar("T")
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

    settings = settings_or_stop()
    book, now, zone = _at_desk(Desk.book, settings), datetime.now(UTC), settings.service.zone
    if as_json:
        for plan in book.plans.values():
            print_json(report(plan, now, book.faults.get(plan.name)))
    else:
        print_table(
            HEADS,
            [row(plan, now, zone) for plan in book.plans.values()],
            numbers=("skipped", "missed"),
            spare=("rules", "last tick", "skipped", "missed", "schedule"),
        )
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

    _at_desk(lambda desk: desk.remove(name), settings_or_stop())
    print_json({"name": name, "removed": True})


@schedules.command()
def run(name: Name) -> None:
    """Start its job now, beside its ticks; prints the job's id as one JSON line."""

    async def work(deps: Deps) -> tuple[str, Plan]:
        plan = await Desk(deps.settings, deps.schedules, CATALOG, deps.now()).plan(name)
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

        async def ask(desk: Desk) -> list[Plan]:
            return [*(await desk.book()).plans.values()] if name is None else [await desk.plan(name)]

        plans = _at_desk(ask, settings)
        if name is not None and not plans[0].is_on:
            stop(_why_never(plans[0]), FAILED)
        found = [(plan.name, plan.schedule) for plan in plans if plan.is_on and plan.schedule]
        where, ticks = settings.service.zone, _ticks(found, datetime.now(UTC), count)
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
        if zone is not None:
            raise Misuse("--zone is for an expression that is to be tried: a schedule has its own")
        return None
    try:
        where = ZoneInfo(zone) if zone else settings.service.zone
    except (ValueError, KeyError, OSError) as e:  # OSError: a directory of zones, like Asia
        raise Misuse(f"{zone!r} is no time zone: use a name like Asia/Ho_Chi_Minh") from e
    try:
        schedule = parse_schedule(text, where)
    except ValueError as e:
        raise Misuse(str(e)) from e
    return (schedule, where) if schedule else None


def _why_never(plan: Plan) -> str:
    if not plan.is_enabled:
        return f"{plan.name} is paused and has no next tick: `schedules resume {plan.name}` lets it fire again"
    return f"{plan.name} is off in the settings: `schedules set {plan.name} --cron ...` says when it is to run"


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


def _change(work: Callable[[Desk], Coroutine[Any, Any, Plan]]) -> None:
    plan = _at_desk(work, settings_or_stop())
    print_json(report(plan, datetime.now(UTC), None))


def _at_desk(work: Callable[[Desk], Coroutine[Any, Any, T]], settings: Settings) -> T:
    """What is done with schedules alone is done in MongoDB, where workers find it: Redis may be away."""
    configure_logging("ERROR", settings.service.log_format, zone=settings.service.zone)

    async def opened(database: Database) -> T:
        schedules = Schedules(database)
        await schedules.ensure_indexes()  # two of one name, added before any worker ever ran
        now = await Agents(database).clock()  # this machine may be somebody's desk, an hour ahead of the workers
        return await work(Desk(settings, schedules, CATALOG, now.timestamp()))

    return with_database(opened, settings)
