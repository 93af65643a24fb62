"""What systemd is told arrives at a real socket, and costs nothing where there is none."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from src.clients.systemd import notify, watchdog_s


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """systemd's end, and the address as systemd writes it."""
    path = str(tmp_path / "notify") if request.param == "path" else f"\0folkform-test-{uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(path)
        end.setblocking(False)
        yield end, path.replace("\0", "@")


def test_it_is_told_in_one_datagram(listening: tuple[socket.socket, str]) -> None:
    end, address = listening
    assert notify("READY=1", "STATUS=two\nlines", environ={"NOTIFY_SOCKET": address})
    assert end.recv(4096) == b"READY=1\nSTATUS=two lines"


def test_one_that_does_not_listen_holds_nobody_up(listening: tuple[socket.socket, str]) -> None:
    """Its buffer runs full: what is said then is lost."""
    _, address = listening
    said = [notify("STATUS=" + "x" * 1000, environ={"NOTIFY_SOCKET": address}) for _ in range(10_000)]
    assert said[0]
    assert not said[-1]


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/notify", "@nobody-is-here", "/x" * 200])
def test_without_systemd_nothing_is_told(address: str | None) -> None:
    assert not notify("READY=1", environ={} if address is None else {"NOTIFY_SOCKET": address})


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "120000000"}, 60.0),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
    ids=["none", "any process", "this process", "another", "off", "nonsense"],
)
def test_it_is_told_twice_as_often_as_it_needs(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_s(environ) == seconds
