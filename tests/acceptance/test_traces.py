"""Traces of real processes, as a collector gets them."""

import gzip
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pymongo import MongoClient
from redis import Redis

from tests.acceptance.processes import COMMAND, UNSCHEDULED, WORKER, ended, environment, run, running, until
from tests.conftest import Servers

JOB = "reconcile_webhooks"


class Collector(ThreadingHTTPServer):
    """Takes spans as OTLP over HTTP has them (opentelemetry.io/docs/specs/otlp, section OTLP/HTTP)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str], ExportTraceServiceRequest]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[tuple[str, Any]]:
        """(service, span) of all that came."""
        return [
            (next(a.value.string_value for a in of.resource.attributes if a.key == "service.name"), span)
            for _, _, request in list(self.requests)
            for of in request.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert isinstance(self.server, Collector)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join(5)


@pytest.fixture
def env(servers: Servers, database_name: str) -> dict[str, str]:
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    return {**environment(servers, database_name), **UNSCHEDULED}


def test_a_collector_gets_the_trace_of_a_job(env: dict[str, str], servers: Servers, tmp_path: Path) -> None:
    """From the command over the worker into MongoDB; what is left is sent as the worker ends."""
    with collecting() as collector:
        env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b"}
        env |= {"PANCAKE_BASE_URL": "http://127.0.0.1:1/api", "PANCAKE_ACCESS_TOKEN": "planted-token"}
        with running(WORKER, env, tmp_path / "log") as worker:
            assert run([*COMMAND, "schedules", "run", "sync_pages"], env).returncode == 0
            assert run([*COMMAND, "enqueue", JOB], env).returncode == 0
            with MongoClient[dict[str, Any]](servers.mongodb_uri) as client:
                runs = client[env["MONGODB_DATABASE"]]["job_runs"]
                until(lambda: runs.count_documents({"job": JOB, "end": "done"}) == 1, "it ran")
                (stored,) = runs.find({"job": JOB})
            assert ended(worker, signal.SIGTERM) == 0
        spans = collector.spans()
        assert {(path, headers["x-key"]) for path, headers, _ in collector.requests} == {("/v1/traces", "a b")}
    (job,) = [span for service, span in spans if (service, span.name) == ("folkform-worker", f"run {JOB}")]
    assert job.trace_id.hex() == stored["traceId"]
    assert any(span.parent_span_id == job.span_id and span.name.startswith("find ") for _, span in spans)
    (asked,) = [span for service, span in spans if (service, span.name) == ("folkform-command", "enqueue sync_pages")]
    (listed,) = [span for _, span in spans if span.name == "run sync_pages" and span.parent_span_id == asked.span_id]
    assert listed.trace_id == asked.trace_id
    assert any("Pancake" in span.name and span.trace_id == asked.trace_id for _, span in spans)
    assert "planted-token" not in str(spans)


def test_a_collector_that_is_away_costs_spans_and_nothing_else(env: dict[str, str], tmp_path: Path) -> None:
    """Jobs run, and the worker ends in time."""
    env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    with running(WORKER, env, tmp_path / "log") as worker:
        assert run([*COMMAND, "enqueue", JOB], env).returncode == 0
        until(lambda: b'"outcome"' in (tmp_path / "log").read_bytes(), "it ran")
        assert ended(worker, signal.SIGTERM, 20) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_what_cannot_be_used_stops_the_start_with_a_line(env: dict[str, str]) -> None:
    """A wrong address or sampler is named; nothing is traced in silence."""
    done = run(WORKER, {**env, "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318", "OTEL_TRACES_SAMPLER": "some"})
    assert done.returncode == 1
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: is to be an address" in done.stderr
    assert "OTEL_TRACES_SAMPLER: is one of always_on" in done.stderr
