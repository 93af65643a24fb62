"""Spans made by OpenTelemetry's own library, which only this module knows; loaded where traces are on."""

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from loguru import logger
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span as OtelSpan
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from ..rules.redact import redact
from . import Kind, Value, is_sampled, record_with

NS = 1_000_000_000
LONGEST_TEXT = 500  # characters
MOST_WAITING = 4_096  # spans; what comes on top while the collector is slow or away is dropped
FLUSH_MS = 4_000
TELL_EVERY_S = 600.0
_KINDS: Final = {
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}

#: The id of a trace somebody else began without saying whether it is sampled; 0 for none.
_given_id: ContextVar[int] = ContextVar("given trace id", default=0)


@dataclass(frozen=True, slots=True)
class Export:
    """Where spans go, and which. `endpoint`: of traces, with its path; None for the console.

    `most_per_second`: traces that may begin, where `share` (0 to 1) is None; else a share of all.
    """

    service: str
    environment: str
    version: str
    endpoint: str | None
    headers: Mapping[str, str] = field(default_factory=dict)
    share: float | None = None
    most_per_second: float = 20.0


class Seldom(logging.Handler):
    """Says what OpenTelemetry's library logs, each thing once in a while: with no collector it logs every second."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._monotonic = monotonic
        self._told: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        thing, now = f"{record.name}:{record.lineno}", self._monotonic()
        if now - self._told.get(thing, -TELL_EVERY_S) < TELL_EVERY_S:
            return
        self._told[thing] = now
        logger.warning("traces are not sent as they should be", error=record.getMessage()[:LONGEST_TEXT])


class _Ids(RandomIdGenerator):
    def generate_trace_id(self) -> int:
        return _given_id.get() or super().generate_trace_id()


class Allowance:
    """So many a second, and at first as many at once."""

    def __init__(self, per_second: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._left, self._at = max(1.0, per_second), monotonic()
        self._none_before = self._at

    def take(self) -> bool:
        """Whether there is one left, and then take it. Asked for each job, so that a no has to be quick."""
        now = self._monotonic()
        if now < self._none_before:
            return False
        self._left = min(max(1.0, self._per_second), self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            self._none_before = now + (1 - self._left) / self._per_second
            return False
        self._left -= 1
        return True


class _Open:
    """A span; see `tracing.Span`."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: OtelSpan) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def set(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, _clean(value))

    def fail(self, error: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR, redact(error)[:LONGEST_TEXT]))

    def end(self, error: str = "", *, at_s: float | None = None) -> None:
        if error:
            self.fail(error)
        self._span.end(None if at_s is None else int(at_s * NS))


class Tracer:
    """Makes spans and hands them to `processor`; see `tracing.Recorder`."""

    def __init__(self, export: Export, processor: SpanProcessor) -> None:
        told = {
            "service.name": export.service,
            "service.version": export.version,
            "deployment.environment.name": export.environment,
        }
        self._share = export.share
        self._allowance = Allowance(export.most_per_second)
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create(told), shutdown_on_exit=False, id_generator=_Ids()
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("folkform", export.version)

    def decides(self, name: str) -> bool:
        """Whether a trace that begins now is sampled."""
        if self._share is not None:
            return random.random() < self._share  # noqa: S311 - no secret
        return self._allowance.take()

    def open(
        self,
        name: str,
        kind: Kind,
        parent: str,
        attributes: Mapping[str, Value],
        links: Sequence[str],
        start_s: float | None,
    ) -> _Open:
        """A span below `parent`, or the first of a trace that has begun or is to begin here."""
        above = _context_of(parent) if parent else None
        known = above if above and is_sampled(parent) else None
        with _id_of(above if above and not known else None):
            span = self._tracer.start_span(
                name,
                context=set_span_in_context(NonRecordingSpan(known))
                if known
                else Context(),  # not what an app around us has open
                kind=_KINDS[kind],
                attributes={key: _clean(value) for key, value in attributes.items()},
                links=[Link(context) for link in links if (context := _context_of(link))],
                start_time=None if start_s is None else int(start_s * NS),
            )
        return _Open(span)  # type: ignore[arg-type]

    def flush(self) -> None:
        """Send what waits, within some seconds. Blocks."""
        self._provider.force_flush(FLUSH_MS)

    def close(self) -> None:
        """Send what waits, and end. Blocks for some seconds at most."""
        self.flush()
        self._provider.shutdown()


def open_tracer(export: Export) -> Tracer:
    """A tracer that sends in batches, from a thread of its own; a collector that is away costs spans and no more.

    Raises ValueError for headers or an endpoint that cannot be used.
    """
    if export.endpoint is None:
        return Tracer(export, BatchSpanProcessor(ConsoleSpanExporter()))
    exporter = OTLPSpanExporter(endpoint=export.endpoint, headers=dict(export.headers) or None, timeout=5)
    return Tracer(export, BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING, schedule_delay_millis=1_000))


def start(export: Export) -> Tracer:
    """Record the spans of this process from now on; `stop` ends that."""
    library = logging.getLogger("opentelemetry")
    library.handlers, library.propagate = [Seldom()], False
    tracer = open_tracer(export)
    record_with(tracer)
    return tracer


def stop(tracer: Tracer) -> None:
    """Record no more, and send what waits. Blocks for some seconds at most."""
    record_with(None)
    tracer.close()


def _context_of(traceparent: str) -> SpanContext | None:
    try:
        trace_id, span_id = int(traceparent[3:35], 16), int(traceparent[36:52], 16)
    except ValueError:
        return None
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return context if context.is_valid else None


@contextmanager
def _id_of(context: SpanContext | None) -> Iterator[None]:
    token = _given_id.set(context.trace_id if context else 0)
    try:
        yield
    finally:
        _given_id.reset(token)


def _clean(value: Value) -> Value:
    return redact(value)[:LONGEST_TEXT] if isinstance(value, str) else value
