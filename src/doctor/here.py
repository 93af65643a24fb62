"""This machine: what a worker of these settings would find here. No server is needed for any of it."""

import asyncio
import getpass
import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from ..errors import Permanent
from ..log.files import unwritable
from ..settings import Settings
from ..traced import is_installed
from .findings import Note

ANSWER_S = 2.0
LITTLE_BYTES = 1_000_000_000  # free where logs go


async def metrics_port(settings: Settings) -> str | Note:
    """Whether the port is free, or a worker's of ours; another program there costs the metrics, not the worker."""
    port = settings.worker.metrics_port
    if not port:
        return "off (WORKER_METRICS_PORT)"
    try:
        async with httpx.AsyncClient(timeout=ANSWER_S, trust_env=False) as http:
            answer = await http.get(f"http://127.0.0.1:{port}/health/ready")
    except httpx.ConnectError:
        return _bindable(port)
    except httpx.HTTPError:
        return _taken(port)
    try:
        told = answer.json()
        status, because = told["status"], told["because"]
    except (ValueError, KeyError, TypeError):
        return _taken(port)
    if because:
        return Note(f"a worker at port {port} is {status}: {'; '.join(map(str, because))}")
    return f"a worker at port {port} is {status}"


def _bindable(port: int) -> str | Note:
    try:
        socket.create_server(("", port)).close()
    except OSError as e:
        return Note(f"port {port} cannot be opened ({e.strerror}), so no metrics: set WORKER_METRICS_PORT")
    return f"port {port} is free; no worker of this machine serves it"


def _taken(port: int) -> Note:
    return Note(f"another program has port {port}, so workers here serve no metrics: set WORKER_METRICS_PORT")


async def log_dir(settings: Settings) -> str | Note:
    """Whether files can be made in LOG_DIR, or it can be made itself. Raises Permanent where not."""
    directory = settings.service.log_dir
    if directory is None:
        return "on standard error only (LOG_DIR)"
    try:
        there = _nearest(directory)  # not made here: it would belong to whoever looks, and perhaps not to the worker
        refused = unwritable(there)
        free = shutil.disk_usage(there).free
    except OSError as e:
        refused, free = e.strerror or type(e).__name__, 0
    if refused:
        raise Permanent(f"{_user()} cannot write to LOG_DIR={directory}: {refused}")
    if free < LITTLE_BYTES:
        return Note(f"only {free / 1e6:,.0f} MB are free at LOG_DIR={directory}: make room, or lines are lost")
    return f"files in {directory}, {free / 1e9:,.0f} GB free"


def _nearest(directory: Path) -> Path:
    """It, or what is there of the way to it. Raises OSError where it cannot be looked at."""
    return next(each for each in (directory, *directory.absolute().parents) if each.exists())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


async def traces(settings: Settings) -> str | Note:
    """Whether they can be made and somebody takes them. Raises Permanent where OpenTelemetry lacks."""
    tracing = settings.tracing
    if not tracing.is_on:
        return "off (OTEL_EXPORTER_OTLP_ENDPOINT)"
    if not is_installed():
        raise Permanent("OTEL_... is set and OpenTelemetry is not installed: pip install 'folkform-worker[otel]'")
    if tracing.endpoint is None:
        return "to the console"
    parts = urlsplit(tracing.endpoint)
    where = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    try:
        async with asyncio.timeout(ANSWER_S):
            port = parts.port or (443 if parts.scheme == "https" else 80)
            _, writer = await asyncio.open_connection(parts.hostname, port)
            writer.close()
    except OSError as e:  # a timeout is one
        return Note(f"nobody answers at {where} ({type(e).__name__}): traces are lost until the collector is there")
    return f"to {where}"
