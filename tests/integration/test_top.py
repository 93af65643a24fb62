"""What `top` asks of real servers, and what it does while they are away."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from src.cli.top import Eyes
from src.deps import Deps
from src.settings import MongoSettings, RedisSettings, Settings
from src.store.run_document import Run
from tests.harness.jobs import job as job_of
from tests.harness.lanes import Gate, serving

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
NOBODY = "127.0.0.1:1"


async def test_it_sees_what_runs_and_what_failed(settings: Settings) -> None:
    """From Redis and from MongoDB."""
    gate = Gate()

    async def hold(deps: Deps, page_id: str) -> str:
        await gate.enter(page_id)
        return "done"

    async with serving(settings, job_of(hold, "reports")) as house:
        now = datetime.now(UTC).timestamp()
        failed = Run("hold", "x", "reports", "w", 1, now, now, 0.1, "dead", "", "broken", "", {"page_id": "2"})
        await house.deps.job_runs.add(house.deps.job_runs.documents([failed], timedelta(days=1)))
        await house.deps.agents.check_in("worker@here:1", datetime.now(UTC), kind="worker")
        await house.enqueue("hold", page_id="1")
        await gate.has(1)
        eyes = Eyes(settings)
        seen = await eyes.look()
        await eyes.close()
        gate.open()
    assert seen.faults == {}
    assert (seen.lanes["reports"].active, seen.lanes["reports"].processed) == (1, 0)
    assert [(each.info.job, each.info.page_id) for each in seen.running] == [("hold", "1")]
    assert seen.running[0].worker == "test"
    assert [(run.job, run.error, run.page_id) for run in seen.failures] == [("hold", "broken", "2")]
    assert [agent.agent_id for agent in seen.workers] == ["worker@here:1"]
    assert "sync_pages" in {plan.name for plan in seen.plans}


@pytest.mark.parametrize("away", ["Redis", "MongoDB"])
async def test_one_server_that_is_away_leaves_what_the_other_knows(settings: Settings, deps: Deps, away: str) -> None:
    """And the picture says so."""
    if away == "Redis":
        gone = settings.replace(redis=RedisSettings(url=SecretStr(f"redis://{NOBODY}")))
    else:
        gone = settings.replace(mongo=MongoSettings(uri=SecretStr(f"mongodb://{NOBODY}"), database="x"))
    eyes = Eyes(gone)
    async with asyncio.timeout(20):
        seen = await eyes.look()
    await eyes.close()
    ((server, fault),) = seen.faults.items()
    assert server == away
    assert fault.startswith(away)
    assert bool(seen.lanes) == (away == "MongoDB")
    assert bool(seen.plans) == (away == "Redis")
