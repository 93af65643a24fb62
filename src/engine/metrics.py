"""What this process counts, for Prometheus (names after prometheus.io/docs/practices/naming). Labels are bounded: job
names, lanes and ends are ours."""

from functools import cache

from loguru import logger
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from ..store.job_runs import Run

SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)

RUNS = Counter("folkform_job_runs_total", "Runs of jobs by how they ended.", ["job", "lane", "end"])
DURATION = Histogram("folkform_job_duration_seconds", "How long runs took.", ["job", "lane"], buckets=SECONDS)
WAIT = Histogram(
    "folkform_job_wait_seconds", "From enqueueing to the start of a run.", ["job", "lane"], buckets=SECONDS
)
RUNNING = Gauge("folkform_jobs_running", "Jobs that run now.")
SLOTS = Gauge("folkform_job_slots", "Jobs that may run at once.")
LEASES_LOST = Counter("folkform_leases_lost_total", "Jobs another worker took while they ran here.")
RESCUED = Counter("folkform_jobs_rescued_total", "Jobs taken over from a worker that died.")
BLOCKED = Counter("folkform_event_loop_blocked_seconds_total", "How long the event loop stood still, by the watchdog.")

_runs, _duration, _wait = cache(RUNS.labels), cache(DURATION.labels), cache(WAIT.labels)


def count(run: Run) -> None:
    """Count one run."""
    _runs(run.job, run.lane, run.end).inc()
    _duration(run.job, run.lane).observe(run.duration_s)
    if run.attempt == 1:
        _wait(run.job, run.lane).observe(max(0.0, run.started_at - run.enqueued_at))


def serve(port: int, registry: CollectorRegistry = REGISTRY) -> None:
    """Answer `GET /metrics` on `port` from a thread; 0 is off. A taken port costs the metrics, not the worker."""
    if not port:
        return
    try:
        start_http_server(port, registry=registry)
    except OSError as e:
        logger.warning("metrics are not served, set WORKER_METRICS_PORT", port=port, error=e.strerror or str(e))
