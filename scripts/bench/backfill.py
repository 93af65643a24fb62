"""How fast a backfill stores customers, beside bare motor writing the same documents; and how its memory stays flat.

    python -m scripts.bench.backfill [--customers 100000] [--rounds 3] [--memory 10000,1000000]

Everything runs on this machine: a MongoDB started for the run, the simulator as a process of its own, and the backfill
and the bare writes each in a process of their own, in turn. The bare writes are unordered bulks of 100 upserts by
psid and pageId, four at a time: the fastest plain way measured for this server and these documents.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pymongo import ASCENDING, DESCENDING, IndexModel, MongoClient, UpdateOne

from scripts._services import start_mongod, start_redis
from src.clients.mongo import open_database
from src.deps import open_deps
from src.engine.inline import run_to_end
from src.jobs import ALL_JOBS
from src.runtime import prepare_process
from src.settings import MongoSettings, load_settings
from tests.simulators.pancake import SimulatorProcess

CACHE = Path(__file__).parents[2] / ".cache" / "services"
BARE_BULK, BARE_AT_ONCE = 100, 4


async def backfill() -> dict[str, Any]:
    """The real job on every page the simulator has, children included; seconds are those of the work itself."""
    settings = load_settings(None)
    async with open_deps(settings) as deps:
        await run_to_end(ALL_JOBS, deps, "sync_pages", {})
        started = time.perf_counter()
        ran = await run_to_end(ALL_JOBS, deps, "sync_customers_backfill", {})
        seconds = time.perf_counter() - started
        stored = await deps.database["customers"].count_documents({})
    if not ran.is_ok:
        raise SystemExit(f"the backfill failed: {ran.report()}")
    return {"rows": stored, "seconds": seconds, "peak_mb": _peak_mb(), "calls": ran.report()["calls"]}


async def bare(uri: str, source: str, target: str) -> dict[str, Any]:
    """The documents of `source` written by plain motor bulks; they are read and held before the clock starts."""
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        documents = list(client[source]["customers"].find({}, {"_id": 0}))
    async with open_database(MongoSettings(uri=SecretStr(uri), database=target)) as database:
        collection = database["customers"]
        await collection.create_indexes(
            [
                IndexModel([("psid", ASCENDING), ("pageId", ASCENDING)], unique=True),
                IndexModel([("pageId", ASCENDING), ("updatedAt", ASCENDING)]),
                IndexModel([("pageId", ASCENDING), ("updatedAt", DESCENDING)]),
            ]
        )
        bulks = iter([documents[at : at + BARE_BULK] for at in range(0, len(documents), BARE_BULK)])

        async def write() -> None:
            for bulk in bulks:
                await collection.bulk_write(
                    [UpdateOne({"psid": d["psid"], "pageId": d["pageId"]}, {"$set": d}, upsert=True) for d in bulk],
                    ordered=False,
                )

        started = time.perf_counter()
        await asyncio.gather(*(write() for _ in range(BARE_AT_ONCE)))
        seconds = time.perf_counter() - started
    return {"rows": len(documents), "seconds": seconds}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _child(mode: str, *arguments: str, **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "scripts.bench.backfill", "--child", mode, *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True, timeout=1800)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _one(uri: str, redis: str, customers: int, pages: int, name: str) -> dict[str, Any]:
    with SimulatorProcess(
        "--huge", str(customers // pages), "--pages", str(pages), "--switches", '{"rate_limit": 0}'
    ) as sim:
        return _child(
            "backfill",
            MONGODB_URI=uri,
            MONGODB_DATABASE=name,
            REDIS_URL=redis,
            PANCAKE_BASE_URL=sim.base_url,
            PANCAKE_ACCESS_TOKEN=sim.user_token,
            PANCAKE_ALLOW_TOKEN_MINTING="true",  # noqa: S106 - a switch, no password
            PANCAKE_MAX_CALLS_PER_SECOND="0",
            LOG_LEVEL="WARNING",
        )


def _compare(uri: str, redis: str, customers: int, pages: int, rounds: int) -> None:
    ratios = []
    print(f"{customers} customers on {pages} pages; customers per second")
    for number in range(1, rounds + 1):
        ours = _one(uri, redis, customers, pages, "bench_ours")
        plain = _child("bare", uri, "bench_ours", "bench_bare")
        with MongoClient[dict[str, Any]](uri) as client:
            client.drop_database("bench_ours")
            client.drop_database("bench_bare")
        rates = [each["rows"] / each["seconds"] for each in (ours, plain)]
        ratios.append(rates[0] / rates[1])
        print(
            f"round {number}: backfill {rates[0]:>7.0f}  bare motor {rates[1]:>7.0f}  ratio {ratios[-1]:.2f}"
            f"  ({ours['calls']} calls, peak {ours['peak_mb']:.0f} MB)",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f} (wanted: at least 0.60)")


def _memory(uri: str, redis: str, sizes: list[int], pages: int) -> None:
    for size in sizes:
        ran = _one(uri, redis, size, pages, "bench_memory")
        with MongoClient[dict[str, Any]](uri) as client:
            client.drop_database("bench_memory")
        print(
            f"{size:>9} customers: peak {ran['peak_mb']:.0f} MB (wanted: < 150), {ran['rows'] / ran['seconds']:.0f}/s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--pages", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="", help="sizes to watch the memory at, like 10000,1000000")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        mode, *arguments = chosen.child
        prepare_process()
        print(json.dumps(asyncio.run(backfill() if mode == "backfill" else bare(*arguments))))
        return
    with start_redis(None, CACHE) as redis, start_mongod(None, CACHE) as mongo:
        if chosen.memory:
            _memory(mongo.url, redis.url, [int(size) for size in chosen.memory.split(",")], chosen.pages)
        else:
            _compare(mongo.url, redis.url, chosen.customers, chosen.pages, chosen.rounds)


if __name__ == "__main__":
    main()
