"""Dead letters that grow, and lanes whose oldest job has waited for too long."""

from typing import Any

from ...rules.machine import grown, is_too_old
from ...store.alerts import Alert
from ...store.dead_letters import Wanted
from .troubles import Found, Told, Trouble
from .view import View

LETTERS = "jobs"


async def look_at_letters(view: View, told: Told) -> Found:
    """More jobs failed for good than are known of: told once, until they are dealt with or none came for an hour."""
    deps = view.deps
    growth = grown(await deps.machine_state.growth(), await deps.dead_letters.matching(Wanted()), view.now)
    await deps.machine_state.save_growth(growth)
    if not growth.is_trouble:
        return Found(over={subject: _end(alert, growth.count) for subject, alert in told.items()})
    facts = {"new": growth.count - growth.mark, "count": growth.count}
    return Found({LETTERS: Trouble("warning", growth.since, facts)})


def _end(alert: Alert, count: int) -> dict[str, Any]:
    """Facts for the words: whether they were dealt with, or are only no news any more."""
    known = int(alert.facts.get("count") or 0) - int(alert.facts.get("new") or 0)
    return {"count": count, "variant": "stay" if count > known else ""}


async def look_at_lanes(view: View, told: Told) -> Found:
    """Every lane whose oldest due job waits longer than MONITOR_LANE_AGE_SECONDS."""
    limit_s = view.deps.settings.monitor.lane_age_seconds
    troubles: dict[str, Trouble] = {}
    for lane, stats in view.lanes.items():
        if is_too_old(stats.latency_s, limit_s, is_told=lane in told):
            facts = {"lane": lane, "pending": stats.pending, **({"variant": "paused"} if stats.paused else {})}
            troubles[lane] = Trouble("warning" if stats.paused else "high", view.now - stats.latency_s, facts)
    return Found(troubles)
