"""What being watched costs: the lanes' no-op throughput with history, metrics and traces on, beside all of them off.

    python -m scripts.bench.observing [--rounds 7] [--jobs 20000] [--only history]

One worker process on one lane, jobs enqueued beforehand; first job's first line to last job's last line. Rounds are
interleaved, each with another order, and each is compared with the one of its round in which all is off; the medians of
those ratios count. History is written to a MongoDB on the same cores, traces go to a collector that drops them, of the
twenty that may begin each second.

In a burst of 20,000 jobs the history is put off, so that this shows what a burst waits for and not what the writing
costs; with --jobs 100000 it has to be written meanwhile.

Exits 1 where history costs more than 10 %, or all of it more than 20 %.
"""

import argparse
import os
import random
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from redis import Redis

from scripts._process import free_port
from scripts._services import start_mongod, start_redis
from scripts.bench._contenders import CONTENDERS
from scripts.bench.lanes import Bench

CACHE = Path(__file__).parents[2] / ".cache" / "services"
OURS = CONTENDERS[0]
MOST_HISTORY, MOST_ALL = 0.10, 0.20
OFF = {"WORKER_HISTORY_DAYS": "0", "WORKER_METRICS_PORT": "0", "OTEL_SDK_DISABLED": "true"}


class _Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting() -> Iterator[str]:
    """A collector that drops everything; gives its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def throughput(bench: Bench, jobs: int, environment: dict[str, str]) -> float:
    """No-op jobs a second of a worker with these variables."""
    bench.redis.flushall()
    os.environ.update(environment)
    bench.push(OURS, "noop", "many", jobs)
    with bench.worker(OURS, jobs) as worker:
        done = worker.answer("done")
    return float(jobs / (done["end"] - done["start"]))


def measure(bench: Bench, rounds: int, jobs: int, variants: dict[str, dict[str, str]]) -> dict[str, list[float]]:
    """Jobs a second of each variant, one value a round."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    throughput(bench, jobs, OFF)  # the first finds nothing in any cache
    for number in range(1, rounds + 1):
        for name in random.sample(list(variants), len(variants)):
            found[name].append(throughput(bench, jobs, {**OFF, **variants[name]}))
        shown = "   ".join(f"{name} {values[-1]:,.0f}" for name, values in found.items())
        print(f"round {number} of {rounds}: {shown}", file=sys.stderr, flush=True)
    return found


def verdict(found: dict[str, list[float]]) -> bool:
    """Print what each costs; whether the bounds hold."""
    costs: dict[str, float] = {}
    print("| on | jobs/s | of all off | costs |\n|---|---|---|---|")
    for name, values in found.items():
        ratio = statistics.median(value / off for value, off in zip(values, found["nothing"], strict=True))
        costs[name] = 1 - ratio
        print(f"| {name} | {statistics.median(values):,.0f} | {ratio:.3f} | {costs[name]:.1%} |")
    holds = True
    for name, most in (("history", MOST_HISTORY), ("all", MOST_ALL)):
        if name in costs:
            is_held = costs[name] <= most
            holds = holds and is_held
            print(f"{'PASS' if is_held else 'FAIL'}  {name}: {costs[name]:.1%} (at most {most:.0%})")
    return holds


def main() -> int:
    """Start the servers, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--only", action="append", help="history, metrics, traces or all")
    given = parser.parse_args()
    with ExitStack() as stack:
        redis = stack.enter_context(start_redis(None, CACHE, environ={}))
        mongo = stack.enter_context(start_mongod(None, CACHE, environ={}))
        os.environ |= {"MONGODB_URI": mongo.url, "MONGODB_DATABASE": "bench_observing"}
        traces = {"OTEL_SDK_DISABLED": "false", "OTEL_EXPORTER_OTLP_ENDPOINT": stack.enter_context(collecting())}
        history, metrics = {"WORKER_HISTORY_DAYS": "14"}, {"WORKER_METRICS_PORT": str(free_port())}
        variants = {
            "nothing": {},
            "history": history,
            "metrics": metrics,
            "traces": traces,
            "all": {**history, **metrics, **traces},
        }
        wanted = {name: one for name, one in variants.items() if not given.only or name in (*given.only, "nothing")}
        connection = stack.enter_context(Redis.from_url(redis.url))
        found = measure(Bench(connection, redis.url, given.jobs), given.rounds, given.jobs, wanted)
    return 0 if verdict(found) else 1


if __name__ == "__main__":
    sys.exit(main())
