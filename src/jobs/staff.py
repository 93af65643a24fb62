"""The job that samples who of a page's staff is there."""

from datetime import UTC, datetime

from .. import catalog
from ..deps import Deps
from ..engine.job import Job, Outcome
from ..sync.staff import sample_staff


async def sync_page_staff(deps: Deps, page_id: str) -> str:
    """Store who is there now. Safe to repeat."""
    online = await sample_staff(deps.pancake, deps.staff, page_id, datetime.fromtimestamp(deps.now(), UTC))
    return Outcome("sampled", page_id=page_id, online=online)


SYNC_PAGE = Job(catalog.sync_page_staff, sync_page_staff)
JOBS = (SYNC_PAGE,)
