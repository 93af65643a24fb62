"""The trace a job belongs to, as W3C Trace Context writes it (`traceparent`, www.w3.org/TR/trace-context, section 3.2).

It travels with the job, so that what an HTTP request set going can be found again through all its jobs, in logs and
history. Without a tracing library the ids still link the jobs of one cause. Light: apps that only enqueue load it.
"""

import sys
from collections.abc import Mapping
from typing import Final

from .. import tracing
from ..tracing import LENGTH, UNDECIDED, Span, Value, new_traceparent

SYSTEM: Final = "arq"


def to_send(name: str, lane: str) -> str:
    """The traceparent for a job enqueued here: below what runs here, else the app's own trace, else a new one."""
    parent = tracing.current.get() or _of_opentelemetry()
    if not tracing.is_on():
        return parent or new_traceparent(UNDECIDED)
    if not tracing.wants(name, parent):
        return tracing.decided(parent)
    about = _about(name, lane, "create")
    span = tracing.begin(f"enqueue {name}", "producer", parent=parent, attributes=about, is_wanted=True)
    if span is None:
        return tracing.decided(parent)
    span.end()
    return span.traceparent


def trace_id(traceparent: str) -> str:
    """The 32 hexadecimal digits all jobs of one cause share, or "" where there are none."""
    return traceparent[3:35] if len(traceparent) == LENGTH else ""


def begin_run(
    name: str,
    lane: str,
    traceparent: str,
    *,
    started_at: float,
    enqueued_at: float,
    about: Mapping[str, Value],
    link: str = "",
) -> Span | None:
    """The span of one attempt of a job in a trace that is wanted, with that of its wait beside it.

    Instants are Unix seconds. `link`: the traceparent of the attempt before, or of what is done again.
    """
    waited_s = started_at - enqueued_at if enqueued_at else 0.0
    told = {**_about(name, lane, "process"), **about, "folkform.job.wait_ms": round(waited_s * 1000)}
    run = tracing.begin(
        f"run {name}",
        "consumer",
        parent=traceparent,
        attributes=told,
        links=[link] if link else [],
        start_s=started_at,
        is_wanted=True,
    )
    if run is not None and waited_s > 0 and about.get("folkform.job.attempt") == 1:
        is_known = tracing.is_sampled(traceparent)  # else the run is the first span there is
        above = traceparent if is_known else run.traceparent
        wait = tracing.begin(f"wait {name}", "internal", parent=above, start_s=enqueued_at)
        if wait is not None:
            wait.end(at_s=started_at)
    return run


def _about(name: str, lane: str, operation: str) -> dict[str, Value]:
    # opentelemetry.io/docs/specs/semconv/messaging/messaging-spans
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": lane,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "folkform.job.name": name,
    }


def _of_opentelemetry() -> str:
    # only where the app has loaded it: the helper is to stay light
    if "opentelemetry.propagate" not in sys.modules:
        return ""
    carrier: dict[str, str] = {}
    sys.modules["opentelemetry.propagate"].inject(carrier)
    return tracing.given(carrier.get("traceparent", ""))
