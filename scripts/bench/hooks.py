"""How fast Pancake's own events are taken and ingested, beside an app that only puts each body into a Redis list.

    python -m scripts.bench.hooks [--rounds 3] [--only accept|most|ingest|known]

Real processes: uvicorn with one worker as README has it, Redis with an append-only file, MongoDB, one job worker. The
peer is `_bare_hook`: the same uvicorn, one RPUSH a request, nothing checked. Rounds are interleaved, medians shown.

- accept: 500 events a second for 20 s, sent at that pace whatever the answers do; from due to answered
- most: events a second with 32 connections that never pause
- ingest: events that wait already, till all are in MongoDB; a second, by one worker
- known: 50 events a second through both, till `awaitingReplySince` of the conversation is there

Exits 1 when a bound is broken. Read ratios, not digits: the machine decides these.
"""

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import uvloop
from pymongo import MongoClient
from redis import Redis

from scripts._services import start_mongod, start_redis
from scripts.bench._open_loop import Answers, Load
from src.enqueue import JobQueue
from src.settings import ScheduleSettings
from src.sync.ingest import WOKEN

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "services"
SECRET, PAGE = "an-invented-secret-of-the-bench", "100200300400500"
PATH = f"/hooks/pancake/{SECRET}"
PER_S, SECONDS = 500, 20
P99_MS, LEAST_INGESTED, KNOWN_P99_MS = 20.0, 500.0, 1000.0
CONVERSATIONS = 2_000


def event(number: int, *, conversations: int = CONVERSATIONS) -> dict[str, Any]:
    """A message of one of many customers; every fifth is an answer of the page's staff. About 1.3 KB."""
    customer = f"77{number % conversations:06d}"
    conversation_id, at = (
        f"{PAGE}_{customer}",
        datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds"),
    )
    who: dict[str, Any] = {"id": customer, "name": f"Customer {customer}"}
    if number % 5 == 4:
        who = {"id": PAGE, "name": "Bench", "uid": "u1", "admin_id": "9001", "admin_name": "Agent A"}
    text = f"còn hàng không ạ? ({number})"
    flags = ("has_phone", "is_hidden", "is_parent", "is_parent_hidden", "is_removed", "user_likes", "can_comment")
    message: dict[str, Any] = {
        "id": f"m_{number}",
        "conversation_id": conversation_id,
        "page_id": PAGE,
        "type": "INBOX",
        "message": f"<div>{text}</div>",
        "original_message": text,
        "inserted_at": at,
        "from": who,
        **dict.fromkeys(flags, False),
        **dict.fromkeys(("edit_history", "removed_by", "parent_id", "rich_message", "like_count")),
        "attachments": [],
        "phone_info": [],
        "show_info": True,
    }
    conversation = {
        "id": conversation_id,
        "type": "INBOX",
        "assignee_ids": [],
        "from": {"id": customer, "name": f"Customer {customer}"},
        "is_combined": False,
        "is_removed": False,
        "is_replied": False,
        "read_watermarks": None,
        "seen": False,
        "snippet": text,
        "tags": [57],
    }
    data = {"conversation": conversation, "message": message, "post": None}
    return {"page_id": PAGE, "event_type": "messaging", "data": data}


@dataclass
class Bench:
    """Servers, and the environment of processes on them."""

    redis: Redis
    mongo: MongoClient[dict[str, Any]]
    env: dict[str, str]

    def forget(self) -> None:
        """Empty Redis and MongoDB; the page stays known by the settings, and its list is not read."""
        self.redis.flushall()
        self.redis.set(WOKEN + PAGE, 1)
        for name in ("messages", "conversations", "sync_state", "dead_letters", "job_runs"):
            self.mongo["bench"][name].delete_many({})

    @contextmanager
    def serving(self, app: str) -> Iterator[int]:
        """uvicorn with `app`; gives its port."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            app,
            "--port",
            str(port),
            "--no-access-log",
            "--log-level",
            "warning",
        ]
        with self._process(command):
            until = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)
            yield port

    @contextmanager
    def worker(self) -> Iterator[None]:
        """A worker process, ready."""
        with self._process([sys.executable, "-m", "arq", "src.worker.WorkerSettings"]) as process:
            while not self.redis.keys("folkform:alive:*"):
                if process.poll() is not None:
                    raise SystemExit("the worker did not start")
                time.sleep(0.02)
            yield

    @contextmanager
    def _process(self, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=subprocess.STDOUT)
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
                log.seek(0)
                for line in log.read().decode().splitlines():
                    if '"level":"error"' in line or "Traceback" in line:
                        print(line, file=sys.stderr)


def percentile(values: list[float], part: float) -> float:
    """The value below which `part` of them lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def run_load(port: int, count: int, per_s: float, warm_up: int = 500) -> tuple[Answers, float]:
    """The answers to `count` events, and how many a second there were."""

    async def run() -> tuple[Answers, float]:
        bodies = [orjson.dumps(event(number)) for number in range(count)]
        await Load(port, PATH, bodies[:warm_up], per_s=PER_S).run()
        begun = time.perf_counter()
        answers = await Load(port, PATH, bodies, per_s=per_s).run()
        return answers, len(answers.took_ms) / (time.perf_counter() - begun)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def accept(bench: Bench, app: str) -> tuple[float, float]:
    """Milliseconds at 500 a second: p50, p99."""
    bench.forget()
    with bench.serving(app) as port:
        answers, _ = run_load(port, PER_S * SECONDS, PER_S)
    if answers.refused or answers.lost:
        raise SystemExit(f"{answers.refused} refused, {answers.lost} without an answer")
    return percentile(answers.took_ms, 0.5), percentile(answers.took_ms, 0.99)


def most(bench: Bench, app: str) -> float:
    """Events a second, without a pause."""
    bench.forget()
    with bench.serving(app) as port:
        return run_load(port, 20_000, 0)[1]


def ingest(bench: Bench, events: int) -> float:
    """Events a second, from the first that is stored to the last whose job is over."""
    bench.forget()

    async def fill() -> None:
        async with JobQueue.connect(bench.env["REDIS_URL"]) as queue:
            now = time.time()
            arguments = [{"event": event(number), "received_at": now + number / 1000} for number in range(events)]
            await queue.enqueue_many("ingest_pancake_event", arguments)

    asyncio.run(fill())
    messages = bench.mongo["bench"]["messages"]
    with bench.worker():
        while not messages.find_one({}):
            time.sleep(0.005)
        begun = time.perf_counter()
        while bench.redis.zcard("sync"):
            time.sleep(0.02)
        took_s = time.perf_counter() - begun
    if (stored := messages.count_documents({})) != events:
        raise SystemExit(f"{stored} of {events} messages stored")
    return events / took_s


def known(bench: Bench) -> list[float]:
    """Milliseconds from due to known: 50 events a second, each of a customer of its own."""
    bench.forget()
    count, per_s = 500, 50
    seen: dict[str, float] = {}
    conversations = bench.mongo["bench"]["conversations"]
    with bench.worker(), bench.serving("src.api.app:app") as port:

        async def run() -> float:
            bodies = [orjson.dumps(event(5 * number, conversations=5 * count)) for number in range(count)]
            load = Load(port, PATH, bodies, per_s=per_s)
            begun = time.perf_counter()
            sending = asyncio.create_task(load.run())
            until = begun + count / per_s + 30
            while len(seen) < count and time.perf_counter() < until:
                found = conversations.find({"awaitingReplySince": {"$gt": 0}}, {"conversationId": 1})
                now = time.perf_counter()
                for each in found:
                    seen.setdefault(each["conversationId"], now)
                await asyncio.sleep(0.005)
            await sending
            return begun

        begun = asyncio.run(run())
    if len(seen) < count:
        raise SystemExit(f"of {count} conversations {len(seen)} are known to wait")
    ids = [event(5 * number, conversations=5 * count)["data"]["conversation"]["id"] for number in range(count)]
    return [(seen[each] - begun - number / per_s) * 1000 for number, each in enumerate(ids)]


@contextmanager
def opened() -> Iterator[Bench]:
    """Everything the bench needs, stopped again."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(start_redis(folder, CACHE, environ={}))
        mongo = stack.enter_context(start_mongod(None, CACHE, environ={}))
        ours = {
            "REDIS_URL": redis.url,
            "MONGODB_URI": mongo.url,
            "MONGODB_DATABASE": "bench",
            "PANCAKE_BASE_URL": "http://127.0.0.1:9/api",
            "PANCAKE_PAGE_IDS": PAGE,
            "PANCAKE_WEBHOOK_SECRET": SECRET,
            **{f"SCHEDULE_{name.upper()}": "off" for name in ScheduleSettings.model_fields},
            "LOG_LEVEL": "ERROR",
            "WORKER_METRICS_PORT": "0",
            "WORKER_SHUTDOWN_SECONDS": "1",
        }
        connection = stack.enter_context(Redis.from_url(redis.url))
        client: MongoClient[dict[str, Any]] = stack.enter_context(MongoClient(mongo.url))
        yield Bench(connection, client, {**os.environ, **ours})


APPS = ("src.api.app:app", "scripts.bench._bare_hook:app")


def main() -> None:
    """Run, print, and say whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--only", choices=("accept", "most", "ingest", "known"))
    options = parser.parse_args()
    held: list[bool] = []

    def bound(text: str, *, holds: bool) -> None:
        held.append(holds)
        print(f"{'PASS' if holds else 'FAIL'}  {text}", flush=True)

    with opened() as bench:
        if options.only in (None, "accept"):
            rounds = [[accept(bench, app) for app in APPS] for _ in range(options.rounds)]
            (p50, p99), (bare50, bare99) = (
                [statistics.median(each[side][part] for each in rounds) for part in (0, 1)] for side in (0, 1)
            )
            text = f"{PER_S} events/s: p50 {p50:.1f}, p99 {p99:.1f} ms (at most {P99_MS:g})"
            bound(f"{text}; bare {bare50:.1f} and {bare99:.1f}", holds=p99 <= P99_MS)
        if options.only in (None, "most"):
            pairs = [[most(bench, app) for app in APPS] for _ in range(options.rounds)]
            ours, bare = (statistics.median(each[side] for each in pairs) for side in (0, 1))
            print(f"      accepted/s without a pause: {ours:,.0f}, bare {bare:,.0f}: {ours / bare:.0%}", flush=True)
        if options.only in (None, "ingest"):
            rates = [ingest(bench, options.events) for _ in range(options.rounds)]
            rate = statistics.median(rates)
            bound(f"ingested/s by one worker: {rate:,.0f} (at least {LEAST_INGESTED:g})", holds=rate >= LEAST_INGESTED)
        if options.only in (None, "known"):
            took = known(bench)
            p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
            bound(
                f"due to known to wait: p50 {p50:.1f}, p99 {p99:.1f} ms (at most {KNOWN_P99_MS:g})",
                holds=p99 <= KNOWN_P99_MS,
            )
    raise SystemExit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
