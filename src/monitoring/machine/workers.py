"""Workers that no longer check in: killed, hanging, cut off. All instants are by MongoDB's clock, which they share."""

import asyncio
from datetime import datetime, timedelta

from ...clients.redis import in_time
from ...deps import Deps
from ...store.agents import Agent
from .troubles import Found, Told, Trouble
from .view import View

#: There while MongoDB did not answer a moment ago: who was not heard of had nowhere to be heard.
UNSURE = "folkform:machine:mongodb:away"
#: A MongoDB that is away for less is noticed here, or is back before anybody was silent for too long.
ANSWERS_S = 3.0
#: A worker that died comes back under another name where its process or container has one: nobody waits for the old.
FORGET = timedelta(days=1)


async def look(view: View, told: Told) -> Found:
    """Every worker that was there and has not been heard of for MONITOR_WORKER_OFFLINE_SECONDS.

    Raises TimeoutError where MongoDB does not answer at once.
    """
    deps = view.deps
    async with asyncio.timeout(ANSWERS_S):
        now = await deps.agents.clock()
        limit = timedelta(seconds=deps.settings.monitor.worker_offline_seconds)
        async with in_time():
            is_unsure = await deps.redis.exists(UNSURE)
        if not is_unsure:
            await deps.agents.turn_offline(now - limit, "worker")
        workers = await deps.agents.all(with_removed=True, kind="worker")
        forgotten = {worker.agent_id for worker in workers if _is_forgotten(worker, now)}
        await deps.agents.forget(sorted(forgotten))
    there = {worker.agent_id: worker for worker in workers if worker.agent_id not in forgotten}
    missing = {name: worker for name, worker in there.items() if worker.is_missing}
    return Found(
        {} if is_unsure else {name: _trouble(view, worker, now) for name, worker in missing.items()},
        unsure=missing if is_unsure else (),
        quiet=[name for name in told if name not in there or not there[name].is_online],
    )


async def note_outage(deps: Deps) -> None:
    """MongoDB did not answer: nobody is taken for dead until all had the time to check in again."""
    seconds = deps.settings.monitor.worker_offline_seconds
    async with in_time():
        await deps.redis.set(UNSURE, "1", px=int(seconds * 1000))


def _trouble(view: View, worker: Agent, now: datetime) -> Trouble:
    silent_s = max(0.0, (now - worker.last_check_in_at).total_seconds())
    jobs = worker.metrics.get("runningJobs")
    facts = {
        "worker": worker.agent_id,
        "host": str(worker.system_info.get("host") or "?"),
        "jobs": jobs if isinstance(jobs, int) else 0,
        "seconds": round(silent_s),
    }
    return Trouble("high", view.now - silent_s, facts)


def _is_forgotten(worker: Agent, now: datetime) -> bool:
    return not worker.is_online and worker.last_check_in_at < now - FORGET
