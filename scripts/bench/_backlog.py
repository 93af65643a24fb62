"""What a long queue costs: how long the figures of all lanes take to get, the memory of a worker that empties it."""

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

from scripts.bench._contenders import CONTENDERS
from src.enqueue import JobQueue

if TYPE_CHECKING:
    from scripts.bench.lanes import Bench

LOOKS = 50
MOST_STATS_MS = 50.0
MOST_GROWTH = 1.2  # of the worker's memory, from a tenth of the jobs to the last
SHARES = (0.1, 0.5, 1.0)


def backlog(bench: "Bench", jobs: int) -> bool:
    """Queue `jobs` no-op jobs, look at the figures, empty the queue; print what it took, and whether bounds hold."""
    ours = next(each for each in CONTENDERS if each.name == "ours")
    bench.redis.flushall()
    bench.push(ours, "noop", "many", jobs)
    took_ms = asyncio.run(_stats_ms(bench.url))
    print(
        f"{jobs:,} queued: stats() of all lanes in {statistics.median(took_ms):.1f} ms, at most {max(took_ms):.1f} ms"
    )
    sizes: list[float] = []
    with bench.worker(ours, jobs) as worker:
        for share in SHARES:
            while bench.waiting() > jobs * (1 - share):
                time.sleep(0.05)
            sizes.append(worker.memory_mb)
    print(
        "memory of the worker with "
        + ", ".join(f"{s:.0%} done: {mb:.0f} MB" for s, mb in zip(SHARES, sizes, strict=True))
    )
    holds = max(took_ms) < MOST_STATS_MS and sizes[-1] < MOST_GROWTH * sizes[0]
    print(
        f"{'PASS' if holds else 'FAIL'}  stats below {MOST_STATS_MS:g} ms, memory within {MOST_GROWTH:g} of its first"
    )
    return holds


async def _stats_ms(url: str) -> list[float]:
    took = []
    async with JobQueue.connect(url) as queue:
        await queue.stats()  # the first call connects
        for _ in range(LOOKS):
            started = time.perf_counter()
            await queue.stats()
            took.append((time.perf_counter() - started) * 1000)
    return took
