"""One round over everything that may be wrong with the machine, each kind apart: one that fails stops no other."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from loguru import logger

from ...clients import mongo, redis
from ...deps import Deps
from ...errors import Transient
from ...store.alerts import Alert
from . import failing, late, queues, slow, workers
from .troubles import PREFIX, Found, Kind, Settled, Told, settle, told_of
from .view import View, view_of

ENOUGH_S = 12.0  # for one kind of trouble
OUTAGES: Final = (TimeoutError, Transient, *mongo.FAILURES, *redis.OUTAGES)

KINDS: Final[Mapping[Kind, Callable[[View, Told], Awaitable[Found]]]] = {
    "worker_gone": workers.look,
    "job_failing": failing.look,
    "job_slow": slow.look,
    "schedule_late": late.look,
    "letters_grew": queues.look_at_letters,
    "lane_old": queues.look_at_lanes,
}


async def look_at_machine(deps: Deps) -> Settled | None:
    """Find what is wrong, and have it told; None where Redis or MongoDB did not answer, for the next look is near.

    Safe to repeat, to kill and to run several times at once. Raises what a kind raised that is no outage, after all
    the others were looked at.
    """
    try:
        async with asyncio.timeout(ENOUGH_S):
            view, notices = await view_of(deps), await deps.alerts.open_below(PREFIX)
    except OUTAGES as e:
        await _away(deps, e)
        return None
    looks = [_look(view, kind, told_of(notices, kind)) for kind in KINDS]
    ends = await asyncio.gather(*looks, return_exceptions=True)
    faults = [end for end in ends if isinstance(end, BaseException)]
    if outage := next((fault for fault in faults if isinstance(fault, OUTAGES)), None):
        await _away(deps, outage)
    for fault in faults:
        if not isinstance(fault, OUTAGES):
            raise fault
    return None if faults else sum((end for end in ends if isinstance(end, Settled)), Settled())


async def _look(view: View, kind: Kind, told: dict[str, Alert]) -> Settled:
    async with asyncio.timeout(ENOUGH_S):
        return await settle(view.deps, kind, await KINDS[kind](view, told), told)


async def _away(deps: Deps, error: BaseException) -> None:
    logger.warning("machine could not be looked at", error=type(error).__name__)
    try:
        await workers.note_outage(deps)
    except redis.OUTAGES:  # no job runs then, this one neither
        return
