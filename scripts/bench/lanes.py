"""How fast our lane is beside arq, SAQ, streaQ and taskiq: in one run, on one Redis, one worker process each.

    python -m scripts.bench.lanes [--rounds 3] [--jobs 5000] [--only NAME] [--latency-ms 1]
    python -m scripts.bench.lanes --processes 4
    python -m scripts.bench.lanes --backlog 100000

Each peer runs in an environment of its own under `.data/peers`, made at first use, as its documents advise for speed;
arq also as it comes. Results are off but there.
Rounds are interleaved and medians shown. The figures:

- no-op jobs a second: enqueued beforehand, then the worker is started; first job's first line to last job's last line,
  so that what finishes the last ones is in nobody's figure
- pickup: from the enqueue call to the job's first line, 200 jobs some 50 ms apart on an idle worker, one clock
- 50 ms jobs: 2,000 that sleep so long, at 100 slots; 1.0 s would be ideal
- enqueued one by one, and in bulk: its own bulk call, else 100 calls in flight (marked with a star)

streaQ needs a Redis of 7 or newer; it is left out of the run on an older one. With --processes nothing but the no-op
throughput is measured, of that many worker processes on one lane (ours unless --only names others). Exits 1 when a
bound is broken or not measured. Read ratios, not digits: the machine decides these.
"""

import argparse
import math
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from scripts._services import start_mongod, start_redis
from scripts.bench._backlog import backlog
from scripts.bench._contenders import CONTENDERS, Contender, LeftOut, Process
from scripts.bench._latency import with_latency
from scripts.bench.peers._protocol import SLEEP_S, SLOTS

CACHE = Path(__file__).parents[2] / ".cache" / "services"
PICKUPS, SLEEPERS, ONE_BY_ONE = 200, 2000, 1000
TIMES_FASTEST, TIMES_ARQ, MOST_OF_IDEAL, LEAST_BULK = 3.0, 8.0, 1.10, 30_000


@dataclass
class Bench:
    """One Redis, the way to it, and what was found: contender -> figure -> one value a round."""

    redis: Redis
    url: str
    jobs: int
    found: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def push(self, contender: Contender, kind: str, how: str, jobs: int) -> float:
        """Enqueue; jobs per second."""
        options = ("--url", self.url, "--jobs", str(jobs), "--kind", kind, "--how", how)
        with self._process(contender, "push", *options) as client:
            return jobs / float(client.answer("pushed")["seconds"])

    @contextmanager
    def worker(self, contender: Contender, jobs: int, *options: str) -> Iterator[Process]:
        """A worker that is done at `jobs`."""
        with self._process(contender, "work", "--url", self.url, "--jobs", str(jobs), *options) as running:
            yield running

    @contextmanager
    def _process(self, contender: Contender, *arguments: str) -> Iterator[Process]:
        process = Process(contender, *arguments)
        try:
            yield process
        finally:
            process.stop()

    def waiting(self) -> int:
        """Jobs of ours that are not over."""
        return int(str(self.redis.zcard("webhooks")))

    def measure(self, contender: Contender) -> None:
        """All figures of one contender, once."""
        found = self.found.setdefault(contender.name, {})
        for name, value in (self._noop(contender) | self._sleep(contender) | self._pickup(contender)).items():
            found.setdefault(name, []).append(value)

    def _noop(self, contender: Contender) -> dict[str, float]:
        self.redis.flushall()
        one = self.push(contender, "noop", "one", ONE_BY_ONE)
        self.redis.flushall()
        # As long a backlog for all, even where fewer of them are waited for.
        measured = int(self.jobs * contender.share)
        bulk = self.push(contender, "noop", "many", max(self.jobs, measured))
        with self.worker(contender, measured) as worker:
            done = worker.answer("done")
        return {"noop": measured / (done["end"] - done["start"]), "one": one, "bulk": bulk}

    def _sleep(self, contender: Contender) -> dict[str, float]:
        self.redis.flushall()
        jobs = SLEEPERS * contender.slots // SLOTS
        self.push(contender, "sleep", "many", jobs)
        with self.worker(contender, jobs) as worker:
            done = worker.answer("done")
        return {"sleep": done["end"] - done["start"]}

    def _pickup(self, contender: Contender) -> dict[str, float]:
        self.redis.flushall()
        self.push(contender, "stamp", "one", 1)
        with self.worker(contender, PICKUPS) as worker:
            worker.answer("warm")
            self.push(contender, "stamp", "trickle", PICKUPS)
            waits = sorted(worker.answer("done")["waits_ms"])
        return {"p50": statistics.median(waits), "p99": waits[math.ceil(0.99 * len(waits)) - 1]}

    def shared(self, contender: Contender, processes: int) -> float:
        """No-op jobs per second of several worker processes that begin together."""
        self.redis.flushall()
        jobs = int(self.jobs * contender.share) * processes
        self.push(contender, "noop", "many", jobs)
        with ExitStack() as stack:
            workers = [stack.enter_context(self.worker(contender, 0, "--gate")) for _ in range(processes)]
            for worker in workers:
                worker.answer("ready")
            for worker in workers:
                worker.go()
            done = [said for worker in workers if (said := worker.answer("done"))["jobs"]]
        ran = sum(said["jobs"] for said in done)
        if ran < jobs:
            raise LeftOut(f"{ran} of {jobs} jobs were run")
        return float(ran / (max(said["end"] for said in done) - min(said["start"] for said in done)))

    def median(self, name: str, figure: str) -> float:
        """NaN where it was not measured: every comparison with it fails."""
        values = self.found.get(name, {}).get(figure)
        return statistics.median(values) if values else math.nan


def run(bench: Bench, wanted: list[Contender], rounds: int) -> None:
    """All rounds; a contender that fails is left out from then on."""
    for number in range(1, rounds + 1):
        for contender in wanted:
            if contender.name in bench.left_out:
                continue
            print(f"round {number} of {rounds}: {contender.name}", file=sys.stderr, flush=True)
            try:
                bench.measure(contender)
            except LeftOut as e:
                bench.left_out[contender.name] = str(e)
                bench.found.pop(contender.name, None)


def table(bench: Bench, wanted: list[Contender]) -> None:
    """The medians, as the README has them."""
    print("| | no-op jobs/s | pickup p50 / p99, ms | 50 ms jobs, s (ideal 1.0) | enqueue/s | in bulk/s | settings |")
    print("|---|---|---|---|---|---|---|")
    for contender in wanted:
        name = contender.name
        if why := bench.left_out.get(name):
            print(f"| {name} | left out: {why} | | | | | {contender.note} |")
            continue
        noop, p50, p99, slept, one, bulk = (
            bench.median(name, figure) for figure in ("noop", "p50", "p99", "sleep", "one", "bulk")
        )
        fewer = "" if contender.slots == SLOTS else f" ({SLEEPERS * contender.slots // SLOTS} jobs)"
        star = "" if contender.has_bulk else "*"
        print(
            f"| {name} | {noop:,.0f} | {p50:.1f} / {p99:.1f} | {slept:.2f}{fewer} | {one:,.0f} | {bulk:,.0f}{star} "
            f"| {contender.note} |"
        )
    counted = ", ".join(f"{contender.name} {int(bench.jobs * contender.share):,}" for contender in wanted)
    print(f"\n\\* no bulk call: 100 calls in flight. No-op jobs measured: {counted}.\n", flush=True)


def verdict(bench: Bench) -> bool:
    """Compare ours with its bounds; whether all hold. What was not measured does not."""
    peers = [name for name in bench.found if name != "ours"]

    def best(figure: str, pick: Any) -> float:
        return float(pick((bench.median(name, figure) for name in peers), default=math.nan))

    noop, ideal_s = bench.median("ours", "noop"), SLEEPERS * SLEEP_S / SLOTS
    fastest, arq = noop / best("noop", max), noop / bench.median("arq-default", "noop")
    slept, bulk = bench.median("ours", "sleep") / ideal_s, bench.median("ours", "bulk")
    lines = [
        (fastest >= TIMES_FASTEST, f"no-op: {fastest:.1f} times the fastest peer (at least {TIMES_FASTEST:g})"),
        (arq >= TIMES_ARQ, f"no-op: {arq:.1f} times arq's defaults (at least {TIMES_ARQ:g})"),
    ]
    for figure in ("p50", "p99"):
        mine, theirs = bench.median("ours", figure), best(figure, min)
        lines.append((mine < theirs, f"pickup {figure}: {mine:.1f} ms (below the fastest peer's {theirs:.1f})"))
    lines.append((slept <= MOST_OF_IDEAL, f"50 ms jobs: {slept:.2f} of ideal (at most {MOST_OF_IDEAL:.2f})"))
    lines.append((bulk >= LEAST_BULK, f"bulk enqueue: {bulk:,.0f}/s (at least {LEAST_BULK:,})"))
    for holds, line in lines:
        print(f"{'PASS' if holds else 'FAIL'}  {line}".replace("nan", "not measured"), flush=True)
    return all(holds for holds, _ in lines)


def scale(bench: Bench, wanted: list[Contender], processes: int, rounds: int) -> None:
    """Print the no-op throughput of several processes on one lane."""
    for contender in wanted:
        try:
            each = [bench.shared(contender, processes) for _ in range(rounds)]
        except LeftOut as e:
            raise SystemExit(f"{contender.name}: {e}") from e
        print(
            f"{contender.name}: {statistics.median(each):,.0f} no-op jobs/s of {processes} worker processes", flush=True
        )


def _version(redis: Redis) -> str:
    info: Any = redis.info("server")
    return str(info["redis_version"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=5000, help="no-op jobs; each contender's share is in the output")
    parser.add_argument("--only", action="append", metavar="NAME", help="a contender; may be given again")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="added to every Redis round trip")
    parser.add_argument("--backlog", type=int, metavar="JOBS", help="watch figures and memory with so many queued")
    parser.add_argument("--processes", type=int, help="measure the throughput of so many workers on one lane")
    chosen = parser.parse_args()
    names = chosen.only or (["ours"] if chosen.processes or chosen.backlog else [each.name for each in CONTENDERS])
    if unknown := set(names) - {each.name for each in CONTENDERS}:
        parser.error(f"--only {unknown.pop()}: one of {', '.join(each.name for each in CONTENDERS)}")
    wanted = [each for each in CONTENDERS if each.name in names]
    for contender in wanted:
        contender.command()  # installs what is not there yet, before any clock runs
    with (
        start_redis(None, CACHE, environ={}) as server,
        start_mongod(None, CACHE, environ={}) as mongod,
        with_latency(server.url, chosen.latency_ms) as url,
    ):
        os.environ["MONGODB_URI"] = mongod.url  # for the history of ours
        redis = Redis.from_url(server.url)
        version = _version(redis)
        bench = Bench(redis, url, chosen.jobs)
        if chosen.backlog:
            sys.exit(0 if backlog(bench, chosen.backlog) else 1)
        if chosen.processes:
            scale(bench, wanted, chosen.processes, chosen.rounds)
            return
        major = int(version.partition(".")[0])
        bench.left_out |= {each.name: f"needs Redis {each.redis}" for each in wanted if major < each.redis}
        run(bench, wanted, chosen.rounds)
    print(f"Redis {version}, {chosen.latency_ms:g} ms added to a round trip; medians of {chosen.rounds} rounds\n")
    table(bench, wanted)
    sys.exit(0 if verdict(bench) else 1)


if __name__ == "__main__":
    main()
