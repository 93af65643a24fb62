"""Traces of a process, from its settings: begun where it begins, and what waits is sent when it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec

from loguru import logger

from . import __version__
from .errors import Permanent
from .settings import Settings

PARTS = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


@asynccontextmanager
async def traced(settings: Settings, service: str) -> AsyncIterator[None]:
    """Inside, spans of this process go where the settings say, if anywhere; `service` is its name.

    Raises Permanent, with what to install, where OpenTelemetry is not there.
    """
    tracing = settings.tracing
    if not tracing.is_on:
        yield
        return
    if not is_installed():
        raise Permanent(
            "OTEL_... asks for traces, and OpenTelemetry is not installed: pip install 'folkform-worker[otel]'"
        )
    from .tracing.otel import Export, start, stop  # loaded only where traces are on: it is large

    try:
        tracer = start(
            Export(
                service=tracing.service_name or service,
                environment=settings.service.environment,
                version=__version__,
                endpoint=tracing.endpoint,
                headers=tracing.headers,
                share=tracing.share,
                most_per_second=tracing.traces_per_second,
            )
        )
    except ValueError as e:
        raise Permanent(f"OTEL_... cannot be used: {type(e).__name__}; see docs/traces.md") from e
    logger.info("traces are on", exporter=tracing.traces_exporter or "otlp")
    try:
        yield
    finally:
        if not await asyncio.to_thread(stop, tracer):
            logger.warning("last traces were not sent: the collector does not answer in time")


def is_installed() -> bool:
    """Whether OpenTelemetry is there."""
    try:
        return all(find_spec(part) for part in PARTS)
    except ModuleNotFoundError:
        return False
