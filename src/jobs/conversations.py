"""Jobs that keep `conversations` and `messages` in step with Pancake."""

from .. import catalog
from ..deps import Deps
from ..engine.job import Job, Outcome
from ..errors import Snooze
from ..rules.coverage import Mode
from ..sync.conversations import conversation_stream
from ..sync.filler import Filled
from ..sync.messages import Drained, drain_messages
from .passes import BUDGET, each_page, one_pass

RECENT_S = 86_400  # what changed longer ago is the backfill's: what is new must not wait behind it
RECENT_BUDGET_S = 45.0  # an incremental pass comes each minute


async def sync_conversations_incremental(deps: Deps) -> str:
    """Start a pass over what is new on every page."""
    return await each_page(deps, SYNC_PAGE, "incremental")


async def sync_conversations_backfill(deps: Deps) -> str:
    """Start a pass over every page's history, and over deleted conversations where that is due."""
    return await each_page(deps, SYNC_PAGE, "backfill")


async def sync_page_conversations(deps: Deps, page_id: str, mode: Mode = "incremental") -> str:
    """One pass over one page's conversations, then the messages of those that changed.

    Safe to repeat, to kill and to run twice at once: it goes on in the gaps, and where messages are due.
    """
    ends_at = deps.monotonic() + BUDGET * deps.settings.worker.default_timeout_seconds
    is_incremental = mode == "incremental"
    done = await one_pass(deps, conversation_stream(deps.pancake, deps.conversations), page_id, mode)
    if is_incremental:
        ends_at = min(ends_at, deps.monotonic() + RECENT_BUDGET_S)

    def tell(drained: Drained) -> None:
        if deps.on_progress:
            deps.on_progress(page_id, Filled(rows=done.details["rows"] + drained.rows))

    drained = await drain_messages(
        deps.pancake,
        deps.conversations,
        deps.messages,
        deps.dead_letters,
        page_id,
        newer_than=deps.pancake.server_now() - RECENT_S if is_incremental else None,
        stop=lambda: deps.stopping.is_set() or deps.monotonic() > ends_at,
        on_progress=tell,
    )
    if not drained.is_complete and not is_incremental:
        raise Snooze(f"messages of {drained.conversations} conversations read, the rest follows")
    return _outcome(done, drained)


def _outcome(done: Outcome, drained: Drained) -> Outcome:
    word = "synced" if done == "synced" or drained.conversations else "unchanged"
    details = {**done.details, "calls": done.details["calls"] + drained.calls}
    details |= {"conversations": drained.conversations, "messages": drained.rows, "failed": drained.failed}
    details["set_aside"] += drained.set_aside
    return Outcome(word, **details)


SYNC_PAGE = Job(catalog.sync_page_conversations, sync_page_conversations)
JOBS = (
    Job(catalog.sync_conversations_incremental, sync_conversations_incremental),
    Job(catalog.sync_conversations_backfill, sync_conversations_backfill),
    SYNC_PAGE,
)
