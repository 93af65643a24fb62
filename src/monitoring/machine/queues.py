"""Dead letters that grow, and lanes whose oldest job has waited for too long."""

from typing import Any

from ...rules.machine import grown, is_too_old
from ...store.alerts import Alert
from ...store.dead_letters import Wanted
from .troubles import Found, Told, Trouble
from .view import View

JOBS, ROWS = "jobs", "rows"


async def look_at_letters(view: View, told: Told) -> Found:
    """More jobs failed for good, or more rows cannot be read, than are known of: each told once, until they are dealt
    with or none came for an hour.
    """
    letters = view.deps.dead_letters
    counts = {JOBS: await letters.matching(Wanted()), ROWS: await letters.row_count()}
    troubles: dict[str, Trouble] = {}
    over: dict[str, dict[str, Any]] = {}
    for subject, count in counts.items():
        growth = grown(await view.deps.machine_state.growth(subject), count, view.now)
        await view.deps.machine_state.save_growth(subject, growth)
        if growth.is_trouble:
            facts = {"new": growth.count - growth.mark, "count": growth.count, "variant": VARIANTS[subject]}
            troubles[subject] = Trouble("warning", growth.since, facts)
        elif subject in told:
            over[subject] = _end(told[subject], subject, growth.count)
    return Found(troubles, over=over)


VARIANTS = {JOBS: "", ROWS: "rows"}


def _end(alert: Alert, subject: str, count: int) -> dict[str, Any]:
    """Facts for the words: whether they were dealt with, or are only no news any more."""
    known = int(alert.facts.get("count") or 0) - int(alert.facts.get("new") or 0)
    stays = ["stay"] if count > known else []
    return {"count": count, "variant": "_".join([*filter(None, [VARIANTS[subject]]), *stays])}


async def look_at_lanes(view: View, told: Told) -> Found:
    """Every lane whose oldest due job waits longer than MONITOR_LANE_AGE_SECONDS."""
    limit_s = view.deps.settings.monitor.lane_age_seconds
    troubles: dict[str, Trouble] = {}
    for lane, stats in view.lanes.items():
        if is_too_old(stats.latency_s, limit_s, is_told=lane in told):
            facts = {"lane": lane, "pending": stats.pending, **({"variant": "paused"} if stats.paused else {})}
            troubles[lane] = Trouble("warning" if stats.paused else "high", view.now - stats.latency_s, facts)
    return Found(troubles)
