"""Traces after OpenTelemetry: one from the call that set something going through enqueue, wait, run, HTTP and MongoDB.

Off unless an exporter is set (OTEL_EXPORTER_OTLP_ENDPOINT), and then nothing of OpenTelemetry is loaded. On, what is
not sampled opens no span: at twenty thousand jobs a second there is no time for that.

Whether a trace is sampled is decided once, where it begins, and travels in the flags of its traceparent (W3C Trace
Context, www.w3.org/TR/trace-context, section 3.2): 01 it is, 00 it is not. 02, which is ours alone, says that nobody
has decided, because an app without tracing set it going: the first of us who meets it does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from random import getrandbits
from typing import Final, Literal, Protocol

from ..errors import ServiceError

LENGTH: Final = 55  # 00-<32 hexadecimal digits>-<16>-<2>
UNDECIDED: Final = "02"
NOT_SAMPLED: Final = "00"

_WRITTEN = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

Kind = Literal["server", "producer", "consumer", "client", "internal"]
Value = str | int | float | bool

#: The traceparent of what runs in this context, or "".
current: ContextVar[str] = ContextVar("traceparent", default="")


class Span(Protocol):
    """One that is open."""

    @property
    def traceparent(self) -> str:
        """What its children have for a parent."""
        ...

    def set(self, name: str, value: Value) -> None:
        """An attribute more. Texts are redacted."""
        ...

    def fail(self, error: str) -> None:
        """It failed, and goes on to its end."""
        ...

    def end(self, error: str = "", *, at_s: float | None = None) -> None:
        """It is over, at `at_s` (Unix seconds) or now; with an `error`, it failed."""
        ...


class Recorder(Protocol):
    """What makes spans of it all: `otel.Tracer`."""

    def decides(self, name: str) -> bool:
        """Whether a trace that begins now, and with this, is sampled."""
        ...

    def has_room(self, trace_id: str) -> bool:
        """Whether the trace may have another span."""
        ...

    def open(
        self,
        name: str,
        kind: Kind,
        parent: str,
        attributes: Mapping[str, Value],
        links: Sequence[str],
        start_s: float | None,
    ) -> Span:
        """A span below `parent`, the traceparent of a sampled or undecided trace, or "" for a new one."""
        ...


_recorder: Recorder | None = None


def record_with(recorder: Recorder | None) -> None:
    """From now on spans of this process go to `recorder`, or nowhere."""
    global _recorder
    _recorder = recorder


def is_on() -> bool:
    """Whether this process records spans."""
    return _recorder is not None


def is_sampled(traceparent: str) -> bool:
    """Whether its spans are recorded."""
    return len(traceparent) == LENGTH and traceparent[54] in "13579bdf"


def given(header: str) -> str:
    """The traceparent another program sent, its flags as they are meant here; "" where it is none."""
    if not _WRITTEN.fullmatch(header):
        return ""
    # its library has decided, whatever else it says in the flags
    return f"{header[:53]}{'01' if is_sampled(header) else NOT_SAMPLED}"


def new_traceparent(flags: str) -> str:
    """A trace that nothing is known of yet."""
    return f"00-{getrandbits(128):032x}-{getrandbits(64):016x}-{flags}"


def wants(name: str, parent: str) -> bool:
    """Whether a span below `parent` is to be begun; one that is undecided, or "", is decided by this. Ask once.

    A trace that has grown too long gets no more: what is done goes on below the last span it has.
    """
    recorder = _recorder
    if recorder is None:
        return False
    if is_sampled(parent):
        return recorder.has_room(parent[3:35])
    return parent[53:] != NOT_SAMPLED and recorder.decides(name)


def begin(
    name: str,
    kind: Kind,
    *,
    parent: str,
    attributes: Mapping[str, Value] | None = None,
    links: Sequence[str] = (),
    start_s: float | None = None,
    is_wanted: bool | None = None,
) -> Span | None:
    """A span, where this process records and the trace is sampled; the caller ends it. `start_s`: Unix seconds, or now.

    `parent`: a traceparent; one that is undecided, or "", is decided here, where `is_wanted` does not say what `wants`
    has said.
    """
    recorder = _recorder
    if recorder is None or not (wants(name, parent) if is_wanted is None else is_wanted):
        return None
    return recorder.open(name, kind, parent, attributes or {}, links, start_s)


def decided(parent: str) -> str:
    """What the children of something that was not sampled here have for a parent: it is not to be decided again."""
    if _recorder is None or is_sampled(parent) or parent[53:] == NOT_SAMPLED:
        return parent
    return f"{parent[:53]}{NOT_SAMPLED}" if len(parent) == LENGTH else new_traceparent(NOT_SAMPLED)


@contextmanager
def call(name: str, attributes: Mapping[str, Value]) -> Iterator[Span | None]:
    """A call to another system, below what runs here; None where that is not sampled. An exception is its failure."""
    parent = current.get()
    span = begin(name, "client", parent=parent, attributes=attributes) if _recorder and is_sampled(parent) else None
    if span is None:
        yield None
        return
    try:
        yield span
    except BaseException as e:
        name = type(e).__name__
        span.set("error.type", name)
        span.end(str(e) if isinstance(e, ServiceError) else name)  # a stranger's words may hold an address with a token
        raise
    span.end()


def answered(span: Span | None, status: int, *, faults_from: int = 400) -> None:
    """Note the status something was answered with by HTTP; from `faults_from` on it is a failure of the span."""
    if span is None:
        return
    span.set("http.response.status_code", status)
    if status >= faults_from:
        span.set("error.type", str(status))
        span.fail(f"answered with {status}")
