"""How things stand outside of this process, for Prometheus: lanes, pages, endpoints, workers.

One loop asks Redis and MongoDB, each within a deadline; what Prometheus asks for is made from the last answers, so a
scrape costs the servers nothing and waits for nobody. Answers older than `STALE_S` are not shown: a gauge that stands
still looks like one that is well. Every worker shows the same of what they share: take the maximum over them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loguru import logger
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from ..catalog import CATALOG
from ..clients import mongo
from ..deps import Deps
from ..engine.facts import QueueStats
from ..engine.queue import Queue
from ..errors import ServiceError
from ..rules.vitals import Server
from ..scheduling.book import Book, book_of

EVERY_S = 10.0
ANSWER_S = 5.0  # for all one server is asked in a look
STALE_S = 60.0
MOST_PAGES = 500  # with labels of their own; the others are one, `other`
MOST_LANES = 50
MOST_SCHEDULES = 100
MOST_ENDPOINTS = 2_000  # failing ones whose gates are looked at
OTHER = "other"
REDIS, MONGODB = "redis", "mongodb"
STREAMS = ("conversations", "customers", "posts")  # those that know how far they came


@dataclass(slots=True)
class Shared:
    """What the servers answered. `marks`: (stream, page) -> second until which it is known.

    `due`: schedule -> its first tick that nobody has decided on, Unix seconds.
    """

    lanes: dict[str, QueueStats] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    pages: list[str] = field(default_factory=list)
    marks: dict[tuple[str, str], int] = field(default_factory=dict)
    workers: dict[tuple[str, str], int] = field(default_factory=dict)
    endpoints: tuple[int, int, list[str]] = (0, 0, [])
    gates: dict[str, tuple[int, float]] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)


class Gauges(Collector):
    """`keep` looks until it is cancelled; `collect` may be called from any thread."""

    def __init__(self, deps: Deps, queue: Queue) -> None:
        self._deps = deps
        self._queue = queue
        self._shared = Shared()
        self._book = Book()
        self._answered_at: dict[str, float] = {}
        self._errors: dict[str, str] = {REDIS: "", MONGODB: ""}
        self._bug = ""

    async def keep(self) -> None:
        """Look again each `EVERY_S` seconds; runs until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Ask both servers once. What does not answer is noted, and nothing is raised for it."""
        await self._asked(MONGODB, self._mongodb)  # first: it knows the pages
        await self._asked(REDIS, self._redis)

    def servers(self) -> dict[str, Server]:
        """Redis and MongoDB as last seen. May be called from any thread."""
        now = self._deps.monotonic()
        at = self._answered_at
        return {name: Server(now - at[name] if name in at else None, self._errors[name]) for name in (REDIS, MONGODB)}

    @property
    def waiting(self) -> int:
        """Due jobs in all lanes, as last seen."""
        return sum(lane.pending for lane in self._shared.lanes.values())

    async def _asked(self, name: str, ask: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await ask()
        except TimeoutError:
            error = f"no answer in {ANSWER_S:g} s"
        except (ServiceError, RedisError, OSError, *mongo.FAILURES) as e:
            error = f"no answer ({type(e).__name__})"
        except Exception as e:  # noqa: BLE001 - it did answer: what we make of it is no fault of the server's
            error, self._answered_at[name] = "", self._deps.monotonic()
            if repr(e) != self._bug:
                logger.opt(exception=e).error("how things stand could not be read", server=name)
            self._bug = repr(e)
        else:
            error = ""
            self._answered_at[name] = self._deps.monotonic()
        if error and not self._errors[name]:
            logger.warning("how things stand could not be seen", server=name, error=error)
        self._errors[name] = error

    async def _mongodb(self) -> None:
        deps, shared = self._deps, self._shared
        shared.pages = await deps.pages.to_sync(deps.settings.pancake.page_ids)
        shared.marks = await deps.sync_states.all_marks()
        shared.endpoints = await deps.merchants.endpoints.standing(MOST_ENDPOINTS)
        workers: dict[tuple[str, str], int] = {(kind, state): 0 for kind in _KINDS for state in _STATES}
        for agent in await deps.agents.all():
            workers[agent.kind, "online" if agent.is_online else "missing" if agent.is_missing else "left"] += 1
        shared.workers = workers
        self._book = book_of(deps.settings, await deps.schedules.all(), CATALOG, self._book)
        shared.due = _due(self._book)

    async def _redis(self) -> None:
        deps, shared = self._deps, self._shared
        shared.lanes = await self._queue.stats()
        shared.rates = await deps.limiter.rates(shared.pages) if deps.settings.pancake.max_calls_per_second else {}
        shared.gates = await deps.merchants.gate.closed(shared.endpoints[2])

    def collect(self) -> Iterable[Metric]:
        """What Prometheus asks for, from the thread that answers it."""
        age = GaugeMetricFamily(
            "folkform_snapshot_age_seconds", "How old what this server answered is.", labels=["server"]
        )
        servers = self.servers()
        for name, server in servers.items():
            if server.age_s is not None:
                age.add_metric([name], server.age_s)
        yield age
        fresh = [name for name, server in servers.items() if server.age_s is not None and server.age_s <= STALE_S]
        if REDIS in fresh:
            yield from self._of_lanes()
            yield _gauge(
                "folkform_pancake_rate_calls_per_second",
                "Calls per second the page stands, as far as is known.",
                ("page",),
                _folded({(page,): rate for page, rate in self._shared.rates.items()}, self._shown(), min),
            )
        if MONGODB in fresh:
            yield from self._of_pages()
            late = {(name,): max(0.0, self._deps.now() - at) for name, at in self._shared.due.items()}
            text = "How long ago a tick was due that nobody has decided on."
            yield _gauge("folkform_schedule_late_seconds", text, ("schedule",), late)
            yield _gauge("folkform_agents", "Those that check in.", ("kind", "state"), self._shared.workers)
        if len(fresh) == len(servers):
            states = {(state,): count for state, count in self._gate_states().items()}
            yield _gauge("folkform_webhook_endpoints", "Endpoints by what their breaker lets pass.", ("state",), states)

    def _of_lanes(self) -> Iterable[Metric]:
        lanes = dict(sorted(self._shared.lanes.items())[:MOST_LANES])
        jobs = {
            (lane, state): getattr(stats, state)
            for lane, stats in lanes.items()
            for state in ("pending", "active", "scheduled", "retry")
        }
        yield _gauge("folkform_lane_jobs", "Jobs in the lane.", ("lane", "state"), jobs)
        for name, text, of in _LANE_GAUGES:
            yield _gauge(name, text, ("lane",), {(lane,): of(stats) for lane, stats in lanes.items()})
        for name, text, total_of in _LANE_COUNTERS:
            family = CounterMetricFamily(name, text, labels=["lane"])
            for lane, stats in lanes.items():
                family.add_metric([lane], total_of(stats))
            yield family

    def _of_pages(self) -> Iterable[Metric]:
        pages, now = set(self._shared.pages), self._deps.now()
        yield _gauge("folkform_pages", "Pages that are to be synced.", (), {(): len(pages)})
        marks = {of: mark for of, mark in self._shared.marks.items() if of[1] in pages}
        lags = {of: max(0.0, now - mark) for of, mark in marks.items()}
        text = "How long ago the newest second is that was read."
        yield _gauge("folkform_sync_lag_seconds", text, ("stream", "page"), _folded(lags, self._shown(), max))
        read: dict[tuple[str, ...], float] = {(stream,): 0 for stream in STREAMS}
        for stream, _ in marks:
            read[stream,] = read.get((stream,), 0) + 1
        text = "Pages to be synced of which this stream has read nothing."
        unread = {stream: len(pages) - count for stream, count in read.items()}
        yield _gauge("folkform_sync_pages_unread", text, ("stream",), unread)

    def _shown(self) -> set[str]:
        return set(self._shared.pages[:MOST_PAGES])

    def _gate_states(self) -> dict[str, int]:
        """The breaker's usual words: closed lets all pass, open none, half_open one that tries."""
        enabled, disabled, _ = self._shared.endpoints
        limit, now = self._deps.settings.webhooks.breaker_failures, self._deps.now()
        states = {"closed": enabled, "open": 0, "half_open": 0, "held": 0, "disabled": disabled}
        for failures, until in self._shared.gates.values():
            is_broken = 0 < limit <= failures
            state = "open" if is_broken and until > now else "half_open" if is_broken else "held"
            if is_broken or until > now:
                states[state] += 1
                states["closed"] -= 1
        return states


_KINDS, _STATES = ("worker", "agent"), ("online", "missing", "left")
_LANE_GAUGES: tuple[tuple[str, str, Callable[[QueueStats], float]], ...] = (
    ("folkform_lane_oldest_seconds", "How long the first in line has waited.", lambda lane: lane.latency_s),
    ("folkform_lane_paused", "Whether the lane is paused.", lambda lane: float(lane.paused)),
    ("folkform_lane_dead_letters", "Dead letters nobody has dealt with.", lambda lane: lane.dead),
)
_LANE_COUNTERS: tuple[tuple[str, str, Callable[[QueueStats], float]], ...] = (
    ("folkform_lane_processed", "Jobs that are over, since Redis was empty.", lambda lane: lane.processed),
    ("folkform_lane_failed", "Jobs that failed for good, since Redis was empty.", lambda lane: lane.failed),
)


def _due(book: Book) -> dict[str, float]:
    """The ones longest due, where there are more than have labels of their own."""
    due: dict[str, float] = {}
    for plan in book.plans.values():
        decided = max(filter(None, (plan.state.last_tick_at, plan.state.active_from)), default=None)
        if decided is not None and (tick := plan.next_after(decided)):
            due[plan.name] = tick.timestamp()
    return dict(sorted(due.items(), key=lambda item: item[1])[:MOST_SCHEDULES])


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for of, value in values.items():
        family.add_metric(of, value)
    return family


def _folded(
    values: Mapping[Any, float], shown: set[str], worst: Callable[[float, float], float]
) -> dict[tuple[str, ...], float]:
    """`values`, whose last label is a page, with the worst of those pages that are not shown in the place of them."""
    found: dict[tuple[str, ...], float] = {}
    for of, value in values.items():
        key = of if of[-1] in shown else (*of[:-1], OTHER)
        found[key] = worst(found[key], value) if key in found else value
    return found
