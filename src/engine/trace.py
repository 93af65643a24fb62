"""The trace a job belongs to, as W3C Trace Context writes it (`traceparent`, www.w3.org/TR/trace-context, section 3.2).

It travels with the job, so that what an HTTP request set going can be found again through all its jobs, in logs and
history. Without a tracing library the ids still link the jobs of one cause.
"""

import sys
from contextvars import ContextVar
from random import getrandbits

LENGTH = 55  # 00-<32 hexadecimal digits>-<16>-<2>

current: ContextVar[str] = ContextVar("traceparent", default="")  # of the job that runs in this context, or ""


def to_send() -> str:
    """The traceparent for a job enqueued here: the running job's, else OpenTelemetry's where it is used, else new."""
    return current.get() or _of_opentelemetry() or f"00-{getrandbits(128):032x}-{getrandbits(64):016x}-00"


def trace_id(traceparent: str) -> str:
    """The 32 hexadecimal digits all jobs of one cause share, or "" where there are none."""
    return traceparent[3:35] if len(traceparent) == LENGTH else ""


def _of_opentelemetry() -> str:
    # only where the app has loaded it: the helper is to stay light
    if "opentelemetry.propagate" not in sys.modules:
        return ""
    carrier: dict[str, str] = {}
    sys.modules["opentelemetry.propagate"].inject(carrier)
    return carrier.get("traceparent", "")
