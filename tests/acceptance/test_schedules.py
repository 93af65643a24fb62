"""Schedules by command, in workers that run: in force within seconds, refused in a sentence, fired once."""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from redis import Redis

from tests.acceptance.processes import COMMAND, UNSCHEDULED, WORKER, environment, run, running, until
from tests.conftest import Servers

IN_FORCE_S = 5.0
JOB = "reconcile_webhooks"  # finds nothing to do


@dataclass
class Shop:
    """What a person sees of it: commands, and what is stored."""

    database: Database[dict[str, Any]]
    env: dict[str, str]

    def command(self, *arguments: str) -> dict[str, Any]:
        done = run([*COMMAND, "schedules", *arguments], self.env)
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def refusal(self, *arguments: str) -> str:
        done = run([*COMMAND, "schedules", *arguments], self.env)
        assert (done.returncode, done.stdout) == (2, "")
        return done.stderr

    def last_tick(self, name: str) -> datetime | None:
        found = self.database["schedules"].find_one({"name": name}) or {}
        return found.get("lastTickAt")

    def ticks(self, name: str, more: int, limit_s: float = 30.0) -> None:
        """Wait until it has ticked so many times more."""
        for _ in range(more):
            before = self.last_tick(name)
            until(partial(self._has_ticked, name, before), f"{name} ticks", limit_s)

    def _has_ticked(self, name: str, before: datetime | None) -> bool:
        return self.last_tick(name) != before


@pytest.fixture
def shop(servers: Servers, database_name: str) -> Iterator[Shop]:
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    with MongoClient[dict[str, Any]](servers.mongodb_uri, tz_aware=True) as client:
        env = {**environment(servers, database_name, WORKER_LEASE_SECONDS="1"), **UNSCHEDULED}
        yield Shop(client[database_name], env)


def in_each(workers: list["Popen[bytes]"], look: Callable[[], None]) -> None:
    """Look while only one of the workers goes on, and then while only the other does."""
    for stopped in workers:
        stopped.send_signal(signal.SIGSTOP)
        try:
            look()
        finally:
            stopped.send_signal(signal.SIGCONT)


def test_a_command_is_in_force_in_every_worker_within_seconds(shop: Shop, tmp_path: Path) -> None:
    """Added, changed, paused, resumed and removed while two workers run, each of them on its own."""
    with running(WORKER, shop.env, tmp_path / "1") as one, running(WORKER, shop.env, tmp_path / "2") as other:
        shop.command("add", "pulse", "--job", JOB, "--cron", "@every 1s")
        until(lambda: shop.last_tick("pulse") is not None, "a worker fires", 30)
        added = shop.command("add", "beat", "--job", JOB, "--cron", "@every 1s", "--overlap", "queue")
        assert (added["state"], added["overlap"], added["source"]) == ("on, added", "queue", "command")
        since = time.monotonic()
        until(lambda: shop.last_tick("beat") is not None, "it fires", IN_FORCE_S)
        in_each([one, other], lambda: shop.ticks("beat", 2, IN_FORCE_S - min(2, time.monotonic() - since)))

        def is_still() -> None:
            before = shop.last_tick("beat")
            shop.ticks("pulse", 2)
            assert shop.last_tick("beat") == before

        shop.command("set", "beat", "--cron", "0 3 * * *")
        shop.ticks("pulse", 5)  # a tick a second
        in_each([one, other], is_still)
        assert shop.command("set", "beat", "--cron", "@every 1s")["changed"] is False  # of what was added nothing is
        shop.ticks("beat", 1, IN_FORCE_S)
        assert shop.command("pause", "beat")["state"] == "paused"
        shop.ticks("pulse", 5)
        in_each([one, other], is_still)
        assert shop.command("resume", "beat")["state"] == "on, added"
        shop.ticks("beat", 1, IN_FORCE_S)
        assert shop.command("remove", "beat") == {"name": "beat", "removed": True}
        shop.ticks("pulse", 5)
        assert shop.database["schedules"].find_one({"name": "beat"}) is None


def test_ticks_are_fired_once_by_workers_that_are_killed_and_stopped(shop: Shop, tmp_path: Path) -> None:
    """Three workers, of which one dies and one stands still: no tick twice, and they go on."""
    shop.command("add", "pulse", "--job", JOB, "--cron", "@every 1s")
    with (
        running(WORKER, shop.env, tmp_path / "1") as killed,
        running(WORKER, shop.env, tmp_path / "2") as stopped,
        running(WORKER, shop.env, tmp_path / "3"),
    ):
        logs = [tmp_path / name for name in ("1", "2", "3")]
        until(lambda: all(b"worker started" in log.read_bytes() for log in logs), "all three started")
        shop.ticks("pulse", 2)
        killed.kill()
        stopped.send_signal(signal.SIGSTOP)
        shop.ticks("pulse", 4)
        stopped.send_signal(signal.SIGCONT)
        shop.ticks("pulse", 4)
        last = shop.last_tick("pulse")
        runs = shop.database["job_runs"]
        until(lambda: runs.count_documents({"schedule": "pulse", "tickAt": last, "end": "done"}) > 0, "it is stored")
    done = list(runs.find({"schedule": "pulse", "end": {"$in": ["done", "skipped"]}}))
    assert max(Counter(each["tickAt"] for each in done).values()) == 1
    assert {each["jobId"] for each in done} == {f"pulse:{int(each['tickAt'].timestamp())}" for each in done}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "new", "--job", JOB, "--cron", "0 0 30 2 *"), "is no schedule"),
        (("add", "new", "--job", "sync_page_posts", "--cron", "@hourly"), "page_id: "),
        (("add", "new", "--job", JOB), "--cron says when"),
        (("add", "new", "--job", "sync_page_posts", "--arg", "page_id=1", "--arg", "page_id=2"), "stands there twice"),
        (
            ("add", "new", "--job", "sync_page_posts", "--cron", "@hourly", "--arg", "page_id=" + "1" * 40_000),
            "32 kB at most",
        ),
    ],
    ids=["a day that never comes", "an argument lacks", "no time", "twice", "too much"],
)
def test_what_is_wrong_is_refused_in_a_line(shop: Shop, arguments: tuple[str, ...], words: str) -> None:
    """Before anything is stored."""
    said = shop.refusal(*arguments)
    assert words in said
    assert len(said.splitlines()) == 1
    assert shop.database["schedules"].count_documents({}) == 0


def test_schedules_are_changed_while_redis_is_away(shop: Shop) -> None:
    """Workers find them in MongoDB; only to run one at once needs Redis."""
    shop.env["REDIS_URL"] = "redis://127.0.0.1:1"
    assert shop.command("add", "new", "--job", JOB, "--cron", "@hourly")["state"] == "on, added"
    assert shop.command("set", "new", "--cron", "@daily")["schedule"] == "@daily"
    assert shop.command("pause", "new")["state"] == "paused"
    assert "new" in run([*COMMAND, "schedules"], shop.env).stdout
    never = run([*COMMAND, "schedules", "next", "new"], shop.env)
    assert (never.returncode, never.stdout) == (1, "")
    assert "new is paused and has no next tick: `schedules resume new`" in never.stderr
    assert shop.command("resume", "new")["enabled"] is True
    assert run([*COMMAND, "schedules", "run", "new"], shop.env).returncode == 1
    assert shop.command("remove", "new") == {"name": "new", "removed": True}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("next", "sync_pages", "--zone", "Asia/Tokyo"), "--zone is for an expression"),
        (("next", "@daily", "--zone", "Mars/X"), "'Mars/X' is no time zone"),
        (("next", "@daily", "--zone", "Asia"), "'Asia' is no time zone"),
        (("next", "@dayly"), "'@dayly' is no schedule"),
    ],
)
def test_what_cannot_be_tried_is_refused(shop: Shop, arguments: tuple[str, ...], words: str) -> None:
    assert words in shop.refusal(*arguments)
