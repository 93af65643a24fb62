"""Pancake's webhooks under SIGKILL: what was answered 200 is stored, and what is stored is ingested."""

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from sys import executable
from typing import Any

import httpx
import orjson
import pytest
from pymongo import MongoClient
from redis import Redis

from scripts.bench._open_loop import Load
from src.engine import keys
from src.engine.wire import deserialize
from src.rules.waiting import Said, standing
from tests.acceptance.processes import UNSCHEDULED, WORKER, environment, running, until
from tests.conftest import Servers
from tests.harness.hooks import PAGE, SECRET, messaging, staff

CONVERSATIONS = 20


@pytest.fixture
def env(servers: Servers, database_name: str) -> dict[str, str]:
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    return environment(
        servers,
        database_name,
        PANCAKE_WEBHOOK_SECRET=SECRET,
        PANCAKE_PAGE_IDS=PAGE,
        PANCAKE_PAGE_TOKENS=f"{PAGE}=unused",
        PANCAKE_BASE_URL="http://127.0.0.1:9/api",  # nobody listens: only what events say is stored
        WORKER_LEASE_SECONDS="1",
        LOG_LEVEL="DEBUG",
        **UNSCHEDULED,
    )


@pytest.fixture
def redis(servers: Servers) -> Iterator[Redis]:
    with Redis.from_url(servers.redis_url) as redis:
        yield redis


@contextmanager
def door(env: dict[str, str], log: Path) -> Iterator[tuple["Popen[bytes]", int]]:
    """The app as README starts it, on a free port, ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [executable, "-m", "uvicorn", "src.api.app:app", "--port", str(port)]
    with running(command, env, log) as process:

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        until(is_ready, "the app is ready")
        yield process, port


def event(number: int) -> dict[str, Any]:
    """Of one of a few conversations; every third is an answer."""
    sender = staff() if number % 3 == 2 else None
    moment = f"2026-05-14T15:{number // 60 % 60:02d}:{number % 60:02d}.{number:06d}"
    return messaging(f"m_{number}", customer=str(number % CONVERSATIONS), at=moment, sender=sender)


def waiting(redis: Redis) -> set[str]:
    """Ids of the messages that jobs in Redis carry."""
    written = [redis.get(name) for name in redis.scan_iter(keys.JOB + "*", 1000)]
    jobs = [deserialize(job) for job in written if isinstance(job, bytes)]
    return {job["k"]["event"]["data"]["message"]["id"] for job in jobs if job["f"] == "ingest_pancake_event"}


@pytest.mark.parametrize("after", [1, 40, 300])
def test_killed_in_the_middle_of_a_stream_it_has_what_it_answered_200(
    after: int, env: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    """Every event that was answered 200 is in Redis; and the secret is nowhere in the log."""
    log, count = tmp_path / "api.log", 2_000
    with door(env, log) as (process, port):
        bodies = [orjson.dumps(event(number)) for number in range(count)]
        load: list[Load] = []

        async def stream() -> None:
            load.append(Load(port, f"/hooks/pancake/{SECRET}", bodies, per_s=0))
            await load[0].run()

        streaming = threading.Thread(target=lambda: asyncio.run(stream()))
        streaming.start()
        until(lambda: bool(load) and len(load[0].answers.accepted) >= after, "some are accepted")
        process.send_signal(signal.SIGKILL)
        streaming.join(30)
        assert not streaming.is_alive()
    answers = load[0].answers
    assert after <= len(answers.accepted) < count
    assert answers.refused == 0
    assert {f"m_{number}" for number in answers.accepted} <= waiting(redis)
    assert SECRET not in log.read_text()


def test_workers_that_are_killed_lose_and_twist_nothing(
    env: dict[str, str], redis: Redis, servers: Servers, database_name: str, tmp_path: Path
) -> None:
    """Two workers die in the middle of ingesting; each message is there once, and who waits is right."""
    count = 1_500
    with door(env, tmp_path / "api.log") as (_, port):
        bodies = [orjson.dumps(event(number)) for number in range(count)]
        answers = asyncio.run(Load(port, f"/hooks/pancake/{SECRET}", bodies, per_s=0).run())
        assert len(answers.accepted) == count
    with MongoClient[dict[str, Any]](servers.mongodb_uri) as client:
        database = client[database_name]
        for number in range(3):
            with running(WORKER, env, tmp_path / f"worker{number}.log") as worker:
                if number < 2:
                    stop_at = (number + 1) * 400
                    until(lambda most=stop_at: database["messages"].count_documents({}) >= most, "some are ingested")  # type: ignore[misc]
                    worker.send_signal(signal.SIGKILL)
                else:
                    until(lambda: not waiting(redis), "all are ingested")
        assert database["dead_letters"].count_documents({"job": "ingest_pancake_event"}) == 0
        assert database["messages"].count_documents({}) == count
        _all_stand_right(database, count)


def _all_stand_right(database: Any, count: int) -> None:
    said: dict[str, list[Said]] = {}
    for number in range(count):
        kind = "agent" if number % 3 == 2 else "customer"
        at_us = number // 60 % 60 * 60_000_000 + number % 60 * 1_000_000 + number
        said.setdefault(f"{PAGE}_{number % CONVERSATIONS}", []).append(Said(f"m_{number}", at_us, kind))  # type: ignore[arg-type]
    for conversation_id, messages in said.items():
        found, stands = database["conversations"].find_one({"conversationId": conversation_id}), standing(messages)
        assert found["awaitingMessageId"] == (stands.waiting.message_id if stands.waiting else None)
        assert stands.last is not None
        assert found["lastSender"] == stands.last.sender
