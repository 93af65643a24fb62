"""The job that looks whether the machine itself works: its jobs, schedules, lanes and workers."""

from .. import catalog
from ..deps import Deps
from ..engine.job import Job, Outcome
from ..monitoring.machine.look import look_at_machine


async def check_jobs(deps: Deps) -> str:
    """Find what fails, hangs, is late or is gone, and have changes told. Safe to repeat and to kill."""
    looked = await look_at_machine(deps)
    if looked is None:
        return Outcome("could_not_look")
    return Outcome("trouble" if looked.wrong else "looked", wrong=looked.wrong, told=looked.told, back=looked.back)


JOBS = (Job(catalog.check_jobs, check_jobs),)
