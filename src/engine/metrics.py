"""What this process counts, as Prometheus reads it (names after prometheus.io/docs/practices/naming). Labels are
bounded: job names, lanes and ends are ours. All of it is in docs/metrics.md.

Runs are counted in plain dictionaries and turned into Prometheus' own shape when it asks: it asks four times a minute,
and jobs end ten thousand times a second.
"""

from collections import Counter as Counts
from collections.abc import Iterable
from datetime import UTC, datetime

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .. import meters
from ..meters import SECONDS, Meter, Times
from ..store.run_document import Run

NOT_RUN = ("skipped", "missed")  # ends of ticks that did not run: they took no time
OVER = ("done", "dead")
_BOUNDS = [*map(str, SECONDS), "+Inf"]

SLOTS = Gauge("folkform_job_slots", "Jobs that may run at once.")
RUNNING = Gauge("folkform_jobs_running", "Jobs that run now.")
LEASES_LOST = Counter("folkform_leases_lost_total", "Jobs another worker took while they ran here.")
RESCUED = Counter("folkform_jobs_rescued_total", "Jobs taken over from a worker that died.")
BLOCKED = Counter("folkform_event_loop_blocked_seconds_total", "How long the event loop stood still, by the watchdog.")


def counter(meter: Meter) -> Metric:
    """A meter as Prometheus reads it."""
    family = CounterMetricFamily(meter.name, meter.text, labels=meter.labels)
    for values, count in meter.items():
        family.add_metric(values, count)
    return family


def histogram(times: Times) -> Metric:
    """Times as Prometheus reads them."""
    family = HistogramMetricFamily(times.name, times.text, labels=times.labels)
    for values, counts, total in times.items():
        family.add_metric(values, list(zip(_BOUNDS, counts, strict=True)), total)
    return family


class RunCounts(Collector):
    """Counts runs. `is_on`: false where nobody asks; then only what `arq --check` shows is counted."""

    def __init__(self) -> None:
        self.is_on = True
        self._took = Times("folkform_job_duration_seconds", "How long runs took.", ("job", "lane", "end"))
        self._waited = Times("folkform_job_wait_seconds", "From enqueueing to the first run.", ("job", "lane"))
        text = "From enqueueing to the end, all tries and what lay between them included."
        self._latency = Times("folkform_job_latency_seconds", text, ("job", "lane"))
        self._not_run = Counts[tuple[str, ...]]()

    def count(self, run: Run, *, is_known: bool) -> None:
        """Count one run. A name that is none of our jobs' came from outside, and is no label."""
        job, end = run.job if is_known else "unknown", run.end
        if end in NOT_RUN:
            self._not_run[job, run.lane, end] += run.times
            return
        self._took.add((job, run.lane, end), run.duration_s)
        if self.is_on and run.attempt == 1:
            self._waited.add((job, run.lane), run.waited_s)
        if self.is_on and end in OVER:
            self._latency.add((job, run.lane), run.started_at + run.duration_s - run.enqueued_at)

    def in_arq_words(self) -> str:
        """The counts as arq's Worker has them in its sign of life, which `arq --check` shows."""
        ends = Counts[str]()
        for (_, _, end), count in self._took.counts():
            ends[end] += count
        counts = f"j_complete={ends['done']} j_failed={ends['dead']} j_retried={ends['retry'] + ends['snoozed']}"
        running = [sample.value for metric in RUNNING.collect() for sample in metric.samples]
        return f"{datetime.now(UTC):%b-%d %H:%M:%S} {counts} j_ongoing={sum(running):.0f}"

    def collect(self) -> Iterable[Metric]:
        """What Prometheus asks for, from its own thread."""
        text = "Runs of jobs by how they ended."
        runs = CounterMetricFamily("folkform_job_runs", text, labels=["job", "lane", "end"])
        for values, count in (*self._took.counts(), *list(self._not_run.items())):
            runs.add_metric(values, count)
        yield runs
        yield histogram(self._took)
        yield histogram(self._waited)
        yield histogram(self._latency)


class _Meters(Collector):
    """What the other rooms count."""

    def collect(self) -> Iterable[Metric]:
        yield from map(counter, meters.METERS)
        yield from map(histogram, meters.TIMES)


RUNS = RunCounts()
REGISTRY.register(RUNS)
REGISTRY.register(_Meters())
