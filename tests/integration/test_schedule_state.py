"""What is kept of schedules beside what was set of them, in whatever order it comes and whoever's clock is wrong."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from src import cli
from src.deps import Deps
from src.store.agents import Agents
from src.store.schedules import LastRun, Progress
from tests.acceptance.processes import environment
from tests.conftest import Servers

NOON = datetime(2026, 5, 14, 12, tzinfo=UTC)


@pytest.mark.anyio
async def test_a_run_that_is_noted_before_its_tick_is_kept(deps: Deps) -> None:
    """Two workers note the first tick of a schedule of the settings: one that it was fired, one how it ran."""
    run = LastRun("done", NOON, 5.0, tick_at=NOON)
    await deps.schedules.ran("sync_pages", run, 7, make=True)
    await deps.schedules.note("sync_pages", Progress(tick=NOON, job_id="sync_pages:1"), make=True)
    await deps.schedules.ran("sync_pages", LastRun("retry", NOON, 5.0), 6, make=True)  # of a holder before
    stored = (await deps.schedules.all())["sync_pages"]
    assert (stored.last_run, stored.last_tick_at, stored.last_job_id) == (run, NOON, "sync_pages:1")


@pytest.mark.anyio
async def test_a_tick_that_lies_ahead_is_replaced(deps: Deps) -> None:
    """A clock was a day ahead for a moment; an older tick that comes late replaces nothing else."""
    now = datetime.now(UTC).replace(microsecond=0)
    day = timedelta(days=1)
    for tick, noted in ((now, now), (now - day, now), (now + day, now + day), (now, now)):
        await deps.schedules.note("sync_pages", Progress(tick=tick, job_id=f"sync_pages:{tick}"), make=True)
        stored = (await deps.schedules.all())["sync_pages"]
        assert (stored.last_tick_at, stored.last_job_id) == (noted, f"sync_pages:{noted}")


@pytest.mark.anyio
async def test_a_run_of_a_schedule_that_was_removed_brings_it_not_back(deps: Deps) -> None:
    """Only those of the settings are there without a document."""
    await deps.schedules.ran("gone", LastRun("done", NOON, 5.0), 7)
    assert await deps.schedules.all() == {}


def test_a_command_goes_by_the_clock_of_the_shop(
    servers: Servers, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be given on a machine that is an hour ahead, and the schedule would be silent until then."""

    async def clock(_: Agents) -> datetime:
        return NOON

    monkeypatch.setattr(Agents, "clock", clock)
    for name, value in environment(servers, database_name).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        cli.app(["schedules", "add", "beat", "--job", "check_agents", "--cron", "@hourly"])
    assert ended.value.code == 0
    with MongoClient[dict[str, Any]](servers.mongodb_uri, tz_aware=True) as client:
        (stored,) = client[database_name]["schedules"].find()
    assert stored["activeFrom"] == NOON
