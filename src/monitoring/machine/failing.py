"""Jobs that fail again and again: MONITOR_JOB_FAILURES runs in a row with the same arguments, and none that was done.

From the run history: with WORKER_HISTORY_DAYS=0 nothing is known here, and only dead letters tell of it.
"""

from collections.abc import Mapping
from typing import Any

from ...rules.machine import FAILED, STALE_S, fails_still, failures_in_row
from ...store.job_runs import RunEnd
from ...store.run_document import digest
from .troubles import Found, Told, Trouble
from .view import View

MOST_PAIRS = 500  # jobs with different arguments, looked at at once
KEPT_PAIRS = 50  # followed until they work again
LONGEST_NAME, LONGEST_ERROR = 100, 300  # characters; a job nobody knows may have any name
ENDS = 20  # runs looked back at
LONGEST_RUN_S = 3_600.0  # what failed lately began no earlier than so long before

Pair = tuple[str, str]  # job, digest of its arguments


async def look(view: View, told: Told) -> Found:
    """Every job that fails, told of as one, whatever number of arguments it fails with."""
    deps = view.deps
    pairs = set(await deps.job_runs.failing(view.ago(STALE_S + LONGEST_RUN_S), MOST_PAIRS))
    pairs |= {(job, known) for job, alert in told.items() for known in alert.facts.get("digests") or ()}
    scheduled = {(plan.job, digest(plan.arguments)) for plan in view.book.plans.values() if plan.is_on}
    pairs |= scheduled  # a daily one has failed since the night, though nobody could look then
    ends = await deps.job_runs.last_ends(pairs, max(ENDS, deps.settings.monitor.job_failures))
    rows = {pair: runs for pair, runs in ends.items() if failures_in_row(runs) >= deps.settings.monitor.job_failures}
    letters = await deps.dead_letters.are_open([runs[0].job_id for runs in rows.values() if runs[0].end == "dead"])
    by_job: dict[str, dict[str, list[RunEnd]]] = {}
    for pair, runs in rows.items():
        is_open = letters.get(runs[0].job_id)
        if fails_still(runs, view.now, is_scheduled=pair in scheduled, is_letter_open=is_open):
            by_job.setdefault(pair[0], {})[pair[1]] = runs
    troubles = {job: _trouble(job, found) for job, found in by_job.items()}
    return Found(troubles, over={job: {"variant": "silent"} for job in told if not _works(job, ends)})


def _trouble(job: str, failing: Mapping[str, list[RunEnd]]) -> Trouble:
    worst = max(failing, key=lambda known: (failures_in_row(failing[known]), failing[known][0].at))
    runs = failing[worst]
    times, last = failures_in_row(runs), runs[0]
    latest = sorted(failing, key=lambda known: -failing[known][0].at)
    facts: dict[str, Any] = {
        "job": job[:LONGEST_NAME],
        "times": times,
        "error": last.error[:LONGEST_ERROR] or "?",
        "page": last.page_id,
        "where": f" ({last.page_id})" if last.page_id else "",
        "digests": latest[:KEPT_PAIRS],
    }
    if len(failing) > 1:
        facts |= {"variant": "several", "of": len(failing)}
    return Trouble("high", runs[times - 1].at, facts)


def _works(job: str, ends: Mapping[Pair, list[RunEnd]]) -> bool:
    """Whether one that failed was done since; the others were dealt with, or never ran again."""
    return any(runs and runs[0].end not in FAILED for (name, _), runs in ends.items() if name == job)
