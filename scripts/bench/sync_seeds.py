"""Whether the sync loses anything, over many seeds: short worlds full of faults, the worker killed at random moments.

    python -m scripts.bench.sync_seeds [--seeds 100] [--first 1] [--parallel 3]
        [--stream customers|posts|conversations|all] [--algorithm ours|naive|both] [--examples]

A line per seed that is not clean, then a table. Exit code 1 where our algorithm lost anything or the naive one nothing.
"""

import argparse
import ctypes
import multiprocessing
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from scripts._services import start_mongod, start_redis
from tests.harness import Algorithm, StreamName, Verdict, run_seed

CACHE = Path(__file__).parents[2] / ".cache" / "services"
PR_SET_PDEATHSIG = 1
STREAMS: tuple[StreamName, ...] = ("customers", "posts", "conversations")
COUNTED = ("missing", "stale", "wrongly_deleted", "undeleted", "unnamed_malformed", "broken_promises")
CONTEXT = ("rows", "malformed", "deleted", "kills", "passes", "calls")


@dataclass(frozen=True)
class Servers:
    redis_url: str
    mongodb_uri: str


def _die_with(parent: int) -> None:
    """End with the run, however it ends; Ctrl-C is the run's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != parent:
        raise SystemExit("the run is gone")


def _one(seed: int, algorithm: Algorithm, servers: Servers, stream: StreamName) -> Verdict:
    try:
        return run_seed(seed, algorithm, servers, stream=stream)
    except Exception as e:  # noqa: BLE001 - a seed that fails is a line of the report
        return Verdict(seed, algorithm, bugs=[f"did not come to its end: {type(e).__name__}: {e}"])


def verdicts(
    seeds: range, algorithm: Algorithm, servers: Servers, parallel: int, stream: StreamName
) -> Iterator[Verdict]:
    """Run all seeds, several at a time, each in a process of its own; as they end."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(parallel, context, _die_with, (os.getpid(),)) as pool:
        futures: list[Future[Verdict]] = [pool.submit(_one, seed, algorithm, servers, stream) for seed in seeds]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _show(verdict: Verdict, *, with_examples: bool) -> None:
    counts = ", ".join(f"{name} {getattr(verdict, name)}" for name in COUNTED if getattr(verdict, name))
    print(f"seed {verdict.seed} ({verdict.algorithm}): {counts or 'counts are fine'}", flush=True)
    for bug in verdict.bugs:
        print(f"    bug: {bug}")
    for example in verdict.examples if with_examples else ():
        print(f"    {example}")


def _table(results: dict[Algorithm, list[Verdict]], seconds: float) -> None:
    print(f"\n{'':>20}" + "".join(f"{algorithm:>12}" for algorithm in results))
    lines = {
        "seeds": [len(found) for found in results.values()],
        "seeds not clean": [sum(not verdict.is_clean for verdict in found) for found in results.values()],
        "seeds that lost": [sum(verdict.lost > 0 for verdict in found) for found in results.values()],
    }
    for name in (*COUNTED, *CONTEXT):
        lines[name] = [sum(getattr(verdict, name) for verdict in found) for found in results.values()]
    for name, numbers in lines.items():
        print(f"{name.replace('_', ' '):>20}" + "".join(f"{number:>12,}" for number in numbers))
    spent = [verdict.seconds for found in results.values() for verdict in found]
    print(f"\n{seconds:.0f} s; the slowest seed {max(spent):.0f} s, the middle one {statistics.median(spent):.0f} s")


def _run(stream: StreamName, algorithms: list[Algorithm], seeds: range, parallel: int, *, with_examples: bool) -> bool:
    started, results = time.monotonic(), dict[Algorithm, list[Verdict]]()
    with start_redis(None, CACHE) as redis, start_mongod(None, CACHE) as mongo:
        servers = Servers(redis.url, mongo.url)
        for algorithm in algorithms:
            results[algorithm] = []
            for verdict in verdicts(seeds, algorithm, servers, parallel, stream):
                results[algorithm].append(verdict)
                if algorithm == "ours" and not verdict.is_clean:
                    _show(verdict, with_examples=with_examples)
    print(f"\n{stream}")
    _table(results, time.monotonic() - started)
    ours, naive = results.get("ours", []), results.get("naive")
    return all(verdict.is_clean for verdict in ours) and (naive is None or any(verdict.lost for verdict in naive))


def main() -> int:
    parser = argparse.ArgumentParser(description="Whether the sync loses anything, over many seeds.")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--parallel", type=int, default=3, help="how many at a time")
    parser.add_argument("--stream", choices=(*STREAMS, "all"), default="customers")
    parser.add_argument("--algorithm", choices=("ours", "naive", "both"), default="both")
    parser.add_argument("--examples", action="store_true", help="show rows that were lost")
    given = parser.parse_args()
    streams: list[StreamName] = list(STREAMS) if given.stream == "all" else [given.stream]
    seeds, are_fine = range(given.first, given.first + given.seeds), True
    for stream in streams:
        algorithms: list[Algorithm] = ["ours", "naive"] if given.algorithm == "both" else [given.algorithm]
        if stream != "customers":
            algorithms = ["ours"]  # the guide's algorithm is one of customers
        are_fine &= _run(stream, algorithms, seeds, given.parallel, with_examples=given.examples)
    return 0 if are_fine else 1


if __name__ == "__main__":
    sys.exit(main())
