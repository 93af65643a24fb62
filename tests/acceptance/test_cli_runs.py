"""`runs` as a person calls it: why was last night's backfill late?"""

import asyncio
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from src.clients.mongo import open_database
from src.engine.history import History
from src.settings import MongoSettings
from src.store.job_runs import JobRuns
from src.store.run_document import Run
from src.store.run_minutes import RunMinutes
from tests.acceptance.processes import COMMAND, UNSCHEDULED, environment, run
from tests.conftest import Servers

BACKFILL = "sync_customers_backfill"
NIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(hours=5)  # 02:00 in Vietnam


@pytest.fixture
def env(servers: Servers, database_name: str) -> dict[str, str]:
    # Redis is away: the history is asked of MongoDB alone
    return {**environment(servers, database_name), **UNSCHEDULED, "REDIS_URL": "redis://127.0.0.1:1"}


def backfill(started: datetime, end: str, **changed: Any) -> Run:
    at = started.timestamp()
    usual: dict[str, Any] = {"outcome": "", "error": "", "trace_id": "a" * 32, "schedule": BACKFILL}
    usual |= {"tick_at": NIGHT.timestamp(), "attempt": 1, "enqueued_at": NIGHT.timestamp(), "duration_s": 2.5}
    fields = {"worker": "shop-1:4711:abc", **usual, **changed}
    return Run(BACKFILL, "id", "sync", started_at=at, end=end, **fields)


def seed(env: dict[str, str]) -> None:
    """A night on which the worker was away, the lane was full, and Pancake failed once."""
    late = NIGHT + timedelta(minutes=47)
    runs = [
        backfill(NIGHT - timedelta(hours=1), "skipped", error="the run before it goes on (x)", attempt=0, worker=""),
        backfill(NIGHT - timedelta(hours=2), "missed", error="no worker was there for the tick", attempt=0, worker=""),
        backfill(late, "retry", error="Pancake does not answer"),
        backfill(late + timedelta(seconds=9), "done", attempt=2, outcome="enqueued", details={"pages": 3}),
    ]

    async def write() -> None:
        mongo = MongoSettings(uri=SecretStr(env["MONGODB_URI"]), database=env["MONGODB_DATABASE"])
        async with open_database(mongo) as database:
            minutes = RunMinutes(database, timedelta(days=60))
            history = History(JobRuns(database), minutes, days=14, worker="w", known=[BACKFILL])
            for each in runs:
                history.add(each)
            await history.close()

    asyncio.run(write())


def test_a_newcomer_finds_why_the_backfill_was_late(env: dict[str, str]) -> None:
    """It waited for 47 minutes, failed once, and what did not run says why; newest first, in local time."""
    empty = run([*COMMAND, "runs"], env)
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "is a worker running" in empty.stderr
    seed(env)
    done = run([*COMMAND, "runs", "--schedule", BACKFILL, "--since", "3d"], env)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert lines[0] == "started job end waited took attempt lane worker what"
    day = f"{NIGHT + timedelta(hours=7):%m-%d}"
    assert lines[1] == f"{day} 02:47:09 {BACKFILL} done 2.5s 2 sync shop-1:4711 enqueued pages=3"
    assert lines[2].startswith(f"{day} 02:47:00 {BACKFILL} retry 47m 2.5s 1 sync shop-1:4711 Pancake does not answer")
    assert lines[2].endswith("(47m after its tick of 02:00:00)")
    assert lines[3] == f"{day} 01:00:00 {BACKFILL} skipped sync the run before it goes on (x)"
    assert lines[4].startswith(f"{day} 00:00:00 {BACKFILL} missed sync no worker was there")
    failed = run([*COMMAND, "runs", "--failed", "--json"], env)
    (line,) = failed.stdout.splitlines()
    assert json.loads(line)["error"] == "Pancake does not answer"
    summary = run([*COMMAND, "runs", "--summary", "--since", "3d"], env)
    row = " ".join(summary.stdout.splitlines()[1].split())
    assert row == f"{BACKFILL} 2 1 2.5s 2.5s 2.5s 2.5s 47m 47m 1 skipped, 1 missed"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "yesterday"),
        ("--since", "1h", "--until", "2h"),
        ("--summary", "--failed"),
        ("--summary", "--limit", "3"),
    ],
)
def test_a_wrong_call_is_refused_in_a_line(env: dict[str, str], arguments: tuple[str, ...]) -> None:
    """Before anything is opened."""
    done = run([*COMMAND, "runs", *arguments], env)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--job", "sync_page_custmers"), "there is no job 'sync_page_custmers'; did you mean sync_page_customers"),
        (("--summary", "--job", "x"), "there is no job 'x'; there are "),
        (("--schedule", "sync_custmers_backfill"), "no schedule 'sync_custmers_backfill'; did you mean sync_customers"),
        (("--job", "sync_pages"), "no run fits; "),
        (("--since", "9999-12-31", "--until", "9999-12-31"), "no run fits; "),
    ],
)
def test_who_finds_nothing_is_told_why(env: dict[str, str], arguments: tuple[str, ...], said: str) -> None:
    """A name that is misspelt looks like a job that never ran."""
    seed(env)
    done = run([*COMMAND, "runs", *arguments], env)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (0, "", 1)
    assert said in done.stderr


def test_a_full_disk_is_told_in_a_line(env: dict[str, str]) -> None:
    seed(env)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, "runs"], env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (1, "the output could not be written: no space is left there\n")
