"""A few pages over HTTP, whoever asks and however."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus

import pytest

from src.monitoring.listener import MOST_HEAD, MOST_OPEN, Listener, Reply

pytestmark = pytest.mark.anyio


def _well(accepted: str) -> Reply:
    return Reply(HTTPStatus.OK, f"well, and you accept {accepted}".encode())


def _buggy(_: str) -> Reply:
    raise KeyError("a bug")


@pytest.fixture
def port() -> Iterator[int]:
    bound = socket.create_server(("127.0.0.1", 0))
    listener = Listener(bound, {"/well": _well, "/buggy": _buggy})
    port: int = bound.getsockname()[1]
    listener.start()
    yield port
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def answer(port: int, request: bytes) -> tuple[int, str, str]:
    """Status, head and body of the answer; the connection is closed after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), head, body


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /well HTTP/1.1\r\nAccept: a/b\r\nHOST: x\r\naccept: c/d\r\n\r\n", 200, "well, and you accept a/b,c/d"),
        (b"GET /well?and=more HTTP/1.0\r\n\r\n", 200, "well, and you accept "),
        (b"HEAD /well HTTP/1.1\r\n\r\n", 200, ""),
        (b"GET /buggy HTTP/1.1\r\n\r\n", 500, "a fault of ours; it is in the log\n"),
        (b"GET / HTTP/1.1\r\n\r\n", 404, "there are /well, /buggy\n"),
        (b"GET /well/ HTTP/1.1\r\n\r\n", 404, "there are /well, /buggy\n"),
        (b"GET /../well HTTP/1.1\r\n\r\n", 404, "there are /well, /buggy\n"),
        (b"GET http://well/well HTTP/1.1\r\n\r\n", 404, "there are /well, /buggy\n"),
        (b"POST /well HTTP/1.1\r\n\r\n", 405, "GET or HEAD\n"),
        (b"GET /well\r\n\r\n", 400, "that is no request\n"),
        (b"\x16\x03\x01\xff\x00 \x80 \r\n\r\n", 400, "that is no request\n"),
        (b"GET /well HTTP/1.1\r\nx: " + b"x" * MOST_HEAD + b"\r\n\r\n", 431, "that is too long\n"),
    ],
    ids=[
        *("get", "with a query", "head", "a bug", "nothing there", "a slash more", "upwards", "a proxy's form"),
        *("post", "no version", "TLS", "too long"),
    ],
)
async def test_every_request_has_one_answer(port: int, request_: bytes, status: int, body: str) -> None:
    found = await answer(port, request_)
    assert (found[0], found[2]) == (status, body)
    assert "Connection: close" in found[1]


async def test_head_says_how_long_the_page_is(port: int) -> None:
    _, head, _ = await answer(port, b"HEAD /well HTTP/1.1\r\n\r\n")
    assert f"Content-Length: {len('well, and you accept ')}" in head


async def test_who_says_nothing_holds_nobody_up(port: int) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_OPEN - 1)]
    assert (await answer(port, b"GET /well HTTP/1.1\r\n\r\n"))[0] == 200
    for _, writer in silent:
        writer.close()


async def test_more_connections_than_it_takes_are_closed_and_the_next_are_answered(port: int) -> None:
    many = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_OPEN + 5)]
    for reader, _ in many[MOST_OPEN:]:
        with suppress(ConnectionError):
            assert await reader.read(1) == b""
    for _, writer in many:
        writer.close()
        await writer.wait_closed()
    for _ in range(200):  # until it has seen that they left
        with suppress(ConnectionError, IndexError):
            if (await answer(port, b"GET /well HTTP/1.1\r\n\r\n"))[0] == 200:
                return
    raise AssertionError("nobody is answered any more")
