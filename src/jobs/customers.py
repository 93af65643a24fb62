"""Jobs that keep `customers` in step with Pancake."""

from ..deps import Deps
from ..engine.job import Job, Outcome
from ..errors import Snooze
from ..rules.coverage import Mode
from ..sync.customers import customer_stream
from ..sync.passes import PagePass


async def sync_customers_incremental(deps: Deps) -> str:
    """Start a pass over what is new on every page. Succeeds only when every page's job is enqueued."""
    return await _each_page(deps, "incremental")


async def sync_customers_backfill(deps: Deps) -> str:
    """Start a pass over every page's history, and over deleted rows where that is due."""
    return await _each_page(deps, "backfill")


async def sync_page_customers(deps: Deps, page_id: str, mode: Mode = "incremental") -> str:
    """One pass over one page; `mode` is `incremental`, `backfill` or `sweep`. Safe to repeat: it goes on in the gaps.

    A long pass gives its slot back now and then, and when the process is asked to end; it then runs again.
    """
    budget_ends = deps.monotonic() + PASS_BUDGET * deps.settings.worker.default_timeout_seconds
    one = PagePass(
        customer_stream(deps.pancake, deps.customers),
        page_id,
        deps.sync_states,
        deps.dead_letters,
        deps.settings.sync,
        server_now=deps.pancake.server_now,
        stop=lambda: deps.stopping.is_set() or deps.monotonic() > budget_ends,
        on_progress=deps.on_progress,
    )
    done = await one.run(mode)
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
        mark=done.mark,
    )


async def _each_page(deps: Deps, mode: Mode) -> str:
    page_ids = await deps.pages.to_sync(deps.settings.pancake.page_ids)
    started = [await SYNC_PAGE.spawn(deps, page_id=page_id, mode=mode) for page_id in page_ids]
    return Outcome("enqueued" if page_ids else "no_pages", pages=len(page_ids), already_running=started.count(False))


PASS_BUDGET = 0.8  # of the timeout: a pass ends itself before it is ended
SYNC_PAGE = Job(sync_page_customers, lane="sync", unique_key=lambda page_id, mode="incremental": f"{page_id}:{mode}")
JOBS = (
    Job(sync_customers_incremental, lane="sync"),
    Job(sync_customers_backfill, lane="sync"),
    SYNC_PAGE,
)
