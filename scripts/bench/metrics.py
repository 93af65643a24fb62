"""What a scrape takes: `/metrics` over HTTP, with many pages and every job, lane and end met.

    python -m scripts.bench.metrics [--pages 200] [--scrapes 20]

Real servers, and a worker's listener in this process; prints the lines and the time of the first scrape, which finds
nothing in any cache, and of the others. Exits 1 where the first or the median takes more than 50 ms.
"""

import argparse
import asyncio
import statistics
import sys
import time
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

from pydantic import SecretStr

from scripts._process import free_port
from scripts._services import start_mongod, start_redis
from src import meters
from src.catalog import CATALOG
from src.deps import Deps, open_deps
from src.engine.metrics import RUNS
from src.monitoring.gauges import STREAMS
from src.monitoring.vitals import vitals
from src.settings import MongoSettings, PancakeSettings, RedisSettings, load_settings
from src.store.run_document import Run

CACHE = Path(__file__).parents[2] / ".cache" / "services"
MOST_MS = 50.0
PANCAKE = ("pages", "tags", "users", "posts", "customers", "conversations", "messages", "generate_page_access_token")


class Slots:
    """Lanes that claim."""

    size, running = 100, 3

    @property
    def claimed_at(self) -> float:
        """Now."""
        return time.monotonic()


async def fill(deps: Deps, pages: int) -> None:
    """A shop that has seen everything."""
    page_ids = [f"{number:04}" for number in range(pages)]
    await deps.pages.upsert_named(page_ids)
    until = int(deps.now()) - 30
    await deps.database["sync_state"].insert_many(
        {"_id": f"{stream}:{page_id}", "stream": stream, "pageId": page_id, "covered": [[0, until]]}
        for stream in STREAMS
        for page_id in page_ids
    )
    for page_id in page_ids:
        await deps.limiter.acquire(page_id)
    for name, declaration in CATALOG.items():
        for end in ("done", "retry", "dead", "missed"):
            RUNS.count(Run(name, "1", declaration.lane, "w", 1, 1.0, 2.0, 0.3, end, "", "", ""), is_known=True)
        for cause in ("timeout", "rate_limited", "redis", "mongodb", "transient", "other"):
            meters.RETRIES.add(name, cause)
    for endpoint in PANCAKE:
        meters.PANCAKE_SECONDS.add((endpoint,), 0.1)
    meters.WEBHOOK_SECONDS.add((), 0.1)


def scrape(port: int) -> tuple[float, int]:
    """Milliseconds, and lines."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    began = time.perf_counter()
    connection.request("GET", "/metrics")
    body = connection.getresponse().read()
    took_ms = (time.perf_counter() - began) * 1000
    connection.close()
    return took_ms, body.count(b"\n")


async def measure(redis_url: str, mongodb_uri: str, pages: int, scrapes: int) -> bool:
    """Print what was found; whether the bound holds."""
    usual = load_settings(None)
    port = free_port()
    settings = usual.replace(
        redis=RedisSettings(url=SecretStr(redis_url)),
        mongo=MongoSettings(uri=SecretStr(mongodb_uri), database="bench_metrics"),
        pancake=PancakeSettings(access_token=SecretStr("unused"), max_calls_per_second=4),
        worker=usual.worker.model_copy(update={"metrics_port": port}),
    )
    async with open_deps(settings) as opened:
        deps = replace(opened, settings=settings)
        await fill(deps, pages)
        async with vitals(deps, Slots()):
            found = [await asyncio.to_thread(scrape, port) for _ in range(scrapes)]
    first, *others = [took_ms for took_ms, _ in found]
    median = statistics.median(others)
    print(f"{found[0][1]:,} lines; first scrape {first:.1f} ms, median of {len(others)} more {median:.1f} ms")
    is_held = max(first, median) <= MOST_MS
    print(f"{'PASS' if is_held else 'FAIL'}  at most {MOST_MS:g} ms")
    return is_held


def main() -> int:
    """Start the servers, fill them, ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--scrapes", type=int, default=20)
    given = parser.parse_args()
    with start_redis(None, CACHE, environ={}) as redis, start_mongod(None, CACHE, environ={}) as mongo:
        return 0 if asyncio.run(measure(redis.url, mongo.url, given.pages, given.scrapes)) else 1


if __name__ == "__main__":
    sys.exit(main())
