"""The picture of `top`: what an operator reads from it, and that it fits."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from src.catalog import CATALOG
from src.cli.top_shown import Running, Snapshot, frame, rates_of, upcoming
from src.engine.facts import JobInfo, QueueStats
from src.scheduling.plan import Plan, plan_of
from src.store.agents import Agent
from src.store.job_runs import PastRun
from src.store.schedules import LastRun, StoredSchedule

NOON = datetime(2026, 5, 14, 12, tzinfo=UTC)
ZONE = ZoneInfo("Asia/Ho_Chi_Minh")


def lane(**changed: Any) -> QueueStats:
    usual = dict.fromkeys(("pending", "active", "scheduled", "retry", "dead", "processed", "failed"), 0)
    return QueueStats(**{**usual, "paused": False, "latency_s": 0.0, **changed})


def running(number: int = 0, seconds: float = 5.0, **changed: Any) -> Running:
    at = NOON.timestamp() - seconds
    info = JobInfo("active", "sync_page_customers", "sync", 1, at, at, page_id="100")
    return Running(f"id-{number}", info, "shop-1:4711")


def failure(**changed: Any) -> PastRun:
    usual: dict[str, Any] = {
        "job": "sync_pages",
        "job_id": "x",
        "lane": "sync",
        "worker": "w",
        "attempt": 2,
        "started_at": NOON,
        "finished_at": NOON,
        "duration_ms": 5.0,
        "waited_ms": None,
        "end": "dead",
        "outcome": "",
        "error": "Pancake is away",
        "page_id": "",
        "trace_id": "",
        "schedule": "",
        "tick_at": None,
        "details": {},
    }
    return PastRun(**{**usual, **changed})


def plan(name: str, expression: str, last: datetime | None) -> Plan:
    state = StoredSchedule(name, last_tick_at=last, last_run=LastRun("done", NOON, 1_500.0), skipped=3)
    return plan_of(name, {"job": "check_agents", "schedule": expression}, state, CATALOG, ZONE)


def shown(now: Snapshot, before: Snapshot | None = None, *, width: int = 120, height: int = 40) -> str:
    out = StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(frame(now, before, ZONE, height))
    return out.getvalue()


def line_of(text: str, start: str) -> str:
    (found,) = [line for line in text.splitlines() if line.startswith(start)]
    return " ".join(found.split())


def test_what_happens_is_seen_at_a_glance() -> None:
    """Rates since the last look, the oldest job, what is paused, what runs for long, what failed, what is late."""
    before = Snapshot(NOON - timedelta(seconds=2), {"sync": lane(processed=100), "reports": lane()})
    now = Snapshot(
        NOON,
        {
            "sync": lane(pending=7, active=2, dead=1, latency_s=125.0, processed=150, failed=3),
            "reports": lane(pending=1, paused=True),
        },
        [running(1, 400.0), running(2)],
        [
            Agent("worker@shop-1:1", "worker", True, NOON, metrics={"runningJobs": 2, "memoryMb": 80.4}),
            Agent("worker@shop-2:2", "worker", False, NOON - timedelta(minutes=5)),
        ],
        [failure()],
        [plan("nightly", "0 2 * * *", NOON - timedelta(days=2)), plan("often", "*/5 * * * *", NOON)],
    )
    text = shown(now, before)
    assert "2026-05-14 19:00:00 1 worker 2 running 8 waiting 1 dead letters 25.0 jobs/s" in " ".join(text.split())
    assert line_of(text, "sync ") == "sync 7 2 1 2m 5s 25.0 150 3"
    assert line_of(text, "reports").endswith("PAUSED")
    assert line_of(text, "worker@shop-1").startswith("worker@shop-1:1 online 2 80 MB")
    assert "GONE" in line_of(text, "worker@shop-2")
    assert line_of(text, "05-14 19:00:00 ").endswith("sync_pages DEAD 2 Pancake is away")
    runs = [" ".join(line.split()) for line in text.splitlines() if line.startswith("sync_page_customers")]
    assert runs[0] == "sync_page_customers 100 sync 1 6m 40s shop-1:4711 id-1"
    assert "LATE" in line_of(text, "05-13 02:00:00")
    assert line_of(text, "05-14 19:05:00") == "05-14 19:05:00 often 5m done, 1.5s 3"


@given(st.integers(0, 60), st.integers(0, 30), st.integers(0, 30), st.integers(0, 9), st.integers(24, 80))
def test_it_fits_the_window(jobs: int, failures: int, plans: int, lanes: int, height: int) -> None:
    """Whatever goes on; what there is no room for is a number."""
    now = Snapshot(
        NOON,
        {f"lane-{number}": lane() for number in range(lanes)},
        [running(number) for number in range(jobs)],
        [],
        [failure()] * failures,
        [plan(f"s-{number}", "@every 1h", NOON) for number in range(plans)],
    )
    assert len(shown(now, height=height).splitlines()) <= max(height - 1, lanes + 19)


def test_in_a_narrow_window_only_the_last_column_gives_way() -> None:
    """A long error is cut, not the time and the page before it."""
    text = shown(Snapshot(NOON, failures=[failure(error="x" * 500, page_id="100200300400500")]), width=80)
    assert line_of(text, "05-14 19:00:00").startswith("05-14 19:00:00 sync_pages 100200300400500 DEAD 2 xxx")
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_is_known_and_it_says_why() -> None:
    """Both servers away: no traceback, no empty picture."""
    text = shown(Snapshot(NOON, faults={"Redis": "Redis at redis://shop does not answer (ConnectionError)"}))
    assert "does not answer" in text
    assert "0 workers ? running ? waiting ? dead letters" in " ".join(text.split())
    assert "not known" in text


def test_text_of_others_neither_breaks_lines_nor_speaks_to_the_terminal() -> None:
    """An error may hold what a stranger sent."""
    text = shown(Snapshot(NOON, failures=[failure(error="a\nb\x1b[31m[bold]c[/bold]")]))
    assert "a b [31m[bold]c[/bold]" in text
    assert "\x1b" not in text


def test_rates_are_never_negative() -> None:
    """Redis was emptied between two looks."""
    before = Snapshot(NOON - timedelta(seconds=1), {"sync": lane(processed=100)})
    assert rates_of(Snapshot(NOON, {"sync": lane(processed=3), "new": lane()}), before) == {"sync": 0}
    assert rates_of(Snapshot(NOON, {"sync": lane()}), None) == {}


@pytest.mark.parametrize("last", [None, NOON])
def test_of_a_schedule_the_next_tick_is_shown(last: datetime | None) -> None:
    """Also of one that never ran."""
    ((_, tick),) = upcoming([plan("often", "*/5 * * * *", last)], NOON)
    assert tick == NOON + timedelta(minutes=5)
