"""Jobs that keep `posts` in step with Pancake."""

from .. import catalog
from ..deps import Deps
from ..engine.job import Job
from ..rules.coverage import Mode
from ..sync.posts import post_stream
from .passes import each_page, one_pass


async def sync_posts_incremental(deps: Deps) -> str:
    """Start a pass over what is new on every page."""
    return await each_page(deps, SYNC_PAGE, "incremental")


async def sync_posts_backfill(deps: Deps) -> str:
    """Start a pass over every page's history, and over changed and deleted posts where that is due."""
    return await each_page(deps, SYNC_PAGE, "backfill")


async def sync_page_posts(deps: Deps, page_id: str, mode: Mode = "incremental") -> str:
    """One pass over one page's posts. Safe to repeat, to kill and to run twice at once: it goes on in the gaps."""
    return await one_pass(deps, post_stream(deps.pancake, deps.posts), page_id, mode)


SYNC_PAGE = Job(catalog.sync_page_posts, sync_page_posts)
JOBS = (
    Job(catalog.sync_posts_incremental, sync_posts_incremental),
    Job(catalog.sync_posts_backfill, sync_posts_backfill),
    SYNC_PAGE,
)
