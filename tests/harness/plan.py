"""What one seed is: its world, its faults, the workers' settings. All of it follows from the seed."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.harness.subjects import SUBJECTS, StreamName, Subject
from tests.simulators.pancake import Rates, Switches, VirtualClock, World

Algorithm = Literal["ours", "naive"]
#: How deleted rows are looked for: not at all, by mode `sweep`, or by backfills when SYNC_SWEEP_DAYS have passed.
Sweeps = Literal["none", "by hand", "when due"]

PAGES = 2
HISTORY_DAYS, INITIAL_DAYS = 4.0, 1.0
#: More than two answers hold.
TIE_ROWS: dict[StreamName, int] = {"customers": 250, "posts": 100, "conversations": 140}
CONVERSATIONS_OF = 5  # customers, one has a conversation
BELOW_NEWEST = 20  # rows above a run of malformed ones
LAG_S = 20.0
SETTLE_S, OVERLAP_S = 5, 300


@dataclass(frozen=True, slots=True)
class Plan:
    """One seed. `kills` is how many times a worker is ended; `workers` how many work side by side; `bad_run` of each
    page's rows, one after the other, are malformed: more than an answer holds.
    """

    seed: int
    customers: int
    switches: dict[str, Any]
    environment: dict[str, str]
    rates: Rates
    kills: int
    workers: int
    sweeps: Sweeps
    has_storms: bool
    bad_run: int
    stream: StreamName = "customers"

    @property
    def subject(self) -> Subject:
        """What the seed is about."""
        return SUBJECTS[self.stream]


def plan_of(seed: int, stream: StreamName = "customers") -> Plan:
    """The plan of a seed. Every fault has its seeds; most of them have several at once."""
    rng = random.Random(f"plan/{seed}")
    sweeps: Sweeps = rng.choices(("none", "by hand", "when due"), (60, 20, 20))[0]
    switches = _switches(rng)
    rates = RATES[stream](rng.uniform(0.05, 0.4))
    environment = {
        "SYNC_SETTLE_SECONDS": str(SETTLE_S),
        "SYNC_OVERLAP_SECONDS": str(OVERLAP_S),
        "SYNC_SLICES": str(rng.choice((1, 4, 4, 4))),
        "SYNC_INITIAL_DAYS": str(INITIAL_DAYS),
        "SYNC_SWEEP_DAYS": "0.01" if sweeps == "when due" else "0",
        "PANCAKE_MAX_CALLS_PER_SECOND": "0",
        "PANCAKE_ALLOW_TOKEN_MINTING": "true",
        "PANCAKE_TIMEOUT_SECONDS": "5",
    }
    customers, kills = rng.randint(400, 700), rng.randint(6, 10)
    workers, has_storms = rng.choice((1, 1, 2)), rng.random() < 0.7
    has_bad_run = rng.random() < 0.15
    if stream != "customers":
        switches |= _more_switches(rng, stream, switches)
    if stream == "conversations":
        customers = CONVERSATIONS_OF * rng.randint(150, 220)
    return Plan(
        seed=seed,
        customers=customers,
        switches=switches,
        environment=environment,
        rates=rates,
        kills=kills,
        workers=workers,
        sweeps=sweeps,
        has_storms=has_storms,
        bad_run=BAD_RUN[stream] if has_bad_run else 0,
        stream=stream,
    )


#: Malformed rows one after the other, more than an answer holds.
BAD_RUN: dict[StreamName, int] = {"customers": 130, "posts": 45, "conversations": 75}


def _more_switches(rng: random.Random, stream: StreamName, switches: dict[str, Any]) -> dict[str, Any]:
    percent = switches["malformed_pct"]
    if stream == "posts":
        return {"malformed_posts_pct": percent, "malformed_pct": 0.0}
    return {
        "malformed_threads_pct": percent,
        "malformed_messages_pct": rng.choice((0.0, 1.0, 3.0)),
        "malformed_pct": 0.0,
        "v2_cursor_broken": rng.random() < 0.35,
        "message_order": rng.choice(("asc", "desc")),
        "null_tags": rng.random() < 0.3,
        "strip_channel_prefix": rng.random() < 0.3,
    }


def _posts(changes: float) -> Rates:
    return Rates(posts=0.3 * changes, delete_posts=0.04 * changes, tie_posts=0.0004, burst_rows=70)


def _conversations(changes: float) -> Rates:
    return Rates(
        births=0.1 * changes,
        messages=0.6 * changes,
        touch_threads=0.3 * changes,
        remove_messages=0.05 * changes,
        delete_threads=0.03 * changes,
        tie_threads=0.0004,
        burst_rows=100,
    )


def _customers(changes: float) -> Rates:
    return Rates(
        changes=changes,
        births=0.2 * changes,
        deletes=0.08 * changes,
        twice=0.3 * changes,
        bursts=0.0004,
        burst_rows=250,
    )


def _switches(rng: random.Random) -> dict[str, Any]:
    cap, drop_total = (rng.choice((30, 50, 60)), False) if rng.random() < 0.3 else (100, rng.random() < 0.3)
    return {
        "rate_limit": 0,
        "rate_limit_form": rng.choice(("empty", "html", "json", "body_code")),
        "bounds": rng.choice(("inclusive", "exclusive")),
        "page_size_cap": cap,
        "drop_total": drop_total,
        "stamp_fraction": rng.random() < 0.5,
        "clock_skew_s": rng.uniform(-60, 60) if rng.random() < 0.7 else 0.0,
        "visibility_lag_s": LAG_S if rng.random() < 0.8 else 0.0,
        "malformed_pct": rng.choice((1.0, 3.0, 6.0)),
        "advance_s_per_call": rng.uniform(0.5, 4.0),
        "pages_shape": rng.choice(("categorized", "flat")),
        "token_in_list_pct": rng.choice((0.0, 50.0, 100.0)),
        "auth_as_401": rng.random() < 0.3,
        "random_transient_pct": 3.0,
        "html_error_pct": 1.0,
        "cut_connection_pct": 1.0,
        "latency_ms": rng.choice((0.0, 0.0, 2.0)),
        "hang_seconds": 0.04,
        "hang_pct": 3.0,
    }


RATES: dict[StreamName, Callable[[float], Rates]] = {
    "customers": _customers,
    "posts": _posts,
    "conversations": _conversations,
}


class LiveWorld(World):
    """A world that tells of each page-level call, before it is answered."""

    on_call: Callable[[], None] = staticmethod(lambda: None)

    def before_call(self) -> None:
        """Let time pass, then tell."""
        super().before_call()
        self.on_call()


def world_of(plan: Plan) -> LiveWorld:
    """The world of a plan. It begins now, as worker and vendor agree on the time but for `clock_skew_s`."""
    switches = Switches()
    switches.update(plan.switches)
    world = LiveWorld(
        plan.seed,
        pages=PAGES,
        customers=plan.customers,
        days=HISTORY_DAYS,
        clock=VirtualClock(int(time.time())),
        switches=switches,
        rates=plan.rates,
        tie_rows=TIE_ROWS["customers"],
    )
    rng = random.Random(f"furnish/{plan.seed}")
    plan.subject.furnish(world, rng, plan.bad_run, BELOW_NEWEST, TIE_ROWS[plan.stream])
    return world
