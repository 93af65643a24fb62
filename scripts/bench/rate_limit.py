"""Whether eight processes on five pages keep a shared rate: never above it, nearly all of it, and along when it moves.

    python -m scripts.bench.rate_limit [--seconds-per-phase 45] [--only steady] [--only moving]

Everything runs on this machine, afresh for each scenario: a Redis, the simulator as a process on the real clock, and
eight processes with the real client and limiter that call every page in a tight loop. All figures are the simulator's
own: when calls arrived, and which of them it refused. Exits 1 when a bound is broken.

A machine with too much to do delays calls on their way, and they then arrive in bunches whoever spaced them: `timers
late` says how long this process had to wait for a processor at most, and in one case of a hundred. Above some 30 ms a
broken bound is the machine's.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from scripts._services import start_redis
from src.clients.pancake.client import PancakeClient, open_pancake
from src.clients.rate_limit import RateLimiter
from src.clients.redis import open_redis
from src.errors import ServiceError, Snooze, Transient
from src.log import configure_logging
from src.settings import load_settings
from tests.simulators.pancake import SimulatorProcess

CACHE = Path(__file__).parents[2] / ".cache" / "services"
PROCESSES, PAGES = 8, 5
SETTLED_S = 30.0  # after a change of the limit
WARM_S = 3.0  # of a steady run, not measured
MOST_PER_S, LEAST_USED, NEAR, MOST_REFUSED = 5, 0.95, 0.10, 0.02


@dataclass(frozen=True)
class Scenario:
    """`set_rate`: our ceiling; `limits`: the simulator's, one a phase, all in calls per second and page."""

    name: str
    set_rate: float
    limits: tuple[int, ...]
    tasks: int = 2  # per page and process
    bound: bool = True  # else the figures are shown only
    switches: dict[str, Any] = field(default_factory=dict)


SCENARIOS = (
    Scenario("steady", 4, (5,)),
    Scenario("steady, one call at a time", 4, (5,), tasks=1),
    Scenario("moving", 10, (5, 2, 8)),
    Scenario("steady at the limit", 5, (5,), bound=False),
    Scenario("moving, with Retry-After", 10, (5, 2, 8), bound=False, switches={"retry_after": 1}),
    Scenario(
        "moving, 100 ms, refused calls count",
        10,
        (5, 2, 8),
        bound=False,
        switches={"rejected_calls_count": True, "latency_ms": 100},
    ),
)


@dataclass(frozen=True)
class Calls:
    """When one page was called, unix seconds, in order."""

    accepted: list[float]
    refused: list[float]

    def per_s(self, start: float, end: float) -> float:
        """Accepted calls per second of [start, end)."""
        return _within(self.accepted, start, end) / (end - start)

    def refused_in(self, start: float, end: float) -> tuple[int, int]:
        """Refused and all calls of [start, end)."""
        refused = _within(self.refused, start, end)
        return refused, refused + _within(self.accepted, start, end)

    def most_in_a_second(self) -> int:
        """The largest number of calls, refused ones included, in any window of one second."""
        times = sorted(self.accepted + self.refused)
        return max((bisect_left(times, at + 1.0) - number for number, at in enumerate(times)), default=0)


def _within(times: list[float], start: float, end: float) -> int:
    return bisect_left(times, end) - bisect_left(times, start)


class NoStore:
    """Keeps no page tokens: the settings name them all."""

    async def token(self, page_id: str) -> str | None:
        """None is kept."""

    async def save_token(self, page_id: str, token: str) -> None:
        """Forget it."""


@asynccontextmanager
async def _no_lock(_page_id: str) -> AsyncIterator[None]:
    yield


async def work(tasks: int) -> None:
    """One worker process: calls every page until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    settings = load_settings(None)
    async with open_redis(settings.redis) as redis:
        limiter = RateLimiter(redis, settings.pancake.max_calls_per_second)
        async with open_pancake(settings.pancake, limiter, NoStore(), _no_lock) as pancake:
            print("ready", flush=True)
            loops = [
                asyncio.create_task(_call(pancake, page_id, number))
                for page_id in settings.pancake.page_tokens
                for number in range(tasks)
            ]
            ending = asyncio.create_task(ended.wait())
            await asyncio.wait([ending, *loops], return_when=asyncio.FIRST_COMPLETED)
            for task in loops:
                task.cancel()
            for result in await asyncio.gather(*loops, return_exceptions=True):
                if not isinstance(result, asyncio.CancelledError):
                    raise SystemExit(f"a caller ended: {result!r}")


async def _call(pancake: PancakeClient, page_id: str, number: int) -> None:
    while True:
        try:
            if number % 2:
                await pancake.tags(page_id)
            else:
                now = int(time.time())
                await pancake.page_customers(page_id, since=now - 60, until=now)
        except Snooze as e:
            await asyncio.sleep(e.after_s)
        except Transient as e:
            print(f"{page_id}: {e}", file=sys.stderr, flush=True)
        except ServiceError as e:
            raise SystemExit(str(e)) from e


@contextmanager
def _workers(redis_url: str, sim: SimulatorProcess, scenario: Scenario) -> Iterator[None]:
    pages: Any = sim.control("GET", "tokens")["pages"]
    environment = os.environ | {
        "REDIS_URL": redis_url,
        "PANCAKE_BASE_URL": sim.base_url,
        "PANCAKE_PAGE_TOKENS": ",".join(f"{page_id}={page['current']}" for page_id, page in pages.items()),
        "PANCAKE_MAX_CALLS_PER_SECOND": str(scenario.set_rate),
    }
    command = [sys.executable, "-m", "scripts.bench.rate_limit", "--child", str(scenario.tasks)]
    running: list[subprocess.Popen[bytes]] = []
    try:
        running += [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(PROCESSES)]
        for process in running:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise SystemExit("a worker process did not start")
        yield
        if any(process.poll() is not None for process in running):
            raise SystemExit("a worker process ended before its time")
    finally:
        for process in running:
            process.terminate()
        if stuck := [process for process in running if not _ended(process)]:
            raise SystemExit(f"{len(stuck)} worker processes did not end when told to: killed")


def _ended(process: "subprocess.Popen[bytes]") -> bool:
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


class Lateness(threading.Thread):
    """Measures by how much a sleep of 5 ms is too long, all the while."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self._late_s: list[float] = []

    def run(self) -> None:
        """Measure until the block ends."""
        while not self._ended.is_set():
            started = time.monotonic()
            time.sleep(0.005)
            self._late_s.append(time.monotonic() - started - 0.005)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self.join()

    def __str__(self) -> str:
        found = sorted(self._late_s)
        return f"{found[-1] * 1000:.0f} ms at most, {found[len(found) * 99 // 100] * 1000:.0f} ms in one of a hundred"


def run(scenario: Scenario, seconds: float) -> bool:
    """Run one scenario and print its figures; returns whether every bound holds."""
    switches = {"rate_limit": scenario.limits[0], **scenario.switches}
    with ExitStack() as stack:
        late = stack.enter_context(Lateness())
        redis = stack.enter_context(start_redis(None, CACHE))
        arguments = ("--pages", str(PAGES), "--customers", "100", "--live", "0")
        sim = stack.enter_context(SimulatorProcess(*arguments, "--switches", orjson.dumps(switches).decode()))
        with _workers(redis.url, sim, scenario):
            starts = []
            for number, limit in enumerate(scenario.limits):
                if number:
                    sim.control("POST", "switches", rate_limit=limit)
                starts.append(time.time())
                time.sleep(seconds)
            starts.append(time.time())
            stats: Any = sim.control("GET", "stats")["pages"]
    calls = [Calls(page["accepted"], page["rejected"]) for page in stats.values()]
    print(f"\n{scenario.name}: rate set {scenario.set_rate:g}/s, limit {' -> '.join(map(str, scenario.limits))}/s")
    print(f"  timers late               {late}")
    is_kept = _steady(scenario, calls, starts) if len(scenario.limits) == 1 else _moving(scenario, calls, starts)
    return is_kept or not scenario.bound


def _steady(scenario: Scenario, calls: list[Calls], starts: list[float]) -> bool:
    most = [page.most_in_a_second() for page in calls]
    used = [page.per_s(starts[0] + WARM_S, starts[-1]) / scenario.set_rate for page in calls]
    refused = sum(len(page.refused) for page in calls)
    print(f"  most calls in one second  {_row(most, 'd')}   (at most {MOST_PER_S})")
    print(f"  used of the set rate      {_row(used, '.1%')}   (at least {LEAST_USED:.0%})")
    print(f"  refused                   {refused}   (none)", flush=True)
    return _verdict(scenario, max(most) <= MOST_PER_S, min(used) >= LEAST_USED, not refused)


def _moving(scenario: Scenario, calls: list[Calls], starts: list[float]) -> bool:
    are_near = []
    for limit, start, end in zip(scenario.limits, starts, starts[1:], strict=False):
        reached = [page.per_s(start + SETTLED_S, end) / limit for page in calls]
        refused, made = map(sum, zip(*(page.refused_in(start, end) for page in calls), strict=True))
        are_near.append(all(abs(share - 1) <= NEAR for share in reached))
        print(f"  limit {limit}: used of it       {_row(reached, '.1%')}   refused {refused} of {made}")
    refused = sum(len(page.refused) for page in calls)
    share = refused / sum(len(page.refused) + len(page.accepted) for page in calls)
    print(f"  refused in all            {refused}, {share:.2%}   (at most {MOST_REFUSED:.0%})", flush=True)
    return _verdict(scenario, *are_near, share <= MOST_REFUSED)


def _verdict(scenario: Scenario, *holds: bool) -> bool:
    if scenario.bound:
        print("  kept" if all(holds) else "  BROKEN", flush=True)
    return all(holds)


def _row(values: list[Any], style: str) -> str:
    return " ".join(f"{format(value, style):>6}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds-per-phase", type=float, default=45.0, help="more than 30, better 45 or more")
    parser.add_argument("--only", action="append", help="a scenario by its name; may be given again")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        configure_logging(os.environ.get("LOG_LEVEL", "ERROR"))  # INFO shows how the rate changes
        asyncio.run(work(chosen.child))
        return
    if chosen.seconds_per_phase <= SETTLED_S:
        parser.error(f"--seconds-per-phase: more than {SETTLED_S:g}")
    wanted = [scenario for scenario in SCENARIOS if not chosen.only or scenario.name in chosen.only]
    if not wanted:
        parser.error(f"--only: one of {', '.join(scenario.name for scenario in SCENARIOS)}")
    kept = [run(scenario, chosen.seconds_per_phase) for scenario in wanted]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
