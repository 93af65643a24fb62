"""Spans of calls by HTTP: method, host, port and status.

Neither path nor query nor header: the addresses of channels and merchants hold tokens. No traceparent goes along with a
call either, as those who are called are strangers.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from .. import tracing
from ..tracing import Span


@contextmanager
def outgoing(to: str, method: str, url: str) -> Iterator[Span | None]:
    """The span of the call that is made inside, named after its `method` and whom it goes `to`; None where none is.

    What the call was answered with is to be told by `tracing.answered`. What is raised inside is its failure.
    """
    # opentelemetry.io/docs/specs/semconv/http/http-spans
    with tracing.call(f"{method} {to}", {"http.request.method": method}) as span:
        if span is not None:
            for name, value in _address(url):
                span.set(name, value)
        yield span


def _address(url: str) -> Iterator[tuple[str, str | int]]:
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.hostname:
            yield "server.address", parts.hostname
            yield "server.port", parts.port or (443 if parts.scheme == "https" else 80)
