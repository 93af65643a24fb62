"""Runs that take far longer than their job usually does: they hang, or something they need is slow.

From Redis, which knows what runs now; a run that ended is in the history.
"""

from collections.abc import Iterable, Mapping

from ...catalog import CATALOG
from ...clients.redis import in_time
from ...engine import keys
from ...engine.declaration import Declaration
from ...engine.facts import JobInfo, as_text
from ...engine.wire import read_job
from ...errors import Misuse
from ...rules.machine import OF_TIMEOUT, longest_s
from ...store.machine_state import Usual
from .troubles import Found, Told, Trouble
from .view import View

WEEK_S = 7 * 86_400.0
FRESH_S = 600.0  # how long a job takes changes slowly, and is dear to ask for
AT_ONCE = 500  # jobs asked about in one call
MOST_RUNS = 200  # looked at closely, the longest first
KEPT_RUNS = 50

Run = tuple[str, JobInfo]  # job id


async def look(view: View, told: Told) -> Found:
    """Every job one of whose runs takes too long; the longest run is named."""
    least_s = view.deps.settings.monitor.long_run_seconds
    started = await _started(view)
    old = sorted((job_id for job_id, at in started.items() if view.now - at > least_s), key=lambda it: started[it])
    infos = await _infos(view, old[:MOST_RUNS])
    usual = await _limits(view, {info.job for _, info in infos})
    limits = {job_id: usual[info.job] for job_id, info in infos}
    for job_id, job in await _that_end_themselves(view, infos):
        limits[job_id] = max(least_s, OF_TIMEOUT * _timeout_s(view, job))
    by_job: dict[str, list[Run]] = {}
    for job_id, info in infos:
        if view.now - started[job_id] > limits[job_id]:
            by_job.setdefault(info.job, []).append((job_id, info))
    troubles = {job: _trouble(runs, started, limits[runs[0][0]]) for job, runs in by_job.items()}
    return Found(troubles, unsure=await _tried_again(view, {job: told[job] for job in told if job not in troubles}))


async def _started(view: View) -> dict[str, float]:
    """When each job that runs now was started, Unix seconds."""
    redis, ids = view.deps.redis, list[str]()
    async with in_time(), redis.pipeline(transaction=False) as pipe:
        for lane in view.lanes:
            pipe.hkeys(keys.RUNNING + lane)
        ids = [as_text(job_id) for lane in await pipe.execute() for job_id in lane]
    found: dict[str, float] = {}
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        async with in_time():
            values = await redis.mget([keys.IN_PROGRESS + job_id for job_id in some])
        # of one that arq itself runs there is no time
        found |= {job_id: int(at) / 1000 for job_id, at in zip(some, values, strict=True) if at and int(at) > 1}
    return found


async def _infos(view: View, ids: list[str]) -> list[Run]:
    infos = await view.queue.jobs(ids)
    return [(job_id, info) for job_id, info in zip(ids, infos, strict=True) if info and info.state == "active"]


async def _that_end_themselves(view: View, runs: Iterable[Run]) -> list[tuple[str, str]]:
    """(id, job) of runs that go on for as long as they may: a night's backfill is no incremental pass that hangs."""
    asked = [(job_id, info.job) for job_id, info in runs if info.job in CATALOG and CATALOG[info.job].ends_itself]
    if not asked:
        return []
    async with in_time():
        payloads = await view.deps.redis.mget([keys.JOB + job_id for job_id, _ in asked])
    return [run for run, payload in zip(asked, payloads, strict=True) if payload and _ends(CATALOG[run[1]], payload)]


def _ends(job: Declaration[...], payload: bytes) -> bool:
    try:
        envelope = read_job(payload)
        return job.is_to_end_itself(job.named(envelope.args, envelope.kwargs))
    except (ValueError, Misuse):
        return False


def _timeout_s(view: View, job: str) -> float:
    own = CATALOG[job].timeout_s if job in CATALOG else None
    return own or view.deps.settings.worker.default_timeout_seconds


async def _limits(view: View, jobs: Iterable[str]) -> dict[str, float]:
    """How long a run of these jobs may take."""
    deps, jobs = view.deps, sorted(jobs)
    usual = await deps.machine_state.usual(jobs)
    asked: dict[str, Usual] = {}
    for job in jobs:
        if job not in usual or view.now - usual[job].at > FRESH_S:
            taken = await deps.run_minutes.percentiles(job, view.ago(WEEK_S))
            asked[job] = Usual(taken.runs, taken.p99_s, view.now)
    await deps.machine_state.save_usual(asked)
    found = {**usual, **asked}
    least_s = deps.settings.monitor.long_run_seconds
    return {job: longest_s(found[job].runs, found[job].p99_s, _timeout_s(view, job), least_s) for job in jobs}


def _trouble(runs: list[Run], started: Mapping[str, float], limit_s: float) -> Trouble:
    job_id, info = runs[0]  # the longest
    facts = {
        "job": info.job,
        "jobId": job_id,
        "lane": info.lane,
        "usual": round(limit_s),
        "count": len(runs),
        "runs": [[each_id, each.attempt] for each_id, each in runs[:KEPT_RUNS]],
    }
    return Trouble("high", started[job_id], facts)


async def _tried_again(view: View, told: Told) -> set[str]:
    """Jobs of which a run that was told of ran into its timeout and is tried again: that may hang as well."""
    runs = {
        str(job_id): (job, int(attempt))
        for job, alert in told.items()
        for job_id, attempt in alert.facts.get("runs") or ()
    }
    infos = await view.queue.jobs(list(runs))
    waiting = ("active", "pending", "retry", "scheduled")
    return {
        job
        for (job, attempt), info in zip(runs.values(), infos, strict=True)
        if info and info.state in waiting and info.attempt > attempt
    }
