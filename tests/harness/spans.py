"""The spans of this process, kept in memory, and what a test asks of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from src import tracing
from src.tracing.otel import Export, Tracer


class _Watched(Tracer):
    """Remembers for what it was asked whether a trace is to begin."""

    def __init__(self, export: Export, exporter: InMemorySpanExporter) -> None:
        super().__init__(export, SimpleSpanProcessor(exporter))
        self.asked: list[str] = []

    def decides(self, name: str) -> bool:
        self.asked.append(name)
        return super().decides(name)


class Spans:
    """Those that have ended, in the order they did. `asked`: what could have begun a trace, whether it did or not."""

    def __init__(self, exporter: InMemorySpanExporter, asked: list[str]) -> None:
        self.asked = asked
        self._exporter = exporter

    @property
    def all(self) -> Sequence[ReadableSpan]:
        """Every one."""
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        """Of every one."""
        return [span.name for span in self.all]

    def named(self, start: str) -> list[ReadableSpan]:
        """Those whose name begins so."""
        return [span for span in self.all if span.name.startswith(start)]

    def one(self, start: str) -> ReadableSpan:
        """The only one whose name begins so."""
        (found,) = self.named(start)
        return found

    @property
    def traces(self) -> set[int]:
        """The ids of the traces there are."""
        return {trace_id(span) for span in self.all}

    @property
    def text(self) -> str:
        """Everything that would leave the house."""
        return "\n".join(span.to_json() for span in self.all)

    def clear(self) -> None:
        """Forget them."""
        self._exporter.clear()
        self.asked.clear()


def trace_id(span: ReadableSpan) -> int:
    """Of the trace it belongs to."""
    context = span.context
    assert context is not None
    return int(context.trace_id)


def span_id(span: ReadableSpan) -> int:
    """Its own."""
    context = span.context
    assert context is not None
    return int(context.span_id)


def is_below(child: ReadableSpan, parent: ReadableSpan) -> bool:
    """Whether that is the parent, in the same trace."""
    return child.parent is not None and child.parent.span_id == span_id(parent) and trace_id(child) == trace_id(parent)


def links(span: ReadableSpan) -> list[int]:
    """The ids of the spans it is linked to."""
    return [link.context.span_id for link in span.links]


@contextmanager
def inside(name: str = "outer") -> Iterator[None]:
    """What is done inside is done below a span of that name."""
    span = tracing.begin(name, "internal", parent="")
    assert span is not None
    token = tracing.current.set(span.traceparent)
    try:
        yield
    finally:
        tracing.current.reset(token)
        span.end()


@contextmanager
def recording(
    *, share: float | None = 1.0, most_per_second: float = 20.0, most_in_trace: int = 1_000
) -> Iterator[Spans]:
    """Inside, spans of this process are kept; of the traces that begin here `share`, or so many a second."""
    exporter = InMemorySpanExporter()
    export = Export(
        "shop", "test", "1", None, share=share, most_per_second=most_per_second, most_in_trace=most_in_trace
    )
    tracer = _Watched(export, exporter)
    tracing.record_with(tracer)
    try:
        yield Spans(exporter, tracer.asked)
    finally:
        tracing.record_with(None)
