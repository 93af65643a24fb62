"""`arq src.worker.WorkerSettings` as a shop runs it: a real process on real servers, the simulator for Pancake."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from redis import Redis

from scripts._parts import HEALTH_KEY
from scripts._services import start_redis
from tests.acceptance.processes import WORKER, ended, environment, of_simulator, run, running, until
from tests.conftest import CACHE, Servers
from tests.simulators.pancake import SimulatorProcess

Mongo = Database[dict[str, Any]]


@pytest.fixture
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(
        "--pages", "2", "--customers", "450", "--live", "0", "--switches", '{"rate_limit": 0}'
    ) as process:
        yield process


@pytest.fixture
def database(servers: Servers, database_name: str) -> Iterator[Mongo]:
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    with MongoClient[dict[str, Any]](servers.mongodb_uri) as client:
        yield client[database_name]


def truth(simulator: SimulatorProcess, page_id: str) -> dict[str, int]:
    """What the simulator holds: psid to version."""
    rows: Any = simulator.control("GET", f"truth?page_id={page_id}")["rows"]
    return {row["psid"]: row["version"] for row in rows}


def stored(database: Mongo, page_id: str) -> dict[str, int]:
    """What is stored: psid to version."""
    found = database["customers"].find({"pageId": page_id, "deletedAt": None})
    return {row["psid"]: row["panCakeData"]["sim_version"] for row in found}


def passes(redis: Redis) -> int:
    """How many passes over a page wait or run."""
    return len(list(redis.scan_iter("folkform:unique:sync_page_customers:*")))


def page_ids(database: Mongo) -> list[str]:
    return [page["pageId"] for page in database["pages"].find()]


def all_there(simulator: SimulatorProcess, database: Mongo) -> bool:
    ids = page_ids(database)
    return len(ids) == 2 and all(stored(database, page_id) == truth(simulator, page_id) for page_id in ids)


def test_a_new_shop_is_complete_and_the_end_is_clean(
    servers: Servers, database: Mongo, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    """A worker started on empty servers fetches pages, news and history by itself, and ends at SIGTERM with exit 0."""
    env = environment(servers, database.name, **of_simulator(simulator))
    with running(WORKER, env, tmp_path / "log") as worker:
        until(lambda: all_there(simulator, database), "every customer is stored")
        with Redis.from_url(servers.redis_url) as redis:
            assert redis.exists(HEALTH_KEY)  # what `scripts/start` waits for
        check = run([*WORKER[:-1], "--check", WORKER[-1]], env)
        assert check.returncode == 0
        assert ended(worker, signal.SIGTERM) == 0
    log = (tmp_path / "log").read_text()
    assert '"message":"worker shutdown completed"' in log
    assert "Traceback" not in log
    for token in (simulator.user_token, *(page["pageAccessToken"] for page in database["pages"].find())):
        assert token not in log


def test_a_schedule_brings_what_changed(
    servers: Servers, database: Mongo, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    """A customer born, changed or written by the second before the last pass arrives with the next tick."""
    env = environment(
        servers,
        database.name,
        **of_simulator(simulator),
        SCHEDULE_SYNC_CUSTOMERS_INCREMENTAL="@every 1s",
    )
    with running(WORKER, env, tmp_path / "log"):
        until(lambda: all_there(simulator, database), "every customer is stored")
        for page_id in page_ids(database):
            simulator.control("POST", "birth", page_id=page_id, rows=3)
            simulator.control("POST", "change", page_id=page_id, rows=40)
            simulator.control("POST", "tie", page_id=page_id, rows=150)
        until(lambda: all_there(simulator, database), "the changes are stored")


def test_a_worker_killed_in_the_middle_loses_nothing(
    servers: Servers, database: Mongo, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    """SIGKILL while a page is read: within the lease the next worker goes on, and every customer arrives."""
    simulator.control("POST", "switches", latency_ms=150)
    env = environment(servers, database.name, **of_simulator(simulator), WORKER_LEASE_SECONDS="2")
    with running(WORKER, env, tmp_path / "log") as worker:
        until(lambda: database["customers"].count_documents({}) > 0, "the first customers are stored")
        worker.kill()
        worker.wait(10)
    assert not all_there(simulator, database)
    simulator.control("POST", "switches", latency_ms=0)
    with running(WORKER, env, tmp_path / "log"):
        until(lambda: all_there(simulator, database), "the rest is stored", 20)


def test_sigterm_puts_a_running_pass_back_at_once(
    servers: Servers, database: Mongo, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    """A pass that hangs in a call is given back to the queue after the grace time, and spends no try."""
    env = environment(servers, database.name, **of_simulator(simulator), WORKER_SHUTDOWN_SECONDS="1")
    simulator.control("POST", "switches", latency_ms=8000)
    with running(WORKER, env, tmp_path / "log") as worker, Redis.from_url(servers.redis_url) as redis:
        until(lambda: passes(redis) >= 2 and redis.hlen("folkform:running:sync") >= 2, "passes run", 90)
        assert ended(worker, signal.SIGTERM, 20) == 0
        assert not redis.keys("arq:in-progress:*")
        assert not redis.exists("folkform:running:sync")
        assert passes(redis) >= 2
        assert not redis.keys("folkform:tries:*")


def test_a_restart_of_redis_passes_unnoticed(
    servers: Servers, database: Mongo, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    """Redis is killed under a running worker and comes back: the worker lives, and its schedules go on."""
    first = start_redis(tmp_path / "redis", CACHE, environ={})
    more = {**of_simulator(simulator), "REDIS_URL": first.url, "SCHEDULE_SYNC_CUSTOMERS_INCREMENTAL": "@every 1s"}
    try:
        with running(WORKER, {**environment(servers, database.name), **more}, tmp_path / "log") as worker:
            until(lambda: all_there(simulator, database), "every customer is stored")
            first.stop()
            for page_id in page_ids(database):
                simulator.control("POST", "birth", page_id=page_id, rows=3)
            port = int(first.url.rpartition(":")[2].partition("/")[0])
            with start_redis(tmp_path / "redis", CACHE, port=port, environ={}):
                until(lambda: all_there(simulator, database), "the schedule goes on")
                assert ended(worker, signal.SIGTERM) == 0
    finally:
        first.stop()


def test_one_dead_page_stops_no_other(
    servers: Servers, database: Mongo, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    """A page whose every call fails is named in the outcome; the other page is complete."""
    env = environment(servers, database.name, **of_simulator(simulator))
    assert run([*WORKER[:2], "src", "run", "sync_pages"], env).returncode == 0
    dead, well = sorted(page_ids(database))
    simulator.control("POST", "switches", page_failures=[dead])
    done = run([*WORKER[:2], "src", "run", "sync_customers_backfill"], env, 120)
    assert done.returncode == 1
    assert f'"page_id":"{dead}"' in done.stdout
    assert f'"page_id":"{well}"' not in done.stdout
    assert stored(database, well) == truth(simulator, well)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"REDIS_URL": "redis://:hidden@127.0.0.1:1/0"},
            "cannot start: Redis does not answer at redis://127.0.0.1:1/0",
        ),
        ({"MONGODB_URI": "mongodb://u:hidden@127.0.0.1:1"}, "cannot start: MongoDB does not answer at mongodb://127"),
        ({"TIMEZONE": "Mars", "REDIS_PORT": "x"}, "TIMEZONE: 'Mars' is no time zone"),
    ],
    ids=["redis", "mongodb", "settings"],
)
def test_a_start_that_cannot_work_says_why(
    servers: Servers, database_name: str, wrong: dict[str, str], said: str
) -> None:
    """A wrong setting or a missing server ends the start with a line that says what to do, and no traceback."""
    done = run(WORKER, environment(servers, database_name, **wrong))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stdout + done.stderr
