"""A day of a shop, played fast, and judged: who waited too long was told of, each step once, in time; nobody else was.

    python -m scripts.bench.shop [--seed 1] [--pages 8] [--threads 2000] [--hours 24] [--outages 3] [--kills 12]

Two workers, a Pancake that fails at times, workers killed in the middle of their work. The judge knows the script alone
and works minute by minute; the rules of earlier systems are shown to it too. Exit code 1 where ours are not clean, or
the old ones are. `--every` minutes of the script between two syncs.
"""

import argparse
import asyncio
import statistics
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts._services import start_mongod, start_redis
from tests.harness.shop.judge import Verdict, judge
from tests.harness.shop.old import last_is_customers, updated_window
from tests.harness.shop.pages import policy_of, rules_of
from tests.harness.shop.play import SHOP, Played, play
from tests.harness.shop.script import HOUR, ZONE_S, write

CACHE = Path(__file__).parents[2] / ".cache" / "services"
FRIDAY = datetime(2026, 5, 15, 6, tzinfo=UTC).timestamp() - ZONE_S  # six in the morning; the second day is a Saturday
THRESHOLD_MIN = 15


@dataclass(frozen=True)
class Servers:
    redis_url: str
    mongodb_uri: str


def _line(name: str, verdict: Verdict) -> None:
    counts = f"{verdict.missing:>9,}{verdict.false:>9,}{verdict.repeated:>10,}{verdict.late:>8,}"
    print(f"{name:>30}{verdict.expected:>10,}{counts}")


def _show(played: Played) -> None:
    print(f"\n{len(played.told):,} steps in {played.events:,} messages; {played.kills} workers killed")
    if played.lags:
        worst, middle = max(played.lags), statistics.median(played.lags)
        print(f"from tick to call: median {middle:.2f} s, at most {worst:.2f} s of real time; repeats {played.repeats}")
    print(f"notices about late data: {len(played.notices)}; played in {played.seconds:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description="A day of a shop, played fast, and judged.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pages", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2_000, help="conversations")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--outages", type=int, default=3)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--every", type=int, default=1, help="minutes between two syncs")
    given = parser.parse_args()
    start = int(FRIDAY)
    script = write(
        given.seed,
        start=start,
        hours=given.hours,
        pages=given.pages,
        threads=given.threads,
        outages=given.outages,
        kills=given.kills,
    )
    closed = datetime.fromtimestamp(start + 20 * HOUR + ZONE_S, UTC).date()
    rules = [rules_of(number, closed=closed) for number in range(given.pages)]
    policies = [policy_of(number, f"webhook:{SHOP}", closed=closed) for number in range(given.pages)]
    with start_redis(None, CACHE) as redis, start_mongod(None, CACHE) as mongo:
        servers = Servers(redis.url, mongo.url)
        played = asyncio.run(play(script, policies, servers, sync_every_min=given.every))
    ours = judge(script, rules, played.told)
    old = {
        "last message is the customer's": judge(script, rules, last_is_customers(script, THRESHOLD_MIN)),
        "changed 5 to 300 minutes ago": judge(script, rules, updated_window(script)),
    }
    print(f"{'':>30}{'expected':>10}{'missing':>9}{'false':>9}{'repeated':>10}{'late':>8}")
    _line("ours", ours)
    for name, verdict in old.items():
        _line(name, verdict)
    _show(played)
    for example in ours.examples:
        print(f"    {example}")
    return 0 if ours.is_clean and not any(verdict.is_clean for verdict in old.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
