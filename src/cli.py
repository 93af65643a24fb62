"""The command line: `python -m src ...`, `folkform-worker ...` where it is installed."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any, NoReturn, TypeVar

import orjson
import typer

from .clients import mongo, redis
from .deps import Deps, open_deps
from .doctor import examine
from .engine.inline import Ran, known, run_to_end
from .errors import Misuse, ServiceError
from .jobs import ALL_JOBS
from .log import configure_logging
from .progress import Progress
from .runtime import prepare_process
from .settings import Settings, load_settings

T = TypeVar("T")
FAILED, WRONG_CALL = 1, 2
PERSON_TRIES = 2  # a person who waits wants to know, not to wait

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class StreamName(StrEnum):
    """What `sync` can sync."""

    CUSTOMERS = "customers"


@app.callback()
def _describe() -> None:
    """Background worker: Pancake's data in your own MongoDB, complete and fresh."""


@app.command()
def run(
    job: Annotated[str, typer.Argument(help="the job's name, as in `jobs/`")],
    arg: Annotated[list[str] | None, typer.Option(help="an argument, name=value; may stand several times")] = None,
) -> None:
    """Run a job here and now to its end, children included; prints its outcome as one JSON line."""
    arguments = _arguments(arg or [])
    try:
        known(ALL_JOBS, job).declaration.checked(
            arguments
        )  # a wrong call is wrong whether or not the servers are there
    except Misuse as e:
        _stop(str(e), WRONG_CALL)

    async def work(deps: Deps) -> Ran:
        return await run_to_end(ALL_JOBS, deps, job, arguments, max_tries=PERSON_TRIES)

    def failed(error: str) -> None:
        _print({"job": job, "outcome": "failed", "error": error})

    ran = _with_deps(work, level="WARNING", on_failure=failed)
    _print(ran.report())
    raise typer.Exit(0 if ran.is_ok else FAILED)


@app.command()
def sync(
    stream: Annotated[StreamName, typer.Argument(help="what to sync")],
    page: Annotated[str | None, typer.Option(help="only this page")] = None,
    backfill: Annotated[bool, typer.Option("--backfill", help="the whole history instead of what is new")] = False,
) -> None:
    """Bring a collection up to date here and now, and show how far it is."""
    mode = "backfill" if backfill else "incremental"

    async def work(deps: Deps) -> list[Ran]:
        listed = await run_to_end(ALL_JOBS, deps, "sync_pages", {}, max_tries=PERSON_TRIES)
        if not listed.is_ok:
            return [listed]
        page_ids = [page] if page else await deps.pages.to_sync(deps.settings.pancake.page_ids)
        if not page_ids:
            raise Misuse("there is no page to sync: Pancake lists none, or PANCAKE_PAGE_IDS leaves none")
        with Progress(sys.stderr) as progress:
            deps = replace(deps, on_progress=progress.update)

            async def one(page_id: str) -> Ran:
                progress.start(page_id)
                arguments = {"page_id": page_id, "mode": mode}
                ran = await run_to_end(ALL_JOBS, deps, f"sync_page_{stream}", arguments, max_tries=PERSON_TRIES)
                progress.end(page_id, ran.end.error)
                return ran

            return list(await asyncio.gather(*(one(page_id) for page_id in page_ids)))

    done = _with_deps(work, level="ERROR")
    for ran in done:
        if not ran.is_ok:
            typer.echo(f"failed: {ran.arguments.get('page_id', ran.name)}: {ran.end.error}", err=True)
    raise typer.Exit(0 if all(ran.is_ok for ran in done) else FAILED)


@app.command()
def doctor() -> None:
    """Check settings and every outside system, and say what to do where something is wrong."""
    settings = _settings()
    configure_logging("ERROR", settings.service.log_format)
    healthy = asyncio.run(examine(settings, typer.echo))
    raise typer.Exit(0 if healthy else FAILED)


def main() -> None:
    """Entry point of the console script."""
    prepare_process()
    app()


def _arguments(pairs: list[str]) -> dict[str, str]:
    arguments = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            _stop(f"--arg {pair}: write name=value", WRONG_CALL)
        arguments[name] = value
    return arguments


def _settings() -> Settings:
    try:
        return load_settings()
    except Misuse as e:
        _stop(f"the settings are wrong:\n{e}", FAILED)


def _print(report: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(report).decode() + "\n")


def _with_deps(
    work: Callable[[Deps], Coroutine[Any, Any, T]], *, level: str, on_failure: Callable[[str], None] = lambda _: None
) -> T:
    """Run `work` with everything open; Ctrl-C lets a pass save how far it came. Our errors become one line."""
    settings = _settings()
    configure_logging(level, settings.service.log_format)

    async def opened() -> T:
        async with open_deps(settings) as deps:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, deps.stopping.set)
            return await work(deps)

    try:
        return asyncio.run(opened())
    except Misuse as e:
        _stop(str(e), WRONG_CALL)
    except ServiceError as e:
        on_failure(str(e))
        _stop(str(e), FAILED)
    except (*mongo.FAILURES, *redis.OUTAGES) as e:
        line = f"{type(e).__name__}: MongoDB at {settings.mongo.shown} or Redis at {settings.redis.shown} went away"
        on_failure(line)
        _stop(line, FAILED)
    except KeyboardInterrupt:
        _stop("stopped; what was read is kept, and the next run goes on from there", 130)


def _stop(line: str, code: int) -> NoReturn:
    typer.echo(line, err=True)
    raise typer.Exit(code)
