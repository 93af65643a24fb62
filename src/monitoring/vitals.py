"""Whether this worker lives and does its work: what Prometheus, Docker, Kubernetes and systemd ask it.

On WORKER_METRICS_PORT, from a thread of its own: `/metrics`; `/health/live`, 200 until the event loop has stood still
for so long that only a restart helps; `/health/ready`, 200 while the worker can do its work. Live says nothing of
servers: no restart brings Redis back. systemd is told the same, by the event loop itself.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Protocol

import orjson
from loguru import logger
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from .. import __version__
from ..catalog import CATALOG
from ..clients import systemd
from ..deps import Deps
from ..engine import metrics
from ..engine.queue import Queue
from ..engine.upkeep import kept_up
from ..rules.vitals import Check, Signs, checks_of, is_live
from .gauges import Gauges
from .listener import Listener, Page, Reply

BEAT_S = 0.25
WINDOW_S = 15.0  # the worst lag of so long is shown: no scrape is to miss it
TOLD_S = 10.0  # between two words to systemd of what goes on
JSON = "application/json"


class Claiming(Protocol):
    """What is asked of the lanes' slots, which are `engine/slots.Slots`."""

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    @property
    def running(self) -> int:
        """How many are taken."""
        ...

    @property
    def claimed_at(self) -> float:
        """When a claim was last answered, monotonic."""
        ...


class Pulse:
    """The event loop's beat. `beat` is called in the loop, the rest from any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._beat_at = self._window_at = monotonic()
        self._worst = self._worst_before = 0.0

    def beat(self) -> None:
        """The loop runs: this is called each `BEAT_S` as far as it can."""
        late, now = self.stands_s, self._monotonic()
        if now - self._window_at > WINDOW_S:
            self._window_at, self._worst_before, self._worst = now, self._worst, 0.0
        self._worst, self._beat_at = max(self._worst, late), now

    @property
    def stands_s(self) -> float:
        """How long the loop has stood still."""
        return max(0.0, self._monotonic() - self._beat_at - BEAT_S)

    @property
    def lag_s(self) -> float:
        """The longest it stood still lately, this moment included."""
        return max(self._worst, self._worst_before, self.stands_s)


class Vitals(Collector):
    """What is known of this process, as pages of a `Listener` and as metrics. Asked from the listener's thread."""

    def __init__(self, deps: Deps, slots: Claiming, gauges: Gauges, pulse: Pulse) -> None:
        self._deps = deps
        self._slots = slots
        self._gauges = gauges
        self._pulse = pulse

    def checks(self) -> list[Check]:
        """Everything that is judged, with what there is to say of it."""
        slots = self._slots
        return checks_of(
            Signs(
                stands_s=self._pulse.stands_s,
                servers=self._gauges.servers(),
                claimed_s=self._deps.monotonic() - slots.claimed_at,
                has_slots=slots.running < slots.size,
                is_stopping=self._deps.stopping.is_set(),
            )
        )

    def live(self, _: str) -> Reply:
        """`/health/live`."""
        stands_s = self._pulse.stands_s
        found = {"status": "live" if is_live(stands_s) else "dead", "stands_still_s": round(stands_s, 1)}
        return _health(found, is_well=is_live(stands_s))

    def ready(self, _: str) -> Reply:
        """`/health/ready`."""
        checks = self.checks()
        is_ready = all(check.is_ok for check in checks)
        found = {
            "status": "ready" if is_ready else "not ready",
            "because": [f"{check.name}: {check.said}" for check in checks if not check.is_ok],
            "checks": {check.name: {"ok": check.is_ok, "said": check.said} for check in checks},
        }
        return _health(found, is_well=is_ready)

    def collect(self) -> list[Metric]:
        """What Prometheus asks for."""
        lag = GaugeMetricFamily(
            "folkform_event_loop_lag_seconds", f"Longest standstill of the event loop in the last {WINDOW_S:.0f} s."
        )
        lag.add_metric([], self._pulse.lag_s)
        ready = GaugeMetricFamily("folkform_ready", "Whether this part of being ready is well.", labels=["check"])
        for check in self.checks():
            ready.add_metric([check.name], float(check.is_ok))
        build = GaugeMetricFamily("folkform_build_info", "Always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        return [lag, ready, build]


@asynccontextmanager
async def vitals(deps: Deps, slots: Claiming, *, registry: CollectorRegistry = REGISTRY) -> AsyncIterator[None]:
    """Inside, whoever asks is told how this worker is; enter it last, for systemd hears then that it is ready.

    A port that is taken costs the metrics, not the worker. Raises nothing of its own.
    """
    port = deps.settings.worker.metrics_port
    metrics.RUNS.is_on = bool(port)
    gauges, pulse = Gauges(deps, Queue(deps.redis, CATALOG)), Pulse()
    async with AsyncExitStack() as stack:
        loops: list[Callable[[], Awaitable[None]]] = [partial(_beat, deps, slots, pulse, gauges)]
        if port:
            await gauges.look()
            loops.append(gauges.keep)
            known = Vitals(deps, slots, gauges, pulse)
            for collector in (gauges, known):
                registry.register(collector)
                stack.callback(registry.unregister, collector)
            if listener := _listener(port, known, registry):
                stack.callback(listener.close)
        tasks = [asyncio.create_task(kept_up(loop)) for loop in loops]
        stack.push_async_callback(_ended, tasks)
        systemd.notify("READY=1", "STATUS=working")
        stack.callback(systemd.notify, "STOPPING=1")  # where the end came between two beats
        yield


def _listener(port: int, known: Vitals, registry: CollectorRegistry) -> Listener | None:
    try:
        bound = socket.create_server(("", port))
    except OSError as e:
        logger.warning(
            "metrics and health are not served, set WORKER_METRICS_PORT", port=port, error=e.strerror or str(e)
        )
        return None
    pages: dict[str, Page] = {
        "/metrics": partial(_metrics, registry),
        "/health/live": known.live,
        "/health/ready": known.ready,
    }
    listener = Listener(bound, pages)
    listener.start()
    return listener


def _metrics(registry: CollectorRegistry, accepted: str) -> Reply:
    encode, kind = choose_encoder(accepted)
    return Reply(HTTPStatus.OK, encode(registry), kind)


def _health(found: Mapping[str, object], *, is_well: bool) -> Reply:
    status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
    return Reply(status, orjson.dumps(found) + b"\n", JSON)


async def _beat(deps: Deps, slots: Claiming, pulse: Pulse, gauges: Gauges) -> None:
    """Beat, and tell systemd: from the loop, so that one that stands still is started again."""
    watchdog_s, tell_at, is_stopping = systemd.watchdog_s(), 0.0, False
    every_s = min(TOLD_S, watchdog_s or TOLD_S)
    while True:
        pulse.beat()
        now = time.monotonic()
        if deps.stopping.is_set() and not is_stopping:
            is_stopping, tell_at = True, now
            systemd.notify("STOPPING=1")
        if now >= tell_at:
            tell_at = now + every_s
            doing = "ending, " if is_stopping else ""
            said = f"STATUS={doing}{slots.running} of {slots.size} slots taken, {gauges.waiting} jobs wait"
            systemd.notify(*(["WATCHDOG=1"] if watchdog_s else []), said)
        await asyncio.sleep(BEAT_S)


async def _ended(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
