"""What it costs to find who is due: 1,000 due conversations among ten thousand and among a million.

    python -m scripts.bench.monitor [--small 10000] [--large 1000000] [--due 1000] [--pages 8] [--rounds 15]

Prints the median time of the monitor's queries over all pages and the ratio of large to small. Of the conversations
that are not due, a tenth waits (and is due later); the others were answered. Exit 1 above 200 ms or a ratio of 1.5.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pymongo import MongoClient

from scripts._services import start_mongod
from src.clients.mongo import open_database
from src.settings import MongoSettings
from src.store.conversations import Conversations
from src.store.waiting import Waiting

CACHE = Path(__file__).parents[2] / ".cache" / "services"
NOW, VERSION = 1_800_000_000, "bench"
BATCH = 10_000
MOST_MS, MOST_RATIO = 200.0, 1.5


def conversations(count: int, due: int, pages: int) -> Iterator[dict[str, Any]]:
    """Invented rows of about the size that real ones have."""
    rng = random.Random(1)
    padding = {f"field_{number}": "x" * 40 for number in range(12)}
    due_ones = set(rng.sample(range(count), due))
    for number in range(count):
        is_due, waits = number in due_ones, rng.random() < 0.1
        row: dict[str, Any] = {
            "conversationId": f"c{number}",
            "pageId": f"p{number % pages}",
            "type": "INBOX",
            "customerName": f"Customer {number}",
            "updatedAt": NOW - rng.randrange(10**7),
            "assigneeIds": ["u1"],
            "tags": ["3"],
            "lastSender": "agent",
            "awaitingReplySince": None,
            "panCakeData": padding,
        }
        if is_due or waits:
            since = NOW - rng.randrange(3_600, 86_400)
            row |= {"awaitingReplySince": since, "awaitingMessageId": f"m{number}", "lastSender": "customer"}
            row |= {"policyVersion": VERSION, "nextStepAt": NOW - 1 - number % 100 if is_due else NOW + 1 + number}
        yield row


async def look(waiting: Waiting, pages: int) -> int:
    """What a round of the monitor asks, page after page; returns how many are due."""
    found = 0
    for page in range(pages):
        found += len(await waiting.unplanned(f"p{page}", VERSION, 500))  # none: all are planned
        found += len(await waiting.due(f"p{page}", NOW, 500))
    return found


async def measure(uri: str, count: int, given: argparse.Namespace) -> float:
    """The median of some rounds, in ms, on a database of its own."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    with MongoClient[dict[str, Any]](uri) as client:
        settings = MongoSettings(uri=SecretStr(uri), database=name)
        try:
            async with open_database(settings) as database:
                waiting = Waiting(database)
                await Conversations(database).ensure_indexes()
                await waiting.ensure_indexes()
                rows = conversations(count, given.due, given.pages)
                while batch := [row for row, _ in zip(rows, range(BATCH), strict=False)]:
                    client[name]["conversations"].insert_many(batch, ordered=False)
                spent = []
                for _ in range(given.rounds):
                    started = time.perf_counter()
                    found = await look(waiting, given.pages)
                    spent.append((time.perf_counter() - started) * 1000)
                    if found != given.due:
                        raise SystemExit(f"{found} were found due, not {given.due}")
                return statistics.median(spent)
        finally:
            client.drop_database(name)


def main() -> int:
    parser = argparse.ArgumentParser(description="What it costs to find who is due.")
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--due", type=int, default=1_000)
    parser.add_argument("--pages", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    with start_mongod(None, CACHE) as mongo:
        small = asyncio.run(measure(mongo.url, given.small, given))
        large = asyncio.run(measure(mongo.url, given.large, given))
    ratio = large / small
    print(f"{given.due:,} due of {given.small:>9,}: {small:7.1f} ms")
    print(f"{given.due:,} due of {given.large:>9,}: {large:7.1f} ms   ratio {ratio:.2f}")
    return 0 if large < MOST_MS and ratio <= MOST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
