"""The job that finds out who is no longer there."""

from .. import catalog
from ..deps import Deps
from ..engine.job import Job, Outcome
from ..monitoring.agents import look_at_agents
from . import staff


async def check_agents(deps: Deps) -> str:
    """Tell of agents that are gone and of those that are back; have each page's staff sampled. Safe to repeat."""
    looked = await look_at_agents(deps)
    page_ids = await deps.pages.to_sync(deps.settings.pancake.page_ids)
    for page_id in page_ids:
        await staff.SYNC_PAGE.spawn(deps, page_id=page_id)
    return Outcome(
        "checked",
        online=looked.online,
        missing=looked.missing,
        told=looked.told,
        back=looked.back,
        pages=len(page_ids),
    )


JOBS = (Job(catalog.check_agents, check_agents),)
