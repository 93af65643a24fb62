"""The command line as a person uses it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from redis import Redis

from tests.acceptance.processes import COMMAND, environment, of_simulator, run
from tests.conftest import Servers
from tests.simulators.pancake import SimulatorProcess


@pytest.fixture
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(
        "--pages", "2", "--customers", "350", "--live", "0", "--switches", '{"rate_limit": 0}'
    ) as process:
        yield process


@pytest.fixture
def env(servers: Servers, database_name: str, simulator: SimulatorProcess) -> dict[str, str]:
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    return environment(servers, database_name, **of_simulator(simulator))


def test_sync_brings_everything_and_says_so(servers: Servers, env: dict[str, str]) -> None:
    """`sync customers`, then `--backfill`: all customers stored, a line a page; doctor then finds all well."""
    for options in ([], ["--backfill"]):
        done = run([*COMMAND, "sync", "customers", *options], env)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("rows") >= 2
    with MongoClient[dict[str, Any]](servers.mongodb_uri) as client:
        database = client[env["MONGODB_DATABASE"]]
        assert database["customers"].count_documents({}) == 700
        here = {"job": "sync_page_customers", "end": "done", "worker": {"$regex": ":here$"}}
        assert database["job_runs"].count_documents(here) == 4  # what runs here is in the history as well
        database["agents"].insert_one({"name": "till-7", "status": "online"})
    doctor = run([*COMMAND, "doctor"], env)
    assert doctor.returncode == 0, doctor.stdout
    assert doctor.stdout.count("350 customers") == 2
    assert "note  agents: 1 documents have no agentId" in doctor.stdout
    assert doctor.stdout.count("history complete") == 2


def test_sync_knows_every_stream(servers: Servers, env: dict[str, str]) -> None:
    """Posts, and conversations with their messages and who waits in them."""
    for stream in ("posts", "conversations"):
        done = run([*COMMAND, "sync", stream, "--backfill"], env)
        assert done.returncode == 0, done.stderr
    with MongoClient[dict[str, Any]](servers.mongodb_uri) as client:
        database = client[env["MONGODB_DATABASE"]]
        found = list(database["conversations"].find())
        assert len(found) == 140
        assert database["posts"].count_documents({}) > 10
        assert database["messages"].count_documents({}) > 140
        assert {each["lastSender"] for each in found} <= {"customer", "agent", "bot", "system"}
        assert any(each["awaitingReplySince"] for each in found)


def test_run_prints_one_json_line(env: dict[str, str]) -> None:
    """`run` of a fan-out runs its children too and reports them in one line; a quiet pass costs one call a page."""
    assert json.loads(run([*COMMAND, "run", "sync_pages"], env).stdout)["new"] == 2
    for _ in range(2):
        done = run([*COMMAND, "run", "sync_customers_incremental"], env)
        lines = done.stdout.splitlines()
        assert len(lines) == 1
        report = json.loads(lines[0])
    assert (done.returncode, report["outcome"], report["children"], report["calls"]) == (0, "enqueued", 2, 2)


@pytest.mark.parametrize(
    ("arguments", "changed", "code", "said"),
    [
        (["run", "sync_nothing"], {}, 2, "there is no job 'sync_nothing'; there are check_agents"),
        (["run", "sync_page_customers"], {}, 2, "page_id: field required"),
        (["run", "sync_pages", "--arg", "x"], {}, 2, "write name=value"),
        (["run", "sync_pages", "--arg", "x=1"], {"REDIS_URL": "redis://127.0.0.1:1"}, 2, "x: extra inputs"),
        (["run", "sync_pages"], {"PANCAKE_ACCESS_TOKEN": "wrong"}, 1, "take a new one from Account"),
        (["doctor"], {"PANCAKE_ACCESS_TOKEN": "wrong"}, 1, "WRONG Pancake"),
        (["doctor"], {"REDIS_URL": "redis://127.0.0.1:1"}, 1, "WRONG Redis: Redis does not answer at"),
        (["doctor"], {"SYNC_SLICES": "many"}, 1, "SYNC_SLICES: "),
        (["sync", "customers"], {"PANCAKE_BASE_URL": "http://127.0.0.1:1/api"}, 1, "is Pancake reachable?"),
    ],
    ids=[
        "job",
        "missing",
        "form",
        "extra, and no Redis",
        "token",
        "doctor-token",
        "doctor-redis",
        "doctor-settings",
        "dead",
    ],
)
def test_a_mistake_is_answered_with_what_to_do(
    env: dict[str, str], arguments: list[str], changed: dict[str, str], code: int, said: str
) -> None:
    """Wrong calls exit 2, what failed exits 1; both in words, without a traceback."""
    done = run([*COMMAND, *arguments], {**env, **changed})
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
