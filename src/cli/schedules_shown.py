"""A schedule as a row of a table, and as JSON."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from ..rules.times import in_short
from ..scheduling.plan import Plan

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
        _last_run(plan),
        state.skipped or "",
        state.missed or "",
        f"{plan.overlap}, catch up {plan.catch_up}" + (f", jitter {plan.jitter_s:g} s" if plan.jitter_s else ""),
        " ".join([plan.job, *(f"{name}={value}" for name, value in plan.arguments.items())]),
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


def _last_run(plan: Plan) -> str:
    last = plan.state.last_run
    if last is None:
        return ""
    took = f"{last.duration_ms / 1000:.1f}s" if last.duration_ms < 60_000 else in_short(last.duration_ms / 1000)
    return f"{last.end}, {took}"
