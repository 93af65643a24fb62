"""Calls to MongoDB as spans: what PyMongo tells of its commands, inside of what is sampled."""

from collections.abc import Iterator, Mapping
from typing import Any

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from .. import tracing

MOST_OPEN = 10_000  # commands whose end was never told
#: Commands whose value is a collection; that of others may be a user, a password or anything else.
OF_COLLECTIONS = frozenset(
    ("find", "aggregate", "count", "distinct", "insert", "update", "delete", "findAndModify", "create", "drop")
) | {"createIndexes", "dropIndexes", "listIndexes"}


class MongoSpans(CommandListener):
    """Called in the thread that speaks with the server, within the context of who asked."""

    def __init__(self) -> None:
        self._open: dict[tuple[Any, int], tracing.Span] = {}

    def started(self, event: CommandStartedEvent) -> None:
        """Nothing of a command is told but its name, database and collection: the rest is the shop's data."""
        parent = tracing.current.get()
        if not tracing.is_sampled(parent) or len(self._open) >= MOST_OPEN:
            return
        about = dict(_about(event))
        name = " ".join(str(about[part]) for part in ("db.operation.name", "db.collection.name") if part in about)
        span = tracing.begin(name, "client", parent=parent, attributes=about)
        if span is not None:
            self._open[event.connection_id, event.request_id] = span

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """It is over."""
        if span := self._open.pop((event.connection_id, event.request_id), None):
            span.end()

    def failed(self, event: CommandFailedEvent) -> None:
        """The server refused it, or the connection broke. Its message may hold a row's values and is left out."""
        if span := self._open.pop((event.connection_id, event.request_id), None):
            failure: Mapping[str, Any] = event.failure
            if "code" in failure:
                span.set("db.response.status_code", str(failure["code"]))
            word = str(failure.get("codeName") or failure.get("errtype") or "failed")
            span.set("error.type", word)
            span.end(word)


def _about(event: CommandStartedEvent) -> Iterator[tuple[str, str | int]]:
    # opentelemetry.io/docs/specs/semconv/database/mongodb
    yield "db.system.name", "mongodb"
    yield "db.namespace", event.database_name
    yield "db.operation.name", event.command_name
    if event.command_name in OF_COLLECTIONS:
        yield "db.collection.name", str(event.command[event.command_name])
    elif event.command_name == "getMore":
        yield "db.collection.name", str(event.command["collection"])
    host, port = event.connection_id
    yield "server.address", host
    if port is not None:  # None: a socket file
        yield "server.port", port
