"""What is known of a schedule's last tick, from what is stored of it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from src.catalog import CATALOG
from src.cli.schedules_shown import last_run
from src.scheduling.plan import Plan, plan_of
from src.store.schedules import LastRun, StoredSchedule

TICK = datetime(2026, 5, 14, 2, tzinfo=UTC)
ZONE = ZoneInfo("Asia/Ho_Chi_Minh")


def plan(job_id: str, ran: LastRun | None) -> Plan:
    state = StoredSchedule("nightly", last_tick_at=TICK, last_job_id=job_id, last_run=ran)
    return plan_of("nightly", {"job": "check_agents", "schedule": "0 2 * * *"}, state, CATALOG, ZONE)


OWN = f"nightly:{int(TICK.timestamp())}"
BEFORE = LastRun("done", TICK - timedelta(days=1), 500.0, tick_at=TICK - timedelta(days=1))


@pytest.mark.parametrize(
    ("job_id", "ran", "shown"),
    [
        (OWN, BEFORE, "not over, 1m 21s"),
        (OWN, None, "not over, 1m 21s"),
        # that of the tick before, which ran for longer than until this one
        (OWN, LastRun("done", TICK + timedelta(seconds=1), 9e4, tick_at=TICK - timedelta(days=1)), "not over, 1m 21s"),
        (OWN, LastRun("retry", TICK - timedelta(seconds=1), 500.0, tick_at=TICK), "retry, 0.5s"),  # a slow clock
        (OWN, LastRun("done", TICK + timedelta(seconds=1), 500.0), "done, 0.5s"),  # noted by an older worker
        ("check_agents:of another", BEFORE, "done, 0.5s"),
        ("", BEFORE, "done, 0.5s"),
    ],
)
def test_a_tick_whose_run_has_not_ended_hides_the_run_before(job_id: str, ran: LastRun | None, shown: str) -> None:
    """A backfill that waits looked like one that was done."""
    assert last_run(plan(job_id, ran), TICK + timedelta(seconds=81)) == shown


def test_a_tick_of_this_moment_is_not_told_of() -> None:
    """Its run may have ended, and nobody has noted it yet."""
    assert last_run(plan(OWN, BEFORE), TICK + timedelta(seconds=4)) == "done, 0.5s"
