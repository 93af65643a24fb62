"""The job that looks whether everything outside answers."""

from .. import catalog
from ..deps import Deps
from ..engine.job import Job, Outcome
from ..monitoring.away import look_or_tell


async def check_health(deps: Deps) -> str:
    """Look at everything once, and have changes told. Safe to repeat. Raises Transient while MongoDB is away."""
    looked = await look_or_tell(deps)
    return Outcome(
        "looked" if not looked.down else "unhealthy",
        up=looked.up,
        down=looked.down,
        told=looked.told,
        back=looked.back,
    )


JOBS = (Job(catalog.check_health, check_health),)
