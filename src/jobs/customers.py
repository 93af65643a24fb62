"""Jobs that keep `customers` in step with Pancake."""

from .. import catalog
from ..deps import Deps
from ..engine.job import Job
from ..rules.coverage import Mode
from ..sync.customers import customer_stream
from .passes import each_page, one_pass


async def sync_customers_incremental(deps: Deps) -> str:
    """Start a pass over what is new on every page."""
    return await each_page(deps, SYNC_PAGE, "incremental")


async def sync_customers_backfill(deps: Deps) -> str:
    """Start a pass over every page's history, and over deleted customers where that is due."""
    return await each_page(deps, SYNC_PAGE, "backfill")


async def sync_page_customers(deps: Deps, page_id: str, mode: Mode = "incremental") -> str:
    """One pass over one page's customers. Safe to repeat, to kill and to run twice at once: it goes on in the gaps."""
    return await one_pass(deps, customer_stream(deps.pancake, deps.customers), page_id, mode)


SYNC_PAGE = Job(catalog.sync_page_customers, sync_page_customers)
JOBS = (
    Job(catalog.sync_customers_incremental, sync_customers_incremental),
    Job(catalog.sync_customers_backfill, sync_customers_backfill),
    SYNC_PAGE,
)
