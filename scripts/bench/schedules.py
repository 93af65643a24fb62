"""Two years of schedules in five zones: what a worker's clock fires beside a list made minute by minute.

    python -m scripts.bench.schedules [--years 2] [--zone Europe/Lisbon]... [--seed 1]

Every minute, each five minutes, daily at 02:30, weekly and `@every 90m`; the clock is looked at after seconds or
hours, by chance. Exits 1 where the two differ in one tick. CI walks the days around each change of the clocks
(tests/unit/test_ticks.py).
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from itertools import zip_longest
from zoneinfo import ZoneInfo

from tests.harness.walk import EXPRESSIONS, START, ZONES, changes, fired, told


def walk(zone: str, expression: str, years: float, seed: int) -> tuple[int, str]:
    """How many ticks there were, and the first that differs."""
    where, end = ZoneInfo(zone), START + timedelta(days=round(years * 365))
    count = 0
    for found, wanted in zip_longest(
        fired(expression, where, START, end, seed=seed), told(expression, where, START, end)
    ):
        if found != wanted:
            return count, f"fired {found}, the list says {wanted}"
        count += 1
    return count, ""


def main() -> int:
    """Walk all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=float, default=2.0)
    parser.add_argument("--zone", action="append", choices=ZONES)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    zones, began, faults, ticks = given.zone or ZONES, time.monotonic(), 0, 0
    days = timedelta(days=round(given.years * 365))
    with ProcessPoolExecutor() as pool:
        walks = {
            (zone, expression): pool.submit(walk, zone, expression, given.years, given.seed)
            for expression in EXPRESSIONS
            for zone in zones
        }
        for (zone, expression), running in walks.items():
            count, fault = running.result()
            faults, ticks = faults + bool(fault), ticks + count
            turns = len(changes(ZoneInfo(zone), START, START + days))
            word = "DIFFERS" if fault else "equal"
            print(f"{word:8} {count:>9,} ticks  {expression:12} {zone} ({turns} changes) {fault}", flush=True)
    print(f"{ticks:,} ticks, {faults} differ, {time.monotonic() - began:.0f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
