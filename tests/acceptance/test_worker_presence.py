"""Workers as agents: real processes that start, end and are killed."""

import os
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from redis import Redis

from tests.acceptance.processes import COMMAND, UNSCHEDULED, WORKER, ended, environment, run, running, until
from tests.conftest import Servers

Mongo = Database[dict[str, Any]]


@pytest.fixture
def database(servers: Servers, database_name: str) -> Iterator[Mongo]:
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    with MongoClient[dict[str, Any]](servers.mongodb_uri, tz_aware=True) as client:
        yield client[database_name]


def name_of(pid: int) -> str:
    return f"folkform-worker@{socket.gethostname()}:{pid}"


def state(database: Mongo, pid: int) -> tuple[str, bool] | None:
    """Its status, and whether it said goodbye or gave way."""
    found = database["agents"].find_one({"agentId": name_of(pid)})
    return (found["status"], found["checkedOutAt"] is not None) if found else None


def told(database: Mongo, env: dict[str, str]) -> int:
    """Look at workers ten minutes later; returns how many were told of so far."""
    for agent in list(database["agents"].find({"status": "online"})):
        ago = datetime.now(UTC) - timedelta(minutes=10)
        database["agents"].update_one({"_id": agent["_id"]}, {"$set": {"lastCheckInAt": ago}})
    assert run([*COMMAND, "run", "check_jobs"], env).returncode == 0
    return database["alerts"].count_documents({"kind": "worker_gone"})


def test_a_worker_checks_in_again_and_again_and_says_goodbye(servers: Servers, database: Mongo, tmp_path: Path) -> None:
    """A deploy is no alert."""
    env = {**environment(servers, database.name, MONITOR_WORKER_CHECK_IN_SECONDS="0.2"), **UNSCHEDULED}
    with running(WORKER, env, tmp_path / "log") as worker:
        until(lambda: state(database, worker.pid) == ("online", False), "the worker checks in")
        first = database["agents"].find_one({"agentId": name_of(worker.pid)})
        assert first is not None
        assert first["systemInfo"]["pid"] == worker.pid
        assert first["metrics"]["memoryMb"] > 10
        find = {"agentId": name_of(worker.pid), "lastCheckInAt": {"$gt": first["lastCheckInAt"]}}
        until(lambda: database["agents"].count_documents(find) == 1, "it checks in again")
        assert ended(worker, signal.SIGTERM) == 0
        assert state(database, worker.pid) == ("offline", True)
    assert told(database, env) == 0


def test_a_killed_worker_is_missed_unless_another_takes_its_place(
    servers: Servers, database: Mongo, tmp_path: Path
) -> None:
    """Two are killed and one comes back, under another number: one is told of, not two and not none."""
    env = {**environment(servers, database.name), **UNSCHEDULED}
    with running(WORKER, env, tmp_path / "a") as one, running(WORKER, env, tmp_path / "b") as two:
        pids = one.pid, two.pid
        for pid in pids:
            until(lambda pid=pid: state(database, pid) is not None, "the worker checks in")  # type: ignore[misc]
    assert not any(_is_there(pid) for pid in pids)
    with running(WORKER, env, tmp_path / "c") as third:
        until(lambda: [state(database, pid) for pid in pids].count(("offline", True)) == 1, "one gives way")
        assert ended(third, signal.SIGTERM) == 0
    assert told(database, env) == 1


def test_a_killed_worker_is_told_of_by_another_and_so_is_its_successor(
    servers: Servers, database: Mongo, tmp_path: Path
) -> None:
    """Fifteen times as fast as it is set usually, so within four seconds where a minute is promised."""
    quick = {"MONITOR_WORKER_CHECK_IN_SECONDS": "0.5", "MONITOR_WORKER_OFFLINE_SECONDS": "2"}
    env = {**environment(servers, database.name, **quick), **UNSCHEDULED, "SCHEDULE_CHECK_JOBS": "@every 1s"}

    def titles() -> list[str]:
        return [each["title"] for each in database["notifications"].find().sort("createdAt", 1)]

    with running(WORKER, env, tmp_path / "a") as one, running(WORKER, env, tmp_path / "b") as two:
        for pid in (one.pid, two.pid):
            until(lambda pid=pid: state(database, pid) is not None, "the worker checks in")  # type: ignore[misc]
        ended(one, signal.SIGKILL)
        until(lambda: len(titles()) == 1, "it is told", 10)
        assert name_of(one.pid) in titles()[0]
        assert socket.gethostname() in titles()[0]
        with running(WORKER, env, tmp_path / "c") as three:
            until(lambda: len(titles()) == 2, "its successor is told of")
            assert name_of(one.pid) in titles()[1]
            looks = database["job_runs"].count_documents({"job": "check_jobs"})
            until(lambda: database["job_runs"].count_documents({"job": "check_jobs"}) > looks + 1, "it is looked again")
            assert len(titles()) == 2
            assert [ended(worker, signal.SIGTERM) for worker in (two, three)] == [0, 0]


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
