"""A schedule as a row of a table, and as JSON."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from ..rules.times import in_short
from ..scheduling.plan import Plan

AT_ONCE_S = 5.0  # a tick of so long ago may have run, and nobody has noted it yet
MOST_SHOWN = 60  # characters of the arguments
HEADS = ("name", "schedule", "state", "next", "last tick", "last run", "skipped", "missed", "rules", "job")


def shown_instant(instant: datetime, zone: ZoneInfo) -> str:
    """Date, time and offset in a zone."""
    return f"{instant.astimezone(zone):%Y-%m-%d %H:%M:%S %z}"


def row(plan: Plan, now: datetime, zone: ZoneInfo) -> tuple[object, ...]:
    """For a person; times are in `zone`, and those near now are told by how far they are."""
    following, state = plan.next_after(now), plan.state
    return (
        plan.name,
        plan.expression + (f" ({plan.zone})" if plan.zone != zone else ""),
        _state(plan),
        f"{following.astimezone(zone):%m-%d %H:%M:%S}" if following else "",
        f"{in_short((now - state.last_tick_at).total_seconds())} ago" if state.last_tick_at else "never",
        last_run(plan, now),
        state.skipped or "",
        state.missed or "",
        f"{plan.overlap}, catch up {plan.catch_up}" + (f", jitter {plan.jitter_s:g} s" if plan.jitter_s else ""),
        _cut(" ".join([plan.job, *(f"{name}={value}" for name, value in plan.arguments.items())])),
    )


def report(plan: Plan, now: datetime, fault: str | None) -> dict[str, Any]:
    """JSON-able; instants in UTC."""
    following, state = plan.next_after(now), plan.state
    found: dict[str, Any] = {
        "name": plan.name,
        "job": plan.job,
        "arguments": plan.arguments,
        "schedule": plan.expression,
        "zone": str(plan.zone),
        "state": _state(plan),
        "enabled": plan.is_on,
        "source": "settings" if plan.is_given else "command",
        "changed": plan.is_changed,
        "catch_up": plan.catch_up,
        "catch_up_most": plan.most,
        "overlap": plan.overlap,
        "jitter_s": plan.jitter_s,
        "next": following.isoformat() if following else None,
        "last_tick": state.last_tick_at.isoformat() if state.last_tick_at else None,
        "last_job_id": state.last_job_id or None,
        "not_over_since": plan.open_tick.isoformat() if plan.open_tick else None,
        "last_run": None,
        "skipped": state.skipped,
        "missed": state.missed,
    }
    if last := state.last_run:
        found["last_run"] = {
            "end": last.end,
            "started_at": last.started_at.isoformat(),
            "duration_ms": last.duration_ms,
            "error": last.error or None,
        }
    return {**found, "fault": fault} if fault else found


def _state(plan: Plan) -> str:
    if not plan.is_enabled:
        return "paused"
    if plan.schedule is None:
        return "off"
    return "on, changed" if plan.is_changed else "on" if plan.is_given else "on, added"


def last_run(plan: Plan, now: datetime) -> str:
    """How its last run ended; of a tick whose job still waits or runs, since when that is so."""
    open_s = (now - plan.open_tick).total_seconds() if plan.open_tick else 0.0
    if open_s >= AT_ONCE_S:
        return f"not over, {in_short(open_s)}"
    last = plan.state.last_run
    if last is None:
        return ""
    took = f"{last.duration_ms / 1000:.1f}s" if last.duration_ms < 60_000 else in_short(last.duration_ms / 1000)
    return f"{last.end}, {took}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"
