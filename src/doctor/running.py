"""What does the work: workers, the lanes they serve, the schedules they fire."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from ..deps import Deps
from ..errors import Permanent
from ..monitoring.machine import late
from ..monitoring.machine.troubles import Trouble
from ..monitoring.machine.view import view_of
from ..rules.lanes import LANES
from ..rules.times import in_short
from ..store.agents import Agent
from .findings import Note

START = "`arq src.worker.WorkerSettings` starts one"
NAMED = 5  # of many, so many by name


async def workers(deps: Deps) -> str | Note:
    """Who is there. Raises Permanent where one is gone without a goodbye, or nobody serves a lane."""
    known = await deps.agents.all(kind="worker")
    now = await deps.agents.clock()
    online = [worker for worker in known if _is_there(deps, worker, now)]
    gone = [worker for worker in known if worker not in online and not worker.has_left]
    there = ", ".join(_shown(worker, now) for worker in online[:NAMED])
    if gone:
        names = ", ".join(f"{each.agent_id} (silent for {_silent(each, now)})" for each in gone[:NAMED])
        raise Permanent(
            f"{len(online)} online, {len(gone)} gone without a goodbye: {names}; start it again, or, where it will not "
            "come back, `agents remove NAME`"
        )
    if not online:
        return Note(f"none is online, so nothing runs by itself: {START}")
    if unserved := _unserved(online):
        raise Permanent(f"nobody serves {', '.join(unserved)}: set WORKER_LANES of a worker, or start one without it")
    versions = sorted({str(worker.system_info.get("version", "?")) for worker in online})
    if len(versions) > 1:
        return Note(f"{len(online)} online, of versions {' and '.join(versions)}: {there}; restart the older ones")
    return f"{len(online)} online: {there}" + (f" and {len(online) - NAMED} more" if len(online) > NAMED else "")


def _is_there(deps: Deps, worker: Agent, now: datetime) -> bool:
    """Heard of lately: what is stored is set by workers, and may be of before the last of them died."""
    silent_s = (now - worker.last_check_in_at).total_seconds()
    return worker.is_online and silent_s <= deps.settings.monitor.worker_offline_seconds


def _silent(worker: Agent, now: datetime) -> str:
    return in_short((now - worker.last_check_in_at).total_seconds())


def _shown(worker: Agent, now: datetime) -> str:
    return f"{worker.agent_id} ({worker.metrics.get('runningJobs', '?')} jobs, heard of {_silent(worker, now)} ago)"


def _unserved(online: Iterable[Agent]) -> list[str]:
    served = set[str]()
    for worker in online:
        lanes = worker.system_info.get("lanes", "all")
        served |= set(LANES) if lanes == "all" else set(lanes)
    return sorted(set(LANES) - served)


async def lanes(deps: Deps) -> str | Note:
    """What waits, and what is held."""
    found = (await view_of(deps)).lanes
    waiting = sum(lane.pending for lane in found.values())
    running = sum(lane.active for lane in found.values())
    shown = f"{running} jobs run, {waiting} wait"
    limit_s = deps.settings.monitor.lane_age_seconds
    old = [f"{name} for {in_short(lane.latency_s)}" for name, lane in found.items() if lane.latency_s > limit_s]
    paused = [name for name, lane in found.items() if lane.paused]
    if old:
        shown += f"; the first in line waits in {', '.join(old)}: `queues`, `jobs --lane NAME`"
    if paused:
        shown += f"; {', '.join(paused)} paused: `queues resume NAME`"
    return Note(shown) if old or paused else shown


async def schedules(deps: Deps) -> str | Note:
    """Whether all fire. Raises Permanent for documents that cannot be used, and for late ticks where a worker is."""
    view = await view_of(deps)
    book = view.book
    if book.faults:
        faults = "; ".join(book.faults.values())
        raise Permanent(f"{faults}: `schedules set NAME` puts it right, or `schedules remove NAME`")
    firing = [plan for plan in book.plans.values() if plan.is_on]
    shown = f"{len(firing)} on, {len(book.plans) - len(firing)} off or paused"
    troubles = (await late.look(view, {})).troubles
    if troubles:
        text = f"{shown}, {len(troubles)} late: {_late(troubles)}"
        now = await deps.agents.clock()
        if any(_is_there(deps, worker, now) for worker in await deps.agents.all(kind="worker")):
            raise Permanent(f"{text}; `schedules` and `runs --schedule NAME` tell more")
        return Note(f"{text}; no worker is online to fire them")
    ticks = [plan.state.last_tick_at for plan in firing if plan.state.last_tick_at]
    return f"{shown}; " + (
        f"the last fired {in_short(view.now - max(ticks).timestamp())} ago" if ticks else "none has fired yet"
    )


def _late(troubles: Mapping[str, Trouble]) -> str:
    """The ones late for longest, by name."""
    because = {
        "not_fired": "not fired",
        "waits": "its job waits",
        "nobody": "nobody was there",
        "lost": "Redis lost its job",
    }
    first = sorted(troubles.items(), key=lambda item: item[1].since)[:NAMED]
    said = [f"{name} ({because[trouble.facts['variant']]} since {trouble.facts['at']})" for name, trouble in first]
    return ", ".join(said) + (f" and {len(troubles) - NAMED} more" if len(troubles) > NAMED else "")
