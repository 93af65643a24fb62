"""How fast webhooks are beside a bare httpx loop that posts the same bytes to the same receiver, in one run.

    python -m scripts.bench.webhooks [--rounds 3] [--events 5000]
    python -m scripts.bench.webhooks --only isolation

The receiver is a process of its own (tests/simulators/merchant). The bare loop is one process on uvloop that signs
nothing, stores nothing and decides nothing: `httpx.AsyncClient.post`, with as many calls in flight as ours. Ours is one
worker (`arq src.worker.WorkerSettings`) whose events were enqueued beforehand; each is stored, signed, sent, and its
attempt logged. Rounds are interleaved, medians shown; first arrival to last arrival, by the receiver's clock.

- delivered a second: ours and bare, at the same number of calls in flight
- latency: from the enqueue call to the whole request at the receiver, 50 events a second on a worker with nothing else
- isolation: 98 good endpoints with and without one that is dead and one that takes 29 s; p99 of the good ones

Exits 1 when a bound is broken. Read ratios, not digits: the machine decides these.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from scripts._services import start_mongod, start_redis
from src.deps import open_deps
from src.enqueue import JobQueue, WebhookEvent
from src.settings import ScheduleSettings, Settings, load_settings
from src.webhooks import endpoints
from tests.simulators.merchant import Remote, dead, slow

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "services"
MERCHANTS, CAP = 8, 8  # 64 calls in flight
PAYLOAD = {"payment_id": "pay_456", "amount_vnd": "2300000", "note": "x" * 400}
LEAST_OF_BARE, P50_MS, P99_MS, MOST_OF_ALONE = 0.70, 5.0, 25.0, 1.10
PER_S, SECONDS = 50, 20


@dataclass
class Bench:
    """Servers, the receiver, and the environment of a worker on them."""

    receiver: Remote
    redis: Redis
    env: dict[str, str]
    settings: Settings

    def forget(self) -> None:
        """Empty Redis and the receiver's book."""
        self.redis.flushall()
        self.receiver.clear()

    async def endpoint(self, name: str) -> None:
        """Register merchant `name`, whose endpoint is the receiver's of that name."""
        async with open_deps(self.settings) as deps:
            if not await deps.merchants.endpoints.of_merchant(name):
                await endpoints.add(deps, merchant_id=name, url=self.receiver.url(name))

    async def enqueue(self, merchants: list[str], count: int) -> dict[str, float]:
        """`count` events, one merchant after the other; event id -> when it was enqueued."""
        async with JobQueue.connect(self.env["REDIS_URL"]) as queue:
            events = [WebhookEvent(merchants[n % len(merchants)], "payment.completed", PAYLOAD) for n in range(count)]
            at = time.time()
            return dict.fromkeys(await queue.enqueue_webhooks(events), at)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """A worker process, ready."""
        with tempfile.TemporaryFile() as log:
            command = [sys.executable, "-m", "arq", "src.worker.WorkerSettings"]
            process = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=subprocess.STDOUT)
            try:
                while not self.redis.keys("folkform:alive:*"):
                    if process.poll() is not None:
                        log.seek(0)
                        raise SystemExit(log.read().decode())
                    time.sleep(0.05)
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)

    def arrivals(self, merchants: list[str]) -> dict[str, float]:
        """Event id -> when it first arrived."""
        first: dict[str, float] = {}
        for name in merchants:
            for event_id, at in self.receiver.arrivals(name):
                first.setdefault(event_id, at)
        return first

    def wait(self, merchants: list[str], count: int, within_s: float = 120.0) -> dict[str, float]:
        """The arrivals when there are `count`."""
        until = time.monotonic() + within_s
        while len(found := self.arrivals(merchants)) < count:
            if time.monotonic() > until:
                raise SystemExit(f"only {len(found)} of {count} arrived")
            time.sleep(0.25)
        return found


def per_second(arrivals: dict[str, float]) -> float:
    """From the first to the last."""
    times = sorted(arrivals.values())
    return (len(times) - 1) / (times[-1] - times[0])


def percentile(values: list[float], part: float) -> float:
    """The value below which `part` of them lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


async def throughput(bench: Bench, events: int) -> tuple[float, float]:
    """Delivered a second: ours, bare."""
    names = [f"good{number}" for number in range(MERCHANTS)]
    for name in names:
        await bench.endpoint(name)
    bench.forget()
    await bench.enqueue(names, events)
    with bench.worker():
        ours = per_second(bench.wait(names, events))
    bench.forget()
    urls = [bench.receiver.url(name) for name in names]
    command = [sys.executable, "-m", "scripts.bench._bare_httpx", str(events), str(MERCHANTS * CAP), *urls]
    subprocess.run(command, cwd=ROOT, check=True, input=json.dumps(PAYLOAD).encode())  # noqa: ASYNC221
    bare = per_second(bench.wait(names, events))
    return ours, bare


async def latency(bench: Bench) -> list[float]:
    """Milliseconds from the enqueue call to the whole request at the receiver."""
    await bench.endpoint("good0")
    bench.forget()
    sent: dict[str, float] = {}
    with bench.worker():
        async with JobQueue.connect(bench.env["REDIS_URL"]) as queue:
            begun = time.perf_counter()
            for number in range(-PER_S, PER_S * SECONDS):  # the first second warms up
                await asyncio.sleep(max(0.0, begun + (number + PER_S) / PER_S - time.perf_counter()))
                at = time.time()
                event_id = await queue.enqueue_webhook("good0", "payment.completed", PAYLOAD)
                if number >= 0:
                    sent[event_id] = at
        arrived = bench.wait(["good0"], PER_S * (SECONDS + 1))
    return [(arrived[event_id] - at) * 1000 for event_id, at in sent.items()]


async def isolation(bench: Bench, events: int, *, with_bad: bool) -> float:
    """Seconds from enqueueing to arrival, p99 of the good endpoints' events."""
    good = [f"many{number}" for number in range(98)]
    bad = ["dead", "slow"]
    for name in [*good, *bad]:
        await bench.endpoint(name)
    bench.receiver.behave("dead", dead())
    bench.receiver.behave("slow", slow(29.0))
    bench.forget()
    merchants = [*good, *bad] if with_bad else good
    share = events * len(good) // 100
    with bench.worker():
        sent = await bench.enqueue(merchants, events if with_bad else share)
        arrived = bench.wait(good, share)
    return percentile([arrived[event_id] - sent[event_id] for event_id in arrived if event_id in sent], 0.99)


@contextmanager
def opened() -> Iterator[Bench]:
    """Everything the bench needs, stopped again."""
    with ExitStack() as stack:
        redis = stack.enter_context(start_redis(None, CACHE, environ={}))
        mongo = stack.enter_context(start_mongod(None, CACHE, environ={}))
        receiver = stack.enter_context(Remote(light=True))
        ours = {
            "REDIS_URL": redis.url,
            "MONGODB_URI": mongo.url,
            "MONGODB_DATABASE": "bench",
            "WEBHOOK_ALLOW_HTTP": "true",
            "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "WEBHOOK_MAX_IN_FLIGHT_PER_ENDPOINT": str(CAP),
            **{f"SCHEDULE_{name.upper()}": "off" for name in ScheduleSettings.model_fields},
            "LOG_LEVEL": "WARNING",
            "WORKER_METRICS_PORT": "0",
            "WORKER_SHUTDOWN_SECONDS": "1",
        }
        os.environ.update(ours)
        connection = stack.enter_context(Redis.from_url(redis.url))
        yield Bench(receiver, connection, {**os.environ}, load_settings(None))


def main() -> None:
    """Run, print, and say whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--only", choices=("throughput", "latency", "isolation"))
    options = parser.parse_args()
    held: list[bool] = []

    def bound(text: str, *, holds: bool) -> None:
        held.append(holds)
        print(f"{'PASS' if holds else 'FAIL'}  {text}", flush=True)

    with opened() as bench:
        if options.only in (None, "throughput"):
            rounds = [asyncio.run(throughput(bench, options.events)) for _ in range(options.rounds)]
            ours, bare = (statistics.median(values) for values in zip(*rounds, strict=True))
            parts = ", ".join(f"{mine:,.0f}/{theirs:,.0f}" for mine, theirs in rounds)
            part = ours / bare
            bound(
                f"delivered/s: {ours:,.0f}, bare httpx {bare:,.0f}: {part:.0%} (at least {LEAST_OF_BARE:.0%}); {parts}",
                holds=part >= LEAST_OF_BARE,
            )
        if options.only in (None, "latency"):
            taken = [percentile(each, part) for each in [asyncio.run(latency(bench))] for part in (0.5, 0.99)]
            bound(
                f"enqueue to received: p50 {taken[0]:.1f}, p99 {taken[1]:.1f} ms (at most {P50_MS:g} and {P99_MS:g})",
                holds=taken[0] <= P50_MS and taken[1] <= P99_MS,
            )
        if options.only in (None, "isolation"):
            pairs = [
                [asyncio.run(isolation(bench, 2 * options.events, with_bad=bad)) for bad in (False, True)]
                for _ in range(options.rounds)
            ]
            alone, beside = (statistics.median(values) for values in zip(*pairs, strict=True))
            bound(
                f"p99 of 98 good endpoints: {alone:.2f} s alone, {beside:.2f} s beside a dead and a slow one: "
                f"{beside / alone:.0%} (at most {MOST_OF_ALONE:.0%})",
                holds=beside <= alone * MOST_OF_ALONE,
            )
    raise SystemExit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
