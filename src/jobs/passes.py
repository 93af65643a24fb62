"""What the jobs of every stream have in common: the fan-out over pages, and one pass as a job."""

from typing import Any

from ..deps import Deps
from ..engine.job import Job, Outcome
from ..errors import Snooze
from ..rules.coverage import Mode
from ..sync.pages import read_pages
from ..sync.passes import PagePass
from ..sync.stream import Stream

BUDGET = 0.8  # of the timeout: a pass ends itself before it is ended


async def each_page(deps: Deps, page_job: Job[Any], mode: Mode) -> Outcome:
    """Spawn `page_job` for every page that is to be synced; succeeds only when every one is enqueued.

    Lists the pages first where none was ever stored.
    """
    if await deps.pages.is_empty():
        await read_pages(deps.pancake, deps.pages, deps.settings.pancake)
    page_ids = await deps.pages.to_sync(deps.settings.pancake.page_ids)
    started = [await page_job.spawn(deps, page_id=page_id, mode=mode) for page_id in page_ids]
    return Outcome("enqueued" if page_ids else "no_pages", pages=len(page_ids), already_running=started.count(False))


async def one_pass(deps: Deps, stream: Stream, page_id: str, mode: Mode) -> Outcome:
    """One pass of `stream` over one page.

    Raises Snooze, to be run again, when the pass has used its time or the process is asked to end; what it read is
    saved by then.
    """
    ends_at = deps.monotonic() + BUDGET * deps.settings.worker.default_timeout_seconds
    page_pass = PagePass(
        stream,
        page_id,
        deps.sync_states,
        deps.dead_letters,
        deps.settings.sync,
        server_now=deps.pancake.server_now,
        stop=lambda: deps.stopping.is_set() or deps.monotonic() > ends_at,
        on_progress=deps.on_progress,
    )
    done = await page_pass.run(mode)
    if not done.is_complete:
        raise Snooze(f"{done.rows} rows read, the pass goes on in its gaps")
    return Outcome(
        "synced" if done.rows else "unchanged",
        page_id=page_id,
        mode=mode,
        calls=done.calls,
        rows=done.rows,
        set_aside=done.set_aside,
        suspected=done.suspected,
        deleted=done.deleted,
        audited=done.audited,
        lost=done.lost,
        mark=done.mark,
    )
