"""The parts that `scripts/start` runs, each stopped with the `ExitStack` it is entered into."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pymongo
import redis
from dotenv import dotenv_values
from pymongo.errors import PyMongoError

from scripts import _process
from scripts._bootstrap import ROOT, ensure_environment
from scripts._services import Service, start_mongod, start_redis, without_password
from scripts._terminal import Screen

HEALTH_KEY = "arq:queue:health-check"
SIMULATOR_LIMIT_S = 60.0
_LISTENING = re.compile(r"^listening (\S+) user_token=(\S+)", re.MULTILINE)

# name, its exit code once it ended, its log
Watched = tuple[str, Callable[[], int | None], Path | None]


class StartError(Exception):
    """A part does not start or ended; the text is for the person at the keyboard."""


@dataclass
class Parts:
    """What runs. `shared`: the variables under which other commands find the same services; `env`: the worker's."""

    shared: dict[str, str]
    env: dict[str, str]
    watched: list[Watched] = field(default_factory=list)


def start_parts(data: Path, screen: Screen, running: contextlib.ExitStack) -> Parts:
    """Redis, MongoDB, and the simulator where no token of the real Pancake is known."""
    env = {name: value for name, value in dotenv_values(ROOT / ".env").items() if value} | dict(os.environ)
    if env.get("REDIS_SENTINELS"):
        raise StartError("scripts/start does not speak Sentinel: run `arq src.worker.WorkerSettings` by itself")
    cache = ROOT / ".cache" / "services"
    store = running.enter_context(start_redis(data / "redis", cache, environ=env))
    screen.say(store.describe)
    mongo = running.enter_context(start_mongod(data / "mongod", cache, environ=env))
    screen.say(mongo.describe)
    real = bool(env.get("PANCAKE_ACCESS_TOKEN") or env.get("PANCAKE_PAGE_TOKENS"))
    shared = {
        # Demo jobs must not meet real ones, nor demo rows real rows.
        "REDIS_URL": store.url if real or store.pid is None else urlunsplit(urlsplit(store.url)._replace(path="/1")),
        "MONGODB_URI": mongo.url,
        "MONGODB_DATABASE": env.get("MONGODB_DATABASE") or ("folkform" if real else "folkform_demo"),
    }
    parts = Parts(shared, env, [(part.name, part.ended, part.log) for part in (store, mongo) if part.pid])
    _check_given(store, mongo)
    if real:
        address = without_password(env.get("PANCAKE_BASE_URL") or "https://pages.fm/api")
        screen.say(f"Pancake at {address}, into the database {shared['MONGODB_DATABASE']}")
    else:
        _start_simulator(parts, data, screen, running)
    parts.env = {"LOG_FORMAT": "text"} | env | shared | {"PYTHONUNBUFFERED": "1"}
    return parts


def _check_given(store: Service, mongo: Service) -> None:
    """Addresses from the environment are checked here, where the answer can be one line."""
    if store.pid is None:
        try:
            with redis.Redis.from_url(store.url, socket_connect_timeout=5, socket_timeout=5) as client:
                client.ping()
        except (redis.RedisError, OSError, ValueError) as error:
            raise StartError(f"{store.describe} does not answer: {error}") from None
    if mongo.pid is None:
        try:
            with pymongo.MongoClient[dict[str, object]](mongo.url, serverSelectionTimeoutMS=5000) as client:
                client.admin.command("ping")
        except PyMongoError as error:
            raise StartError(f"{mongo.describe} does not answer: {str(error).split(',')[0]}") from None


def _start_simulator(parts: Parts, data: Path, screen: Screen, running: contextlib.ExitStack) -> None:
    ensure_environment(ROOT / "scripts" / "requirements-simulator.txt", ROOT)
    screen.wait("starting the simulator of Pancake ...")
    log = _process.fresh_log(data / "simulator.log")
    command = [sys.executable, "-m", "tests.simulators.pancake", "--port", "0", "--live", "1"]
    command += ["--state", str(data / "simulator.json")]
    env = dict(os.environ) | {"PYTHONUNBUFFERED": "1"}
    simulator = _process.spawn(command, log=log, env=env, cwd=ROOT, at_parents_death=signal.SIGTERM)
    running.callback(lambda: _process.stop(simulator, wait_s=15))
    deadline = time.monotonic() + SIMULATOR_LIMIT_S
    while not (found := _LISTENING.search(log.read_text(errors="replace"))):
        if simulator.poll() is not None or time.monotonic() > deadline:
            lines = "\n".join(f"    {line}" for line in _process.tail(log))
            raise StartError(f"the simulator of Pancake did not start; last lines of {log}:\n{lines}")
        time.sleep(0.02)
    url, token = found.groups()
    parts.shared |= {"PANCAKE_BASE_URL": url, "PANCAKE_ACCESS_TOKEN": token, "PANCAKE_ALLOW_TOKEN_MINTING": "true"}
    # a demonstration is watched: its invented customers show at once, not at the next five minutes
    if "SCHEDULE_SYNC_CUSTOMERS_INCREMENTAL" not in os.environ:
        parts.shared["SCHEDULE_SYNC_CUSTOMERS_INCREMENTAL"] = "@every 10s"
    parts.watched.append(("the simulator of Pancake", simulator.poll, log))
    screen.clear()
    database = parts.shared["MONGODB_DATABASE"]
    screen.say(
        f"Pancake: a simulator at {url}, into the database {database} (set PANCAKE_ACCESS_TOKEN for the real one)"
    )


@contextlib.contextmanager
def health(parts: Parts) -> Iterator[Callable[[], bool]]:
    """Gives a question: has the worker written its sign of life since?"""
    with redis.Redis.from_url(parts.shared["REDIS_URL"], socket_timeout=5) as client:
        client.delete(HEALTH_KEY)

        def is_healthy() -> bool:
            with contextlib.suppress(redis.RedisError):
                return bool(client.exists(HEALTH_KEY))
            return False

        yield is_healthy


def start_worker(
    parts: Parts, data: Path, running: contextlib.ExitStack, in_a_hurry: Callable[[], bool]
) -> "subprocess.Popen[bytes]":
    """The worker; at its stop it may finish its jobs, unless `in_a_hurry`."""
    log = _process.fresh_log(data / "worker.log")
    command = [sys.executable, "-m", "arq", "src.worker.WorkerSettings"]
    worker = _process.spawn(command, log=log, env=parts.env, cwd=ROOT, at_parents_death=signal.SIGTERM)
    wait_s = 35.0
    with contextlib.suppress(ValueError):  # the worker itself refuses such a setting, with a better line
        wait_s = float(parts.env.get("WORKER_SHUTDOWN_SECONDS") or 30) + 5
    running.callback(_stop_worker, worker, wait_s, in_a_hurry)
    return worker


def _stop_worker(worker: "subprocess.Popen[bytes]", wait_s: float, in_a_hurry: Callable[[], bool]) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.terminate()
    deadline = time.monotonic() + wait_s
    while worker.poll() is None:
        if in_a_hurry() or time.monotonic() > deadline:
            worker.kill()
            worker.wait(10)
        time.sleep(0.02)
