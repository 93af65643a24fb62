"""A real worker, and the machines that watch it."""

import signal
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from redis import Redis

from scripts._process import free_port
from tests.acceptance.processes import UNSCHEDULED, WORKER, ended, environment, running
from tests.conftest import Servers


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


def status_of(port: int, path: str) -> tuple[int, bytes]:
    """What it answers; 0 where nobody does."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def told(systemd: socket.socket) -> str:
    return systemd.recv(4096).decode()


def test_a_worker_tells_how_it_is_from_its_start_to_its_end(
    servers: Servers, database_name: str, systemd: socket.socket, tmp_path: Path
) -> None:
    """What systemd is told and what is answered over HTTP agree."""
    port = free_port()
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    env = environment(
        servers,
        database_name,
        WORKER_METRICS_PORT=str(port),
        NOTIFY_SOCKET=str(tmp_path / "notify"),
        WATCHDOG_USEC="2000000",
        **UNSCHEDULED,
    )
    with running(WORKER, env, tmp_path / "log") as worker:
        assert told(systemd).startswith("READY=1")
        assert told(systemd).startswith("WATCHDOG=1")
        for path in ("/health/live", "/health/ready"):
            assert status_of(port, path)[0] == 200
        body = status_of(port, "/metrics")[1]
        assert b'folkform_lane_jobs{lane="sync",state="pending"} 0.0' in body
        assert b"folkform_job_slots 100.0" in body
        assert ended(worker, signal.SIGTERM) == 0
    systemd.setblocking(False)
    assert any("STOPPING=1" in each for each in iter(lambda: _heard(systemd), ""))
    assert status_of(port, "/health/live")[0] == 0


def _heard(systemd: socket.socket) -> str:
    try:
        return told(systemd)
    except BlockingIOError:
        return ""
