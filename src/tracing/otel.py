"""Spans made by OpenTelemetry's own library, which only this module knows; loaded where traces are on."""

import logging
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import islice
from threading import Thread
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
MOST_IN_TRACE = 1_000  # spans of ours: a pass over all there is makes a call for each page of it, for hours
TRACES_KNOWN = 10_000
MOST_WAITING = 4_096  # spans; what comes on top while the collector is slow or away is dropped
END_S = 4.0  # for the last spans to be sent
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
    `most_in_trace`: spans of this process in one of them.
    """

    service: str
    environment: str
    version: str
    endpoint: str | None
    headers: Mapping[str, str] = field(default_factory=dict)
    share: float | None = None
    most_per_second: float = 20.0
    most_in_trace: int = MOST_IN_TRACE


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


class Room:
    """How many spans each trace has; of those not heard of for long it is forgotten. Safe for threads."""

    def __init__(self, most: int, known: int = TRACES_KNOWN) -> None:
        self._most = most
        self._known = known
        self._taken: dict[str, int] = {}

    def is_left(self, trace_id: str) -> bool:
        """Whether the trace may have another span."""
        return self._taken.get(trace_id, 0) < self._most

    def take(self, trace_id: str) -> bool:
        """Count one; whether it is the last."""
        taken = self._taken.pop(trace_id, 0) + 1  # the dict is in the order of last use
        self._taken[trace_id] = taken
        if len(self._taken) > self._known:
            for oldest in list(islice(self._taken, self._known // 2)):
                self._taken.pop(oldest, None)
        return taken == self._most


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
        self._room = Room(export.most_in_trace)
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

    def has_room(self, trace_id: str) -> bool:
        """Whether the trace may have another span."""
        return self._room.is_left(trace_id)

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
                name[:LONGEST_TEXT],
                context=set_span_in_context(NonRecordingSpan(known))
                if known
                else Context(),  # not what an app around us has open
                kind=_KINDS[kind],
                attributes={key: _clean(value) for key, value in attributes.items()},
                links=[Link(context) for link in links if (context := _context_of(link))],
                start_time=None if start_s is None else int(start_s * NS),
            )
        opened = _Open(span)  # type: ignore[arg-type]
        if self._room.take(opened.traceparent[3:35]):
            opened.set("folkform.trace.is_full", True)
        return opened

    def close(self, within_s: float = END_S) -> bool:
        """Send what waits, and end. Blocks for `within_s` at most; whether all of it was tried by then."""
        # The library's own deadlines do not hold: it tries batch after batch, five seconds each. And a thread of
        # asyncio's pool would be waited for once more, when the loop ends.
        thread = Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        thread.start()
        thread.join(within_s)
        return not thread.is_alive()


def open_tracer(export: Export) -> Tracer:
    """A tracer that sends in batches, from a thread of its own; a collector that is away costs spans and no more.

    Raises ValueError for headers or an endpoint that cannot be used.
    """
    if export.endpoint is None:
        return Tracer(export, BatchSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
    exporter = OTLPSpanExporter(endpoint=export.endpoint, headers=dict(export.headers) or None, timeout=5)
    return Tracer(export, BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING, schedule_delay_millis=1_000))


def start(export: Export) -> Tracer:
    """Record the spans of this process from now on; `stop` ends that."""
    library = logging.getLogger("opentelemetry")
    library.handlers, library.propagate = [Seldom()], False
    tracer = open_tracer(export)
    record_with(tracer)
    return tracer


def stop(tracer: Tracer) -> bool:
    """Record no more, and send what waits. Blocks for `END_S` at most; False where that was too short."""
    record_with(None)
    return tracer.close()


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
