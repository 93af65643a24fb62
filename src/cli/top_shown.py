"""The picture `top` shows, made of what is known: lanes, workers, what runs, what failed, what is due next."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..engine.facts import JobInfo, QueueStats
from ..rules.times import in_short
from ..scheduling.plan import Plan
from ..store.agents import Agent
from ..store.job_runs import PastRun
from .schedules_shown import last_run
from .shown import one_line

FRAME_LINES = 15  # heads, gaps and the first line
LATE_S = 60.0  # a tick that nobody has decided on for so long is shown as late
MOST_WORKERS = 4
LONG_S = 60.0  # a run that takes longer stands out


@dataclass(frozen=True, slots=True)
class Running:
    """A job that runs, and the worker that holds it."""

    job_id: str
    info: JobInfo
    worker: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at `at`. What could not be asked is empty; `faults` say of each server that is away why."""

    at: datetime
    lanes: Mapping[str, QueueStats] = field(default_factory=dict)
    running: Sequence[Running] = ()
    workers: Sequence[Agent] = ()
    failures: Sequence[PastRun] = ()
    plans: Sequence[Plan] = ()
    faults: Mapping[str, str] = field(default_factory=dict)

    def told(self, server: str, count: int) -> str:
        """A number this server knows."""
        return "?" if server in self.faults else str(count)


def frame(now: Snapshot, before: Snapshot | None, zone: ZoneInfo, height: int) -> RenderableType:
    """One picture of at most about `height` lines; rates are since `before`."""
    rates = rates_of(now, before)
    left = height - FRAME_LINES - len(now.faults) - len(now.lanes) - min(MOST_WORKERS, len(now.workers))
    running = shared(left // 2, len(now.running))
    failures = shared((left - running) // 2, len(now.failures))
    parts: list[RenderableType] = [_head(now, rates, zone), _lanes(now, rates)]
    if now.workers:
        parts.append(_workers(now, MOST_WORKERS))
    parts.append(_running(now, running))
    if now.failures:
        parts.append(_failures(now, zone, failures))
    if now.plans:
        parts.append(_schedules(now, zone, shared(left - running - failures, len(now.plans))))
    return Group(*(each for part in parts for each in (part, Text())))


def shared(lines: int, wanted: int) -> int:
    """How many of the lines there are a part gets: at least one, and no more than it can use."""
    return max(1, min(lines, wanted))


def rates_of(now: Snapshot, before: Snapshot | None) -> dict[str, float]:
    """Jobs that were over per second and lane, since `before`; nothing where Redis forgot meanwhile."""
    seconds = (now.at - before.at).total_seconds() if before else 0.0
    if before is None or seconds <= 0:
        return {}
    return {
        lane: max(0, stats.processed - before.lanes[lane].processed) / seconds
        for lane, stats in now.lanes.items()
        if lane in before.lanes
    }


def _head(now: Snapshot, rates: Mapping[str, float], zone: ZoneInfo) -> Text:
    lanes = now.lanes.values()
    online = [agent for agent in now.workers if agent.is_online]
    words = [
        f"{now.at.astimezone(zone):%Y-%m-%d %H:%M:%S}",
        f"{now.told('MongoDB', len(online))} worker{'' if len(online) == 1 else 's'}",
        f"{now.told('Redis', len(now.running))} running",
        f"{now.told('Redis', sum(lane.pending for lane in lanes))} waiting",
        f"{now.told('Redis', sum(lane.dead for lane in lanes))} dead letters",
    ]
    if rates:
        words.append(f"{sum(rates.values()):,.1f} jobs/s")
    head = Text("   ".join(words), style="bold")
    for fault in now.faults.values():
        head.append(f"\n{one_line(fault)}", style="bold red")
    return head


def _lanes(now: Snapshot, rates: Mapping[str, float]) -> Table:
    numbers = ("waits", "runs", "later", "retry", "dead", "oldest", "jobs/s", "done", "failed")
    table = _table(("lane", *numbers, ""), numbers)
    for lane, stats in now.lanes.items():
        oldest = f"{stats.latency_s:.1f}s" if stats.latency_s < LONG_S else in_short(stats.latency_s)
        counts = (stats.pending, stats.active, stats.scheduled, stats.retry, stats.dead)
        rate = f"{rates[lane]:,.1f}" if rates.get(lane) else ""
        style = "yellow" if stats.paused or stats.latency_s >= LONG_S else "" if stats.pending + stats.active else "dim"
        _add(
            table,
            lane,
            *(str(count or "") for count in counts),
            oldest if stats.pending else "",
            rate,
            f"{stats.processed:,}",
            f"{stats.failed:,}" if stats.failed else "",
            "PAUSED" if stats.paused else "",
            style=style,
        )
    return table


def _workers(now: Snapshot, most: int) -> Table:
    table = _table(("worker", "state", "runs", "memory", "up", "heard of"), ("runs", "memory"))
    workers = sorted(now.workers, key=lambda agent: (not agent.is_missing, not agent.is_online, agent.agent_id))
    for agent in workers[:most]:
        told = agent.metrics
        _add(
            table,
            one_line(agent.agent_id),
            "GONE" if agent.is_missing else "online" if agent.is_online else "left",
            str(told.get("runningJobs", "")),
            f"{told['memoryMb']:.0f} MB" if isinstance(told.get("memoryMb"), int | float) else "",
            in_short(told["uptimeSeconds"]) if isinstance(told.get("uptimeSeconds"), int | float) else "",
            f"{in_short((now.at - agent.last_check_in_at).total_seconds())} ago",
            style="red" if agent.is_missing else "",
        )
    return _with_rest(table, len(workers) - most)


def _running(now: Snapshot, most: int) -> Table:
    table = _table(("running", "page", "lane", "try", "for", "worker", "id"), ("try", "for"))
    for each in now.running[:most]:
        info = each.info
        seconds = now.at.timestamp() - info.started_at if info.started_at else 0.0
        _add(
            table,
            one_line(info.job),
            one_line(info.page_id or ""),
            info.lane,
            str(info.attempt),
            _span(seconds),
            one_line(each.worker),
            one_line(each.job_id),
            style="yellow" if seconds >= LONG_S else "",
        )
    if not now.running:
        _add(table, "not known" if "Redis" in now.faults else "nothing", style="dim")
    return _with_rest(table, len(now.running) - most)


def _failures(now: Snapshot, zone: ZoneInfo, most: int) -> Table:
    table = _table(("failed", "job", "page", "end", "try", "error"), ("try",))
    for run in now.failures[:most]:
        _add(
            table,
            f"{run.finished_at.astimezone(zone):%m-%d %H:%M:%S}",
            one_line(run.job),
            one_line(run.page_id),
            "DEAD" if run.end == "dead" else run.end,
            str(run.attempt),
            one_line(run.error),
            style="red" if run.end == "dead" else "",
        )
    return table


def _schedules(now: Snapshot, zone: ZoneInfo, most: int) -> Table:
    table = _table(("next", "schedule", "in", "last run", "skipped", "missed"), ("in", "skipped", "missed"))
    for plan, tick in upcoming(now.plans, now.at)[:most]:
        late_s = (now.at - tick).total_seconds()
        _add(
            table,
            f"{tick.astimezone(zone):%m-%d %H:%M:%S}",
            plan.name,
            f"LATE {in_short(late_s)}" if late_s > LATE_S else in_short(max(0.0, -late_s)),
            last_run(plan, now.at),
            str(plan.state.skipped or ""),
            str(plan.state.missed or ""),
            style="red" if late_s > LATE_S else "",
        )
    return table


def upcoming(plans: Iterable[Plan], now: datetime) -> list[tuple[Plan, datetime]]:
    """Schedules that are on with their next tick, the soonest first; of one that is late the tick it is late for."""
    found: list[tuple[Plan, datetime]] = []
    for plan in plans:
        known = [at for at in (plan.state.last_tick_at, plan.state.active_from) if at is not None]
        tick = plan.next_after(max(known) if known else now)
        if tick is not None:
            found.append((plan, tick))
    return sorted(found, key=lambda each: each[1])


def _table(heads: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    for place, head in enumerate(heads):
        is_last = place == len(heads) - 1
        table.add_column(
            head,
            justify="right" if head in numbers else "left",
            no_wrap=not is_last,  # the one that may be narrower; its cells are cut, see `_add`
        )
    return table


def _add(table: Table, *cells: str, style: str = "") -> None:
    """A row as it is written: what others sent is no markup."""
    table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells), style=style)


def _with_rest(table: Table, rest: int) -> Table:
    if rest > 0:
        _add(table, f"... and {rest} more", style="dim")
    return table


def _span(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < LONG_S else in_short(seconds)
