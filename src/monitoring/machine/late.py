"""Schedules that do not run when they should: not fired, fired and not started or lost, or nobody was there."""

from datetime import UTC, datetime

from ...engine.facts import JobInfo
from ...rules.machine import Progress, Punctuality, punctuality
from ...rules.ticks import shift_s
from ...scheduling.plan import Plan
from .troubles import Found, Told, Trouble
from .view import View

VARIANTS = {"not_fired": "not_fired", "waits": "waits", "nobody_there": "nobody", "lost": "lost"}


async def look(view: View, told: Told) -> Found:
    """Every schedule that is on and late. One that was turned off or removed ends without a word."""
    plans = {name: plan for name, plan in view.book.plans.items() if plan.is_on}
    jobs = await _last_jobs(view, plans)
    grace_s = view.deps.settings.monitor.schedule_grace_seconds
    troubles: dict[str, Trouble] = {}
    unsure = set[str]()
    for name, plan in plans.items():
        info = jobs.get(name)
        found = _punctual(plan, info, view.now, grace_s)
        if found.word == "unsure" or (found.word == "waits" and info and _is_paused(view, info.lane)):
            unsure.add(name)  # of a lane that is paused there is a notice of its own
        elif found.word != "on_time":
            troubles[name] = _trouble(view, plan, found, info)
    return Found(troubles, unsure=unsure, quiet=[name for name in told if name not in plans])


async def _last_jobs(view: View, plans: dict[str, Plan]) -> dict[str, JobInfo]:
    ids = {name: plan.state.last_job_id for name, plan in plans.items() if plan.state.last_job_id}
    infos = await view.queue.jobs(list(ids.values()))
    return {name: info for name, info in zip(ids, infos, strict=True) if info}


def _punctual(plan: Plan, info: JobInfo | None, now: float, grace_s: float) -> Punctuality:
    assert plan.schedule is not None  # noqa: S101 - it is on
    state, open_tick = plan.state, plan.open_tick
    if open_tick is not None and info is None:  # nobody has noted a run of it, and Redis knows it no more
        at = open_tick.timestamp()
        return Punctuality("lost" if now - at - plan.jitter_s > grace_s else "unsure", at)
    first, last = _unix(state.missed_since), _unix(state.missed_at)
    is_made_good = state.last_run is not None and last is not None and state.last_run.started_at.timestamp() >= last
    missed = (first, last) if first is not None and last is not None and not is_made_good else None
    progress = Progress(_unix(state.last_tick_at), _unix(state.active_from), missed, _waits_since(plan, info))
    return punctuality(plan.schedule, progress, now, grace_s)


def _is_paused(view: View, lane: str) -> bool:
    return lane in view.lanes and view.lanes[lane].paused


def _unix(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _waits_since(plan: Plan, info: JobInfo | None) -> float | None:
    """When the last tick's job was to start, where it has not: it is due, and neither failed nor gave way before."""
    if info is None or info.state != "pending" or info.attempt > 1:
        return None
    at = plan.state.last_job_id.rpartition(":")[2]
    if not at.isdigit():
        return None
    due = int(at) + shift_s(plan.name, datetime.fromtimestamp(int(at), UTC), plan.jitter_s)
    ran = plan.state.last_run
    return None if ran is not None and ran.started_at.timestamp() >= due else due


def _trouble(view: View, plan: Plan, found: Punctuality, info: JobInfo | None) -> Trouble:
    facts = {
        "schedule": plan.name,
        "job": plan.job,
        "at": view.local(found.since),
        "lane": info.lane if info else "?",
        "variant": VARIANTS[found.word],
    }
    return Trouble("high", found.since, facts)
