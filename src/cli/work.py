"""`run`, `sync`, `doctor`: work done here and now, with everything open that a worker has."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from ..deps import Deps
from ..doctor import examine
from ..engine.inline import Ran, known, run_to_end, this_process
from ..engine.recorder import recording
from ..errors import Misuse
from ..jobs import ALL_JOBS
from ..log import configure_logging
from ..progress import Progress
from .edge import FAILED, arguments_of, checked, settings_or_stop, with_deps
from .shown import print_json

PERSON_TRIES = 2  # a person who waits wants to know, not to wait


class StreamName(StrEnum):
    """What `sync` can sync."""

    CUSTOMERS = "customers"
    POSTS = "posts"
    CONVERSATIONS = "conversations"


def run(
    job: Annotated[str, typer.Argument(help="the job's name, as in `jobs/`")],
    arg: Annotated[list[str] | None, typer.Option(help="an argument, name=value; may stand several times")] = None,
) -> None:
    """Run a job here and now to its end, children included; prints its outcome as one JSON line."""

    def accepted() -> dict[str, Any]:
        declaration = known(ALL_JOBS, job).declaration
        arguments = arguments_of(declaration, arg or [])
        declaration.checked(arguments)  # a wrong call is wrong whether or not the servers are there
        return arguments

    arguments = checked(accepted)

    async def work(deps: Deps) -> Ran:
        async with _recorded(deps) as recorded:
            return await run_to_end(ALL_JOBS, recorded, job, arguments, max_tries=PERSON_TRIES)

    def failed(error: str) -> None:
        print_json({"job": job, "outcome": "failed", "error": error})

    ran = with_deps(work, level="WARNING", on_failure=failed)
    print_json(ran.report())
    raise typer.Exit(0 if ran.is_ok else FAILED)


def sync(
    stream: Annotated[StreamName, typer.Argument(help="what to sync")],
    page: Annotated[str | None, typer.Option(help="only this page")] = None,
    backfill: Annotated[bool, typer.Option("--backfill", help="the whole history instead of what is new")] = False,
) -> None:
    """Bring a collection up to date here and now, and show how far it is."""
    mode = "backfill" if backfill else "incremental"

    async def work(deps: Deps) -> list[Ran]:
        async with _recorded(deps) as recorded:
            return await passes(recorded)

    async def passes(deps: Deps) -> list[Ran]:
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

    done = with_deps(work, level="ERROR")
    for ran in done:
        if not ran.is_ok:
            typer.echo(f"failed: {ran.arguments.get('page_id', ran.name)}: {ran.end.error}", err=True)
    raise typer.Exit(0 if all(ran.is_ok for ran in done) else FAILED)


@asynccontextmanager
async def _recorded(deps: Deps) -> AsyncIterator[Deps]:
    """What runs here is in the history like what workers run."""
    async with recording(deps, ALL_JOBS, this_process()) as recorder:
        yield replace(deps, record=recorder)


def doctor() -> None:
    """Check settings and every outside system, and say what to do where something is wrong."""
    settings = settings_or_stop()
    configure_logging("ERROR", settings.service.log_format, zone=settings.service.zone)
    healthy = asyncio.run(examine(settings, typer.echo))
    raise typer.Exit(0 if healthy else FAILED)
