"""What this process counts, for Prometheus (names after prometheus.io/docs/practices/naming). Labels are bounded: job
names, lanes and ends are ours.

Runs are counted in plain dictionaries and turned into Prometheus' own shape when it asks: it asks four times a minute,
and jobs end ten thousand times a second.
"""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import accumulate

from loguru import logger
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, start_http_server
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ..store.job_runs import Run

SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)  # upper bounds of the buckets

SLOTS = Gauge("folkform_job_slots", "Jobs that may run at once.")
RUNNING = Gauge("folkform_jobs_running", "Jobs that run now.")
LEASES_LOST = Counter("folkform_leases_lost_total", "Jobs another worker took while they ran here.")
RESCUED = Counter("folkform_jobs_rescued_total", "Jobs taken over from a worker that died.")
BLOCKED = Counter("folkform_event_loop_blocked_seconds_total", "How long the event loop stood still, by the watchdog.")


class _Times:
    """One histogram: how many in each bucket, and their sum, per job and lane."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], list[float]] = {}  # a count per bucket, one beyond the last, the sum

    def add(self, job: str, lane: str, seconds: float) -> None:
        """Count one."""
        row = self._of.get((job, lane)) or self._of.setdefault((job, lane), [0] * (len(SECONDS) + 1) + [0.0])
        row[bisect_left(SECONDS, seconds)] += 1
        row[-1] += seconds

    def family(self, name: str, text: str) -> Metric:
        """As Prometheus reads it."""
        family = HistogramMetricFamily(name, text, labels=["job", "lane"])
        for labels, (*counts, total) in list(self._of.items()):
            bounds = [*map(str, SECONDS), "+Inf"]
            family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        return family


class RunCounts(Collector):
    """Counts runs; registered with Prometheus once per process."""

    def __init__(self) -> None:
        self._ends = Counts[tuple[str, str, str]]()
        self._took, self._waited = _Times(), _Times()

    def count(self, run: Run, *, is_known: bool) -> None:
        """Count one run. A name that is none of our jobs' came from outside, and is no label."""
        job = run.job if is_known else "unknown"
        self._ends[job, run.lane, run.end] += 1
        self._took.add(job, run.lane, run.duration_s)
        if run.attempt == 1:
            self._waited.add(job, run.lane, run.started_at - run.enqueued_at)

    def in_arq_words(self) -> str:
        """The counts as arq's Worker has them in its sign of life, which `arq --check` shows."""
        ends = Counts[str]()
        for (_, _, end), count in list(self._ends.items()):
            ends[end] += count
        counts = f"j_complete={ends['done']} j_failed={ends['dead']} j_retried={ends['retry'] + ends['snoozed']}"
        running = [sample.value for metric in RUNNING.collect() for sample in metric.samples]
        return f"{datetime.now(UTC):%b-%d %H:%M:%S} {counts} j_ongoing={sum(running):.0f}"

    def collect(self) -> Iterable[Metric]:
        """What Prometheus asks for, from its own thread."""
        runs = CounterMetricFamily(
            "folkform_job_runs", "Runs of jobs by how they ended.", labels=["job", "lane", "end"]
        )
        for labels, count in list(self._ends.items()):
            runs.add_metric(labels, count)
        yield runs
        yield self._took.family("folkform_job_duration_seconds", "How long runs took.")
        yield self._waited.family("folkform_job_wait_seconds", "From enqueueing to the first run.")


RUNS = RunCounts()
REGISTRY.register(RUNS)


def serve(port: int, registry: CollectorRegistry = REGISTRY) -> None:
    """Answer `GET /metrics` on `port` from a thread; 0 is off. A taken port costs the metrics, not the worker."""
    if not port:
        return
    try:
        start_http_server(port, registry=registry)
    except OSError as e:
        logger.warning("metrics are not served, set WORKER_METRICS_PORT", port=port, error=e.strerror or str(e))
