"""The simulated merchants over real sockets: each behaves, byte for byte, as it was asked to."""

import asyncio
import base64
import json
import ssl
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook, WebhookVerificationError

from tests.simulators import merchant as sim
from tests.simulators.merchant import Behaviour, Cycle, InLoop, Remote, running, running_in_thread, verified
from tests.simulators.merchant.behaviours import When
from tests.simulators.merchant.server import Door

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
MIB = 1 << 20
LOOPS = {"asyncio": False, "uvloop": True}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"


def webhook(name: str, body: bytes = b"{}", identity: str = "msg_1", more: str = "") -> bytes:
    """One webhook as a client sends it."""
    head = (
        f"POST /m/{name} HTTP/1.1\r\nHost: here\r\nWebhook-Id: {identity}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> bytes:
        """The next answer with a Content-Length, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head + await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """Everything until the FIN; a RST raises."""
        return await self.reader.read()


@asynccontextmanager
async def client(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def all_of(port: int, data: bytes) -> bytes:
    """What comes back for these bytes until the server closes."""
    async with client(port) as one:
        one.send(data)
        return await one.rest()


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Tests run in this loop, benchmarks in uvloop: they close and reset in different ways."""
    return "asyncio", {"use_uvloop": LOOPS[request.param]}


@pytest.fixture
async def merchants() -> AsyncIterator[InLoop]:
    async with running() as opened:
        yield opened


async def nobody(merchants: InLoop) -> None:
    """Until the last connection has ended."""
    while merchants.open_connections:  # noqa: ASYNC110 - a turn of the loop or two
        await asyncio.sleep(0)


# --- what is received


async def test_a_request_is_recorded_as_it_came(merchants: InLoop) -> None:
    """Path, headers by lower-case name (twice the same one joined), every byte of the body, the time and connection."""
    body, before = bytes(range(256)) * 4096, time.time()
    async with client(merchants.port) as one:
        one.send(webhook("shop/a?b=c", body, more="X-Two: 1\r\nx-two:2 \r\n"))
        assert await one.answer() == OK
    [received] = merchants.received("shop")
    assert (received.name, received.method, received.path) == ("shop", "POST", "/m/shop/a?b=c")
    assert received.headers["x-two"] == "1, 2"
    assert received.headers["webhook-id"] == "msg_1"
    assert (received.body, received.connection) == (body, 1)
    assert before <= received.arrived_at <= time.time()
    assert merchants.url("shop") == f"http://127.0.0.1:{merchants.port}/m/shop"


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_requests_are_told_apart_however_they_are_split(merchants: InLoop, size: int) -> None:
    """Three requests on end, in pieces of any size, get three answers on one connection."""
    sent = b"".join(webhook("shop", b"%d\r\n\r\n" % number, f"msg_{number % 2}") for number in range(3))
    async with client(merchants.port) as one:
        for at in range(0, len(sent), size):
            one.send(sent[at : at + size])
            await one.writer.drain()
            await asyncio.sleep(0)
        assert [await one.answer() for _ in range(3)] == [OK] * 3
    assert [received.body for received in merchants.received("shop")] == [b"0\r\n\r\n", b"1\r\n\r\n", b"2\r\n\r\n"]
    assert merchants.ids("shop") == {"msg_0": 2, "msg_1": 1}
    assert (merchants.connections, merchants.connections_of("shop"), merchants.count("shop")) == (1, 1, 3)


async def test_a_request_is_whole_before_it_counts(merchants: InLoop) -> None:
    """The arrival is that of the body's last byte."""
    async with client(merchants.port) as one:
        one.send(webhook("shop", b"body")[:-1])
        with pytest.raises(TimeoutError, match=r"merchant shop received 0 of 1 requests within 0\.05 s"):
            await merchants.wait_for("shop", 1, 0.05)
        before = time.time()
        one.send(b"y")
        [received] = await merchants.wait_for("shop", 1)
    assert received.arrived_at >= before


@pytest.mark.parametrize("data", [b"NONSENSE\r\n\r\n", webhook("a", more="Transfer-Encoding: chunked\r\n")])
async def test_what_it_cannot_read_is_refused(merchants: InLoop, data: bytes) -> None:
    """400 and a FIN, nothing recorded."""
    assert (await all_of(merchants.port, data)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert merchants.count("a") == 0


async def test_a_client_may_ask_to_close(merchants: InLoop) -> None:
    """`Connection: close` in a request is obeyed, and a path of no merchant is not found."""
    assert await all_of(merchants.port, webhook("a", more="Connection: close\r\n")) == OK
    unknown = b"GET / HTTP/1.0\r\n\r\n"
    assert (await all_of(merchants.port, unknown)).startswith(b"HTTP/1.1 404 Not Found\r\n")


# --- answers


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (sim.ok(), OK),
        (sim.ok(204), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (sim.ok(202, body=b"yes"), b"HTTP/1.1 202 Accepted\r\ncontent-length: 3\r\n\r\nyes"),
        (sim.gone(), b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"),
        (sim.status(599, {"X": "y"}), b"HTTP/1.1 599 Unheard Of\r\nX: y\r\ncontent-length: 0\r\n\r\n"),
        (
            sim.redirect("http://else/", 308),
            b"HTTP/1.1 308 Permanent Redirect\r\nlocation: http://else/\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            sim.retry_after(429, 120),
            b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            sim.retry_after(503, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: Fri, 02 Jan 2026 03:04:05 GMT\r\n"
            b"content-length: 0\r\n\r\n",
        ),
        (
            sim.disable("abort-message"),
            b"HTTP/1.1 400 Bad Request\r\nwebhook-delivery: abort-message\r\ncontent-length: 0\r\n\r\n",
        ),
        (sim.informed(102, 103), b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK),
        (sim.informed(103, latency_s=0.01), b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK),
        (
            sim.chunked(b"twelve bytes", 8),
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\ntwelve b\r\n4\r\nytes\r\n0\r\n\r\n",
        ),
        (sim.garbage(b"\0\xff"), b"\0\xff"),
        (replace(sim.garbage(b"late"), latency_s=0.01), b"late"),
        (sim.closing(), b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        (sim.stale("once"), OK),
        (sim.stale("next"), OK),
        (sim.refuse("before"), b""),
        (sim.refuse("after"), b""),
        (sim.refuse("inside"), b"HTTP/1.1 200 OK\r\ncontent-length: 25\r\n\r\nhalf of this"),
    ],
    ids=str,
)
async def test_answers_byte_for_byte(merchants: InLoop, behaviour: Behaviour, expected: bytes) -> None:
    """What the client gets until the connection ends, and the merchant next to it is not touched."""
    merchants.behave("shop", behaviour)
    closes = behaviour.end != "keep" or behaviour.cut
    async with client(merchants.port) as one:
        one.send(webhook("shop"))
        assert await one.reader.readexactly(len(expected)) == expected
        if behaviour.end == "stale_next":
            assert not one.reader.at_eof()
        one.send(b"" if closes and behaviour.end != "stale_next" else webhook("next"))
        assert (await one.rest() == b"") if closes else (await one.answer() == OK)
    assert merchants.count("shop") == (behaviour.cut != "before")
    assert merchants.count("next") == (not closes)
    assert merchants.in_flight("shop") == 0


@pytest.mark.parametrize("when", ["before", "after", "inside"])
async def test_a_reset_is_a_reset(merchants: InLoop, when: When) -> None:
    """The client's socket says so, instead of an orderly end."""
    merchants.behave("shop", sim.refuse(when, reset=True))
    with pytest.raises(ConnectionResetError):
        await all_of(merchants.port, webhook("shop"))


async def test_refusing_before_the_body(merchants: InLoop) -> None:
    """The head alone is enough to be refused."""
    merchants.behave("shop", sim.refuse("before"))
    assert await all_of(merchants.port, webhook("shop", b"body")[:-4]) == b""
    assert merchants.received("shop") == []


async def test_the_dead_say_nothing_until_the_client_goes(merchants: InLoop) -> None:
    """The request is read and in flight, no byte comes back, and giving up ends it."""
    merchants.behave("shop", sim.dead())
    async with client(merchants.port) as one:
        one.send(webhook("shop") + webhook("shop"))
        await merchants.wait_for("shop", 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.reader.read(1), 0.05)
        assert (merchants.in_flight("shop"), merchants.count("shop")) == (1, 1)
        one.writer.close()
        await nobody(merchants)
    assert merchants.in_flight("shop") == 0


async def test_latency_is_before_the_head(merchants: InLoop) -> None:
    """No byte before its time."""
    merchants.behave("shop", sim.slow(0.1))
    began = time.monotonic()
    async with client(merchants.port) as one:
        one.send(webhook("shop"))
        await one.reader.readexactly(1)
        assert time.monotonic() - began >= 0.09  # uvloop's clock has whole milliseconds


async def test_dripping_sends_single_bytes(merchants: InLoop) -> None:
    """Head and body come byte by byte, each after its time."""
    merchants.behave("shop", sim.drip(head_byte_s=0.003, body_byte_s=0.003, body=b"0123456789"))
    async with client(merchants.port) as one:
        one.send(webhook("shop"))
        began = time.monotonic()
        first = await one.reader.read(1000)
        head = first + await one.reader.readuntil(b"\r\n\r\n")
        assert len(first) < 10
        assert time.monotonic() - began >= 0.001 * (len(head) - 10)
        began = time.monotonic()
        assert await one.reader.readexactly(10) == b"0123456789"
        assert time.monotonic() - began >= 0.002 * 9


@pytest.mark.parametrize("chunk_bytes", [0, 65536])
async def test_a_huge_body_is_streamed(merchants: InLoop, chunk_bytes: int) -> None:
    """All of it arrives, in one piece or in chunks."""
    merchants.behave("shop", replace(sim.huge(16, chunk_bytes=chunk_bytes), end="close"))
    answer = await all_of(merchants.port, webhook("shop"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (b"transfer-encoding: chunked" in head) if chunk_bytes else (b"content-length: %d" % (16 * MIB) in head)
    frames = 256 * len(b"10000\r\n\r\n") + len(b"0\r\n\r\n") if chunk_bytes else 0
    assert len(body) == 16 * MIB + frames


async def test_a_client_that_stops_reading_stops_the_stream(merchants: InLoop) -> None:
    """The answer waits for the client to read on; one who leaves instead ends it, and nothing is in flight any more."""
    merchants.behave("shop", sim.huge(512))
    async with client(merchants.port) as one:
        one.send(webhook("shop"))
        await one.reader.readexactly(MIB)
        assert merchants.in_flight("shop") == 1
    await nobody(merchants)
    assert merchants.in_flight("shop") == 0


async def test_a_gzip_bomb_is_small_and_good_gzip(merchants: InLoop) -> None:
    """A quarter of a GiB travels as a quarter of a MB; a smaller one unpacks in full, its checksum good."""
    assert len(sim.gzip_bomb(256).body) < 0.3 * MIB
    merchants.behave("shop", sim.gzip_bomb(32))
    async with client(merchants.port) as one:
        one.send(webhook("shop"))
        head, _, body = (await one.answer()).partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert unpacker.decompress(body) == bytes(32 * MIB)
    assert unpacker.eof


# --- one after the other, and together


async def statuses(merchants: InLoop, name: str, count: int) -> list[int]:
    """The codes of this many requests in a row."""
    async with client(merchants.port) as one:
        codes = []
        for _ in range(count):
            one.send(webhook(name))
            codes.append(int((await one.answer())[9:12]))
    return codes


async def test_a_script_is_played_and_its_end_stays(merchants: InLoop) -> None:
    """Behaviours come in turn, the last for ever; a cycle goes round at the end and once in the middle."""
    merchants.behave("a", sim.status(500), sim.status(502), sim.ok())
    assert await statuses(merchants, "a", 5) == [500, 502, 200, 200, 200]
    merchants.behave("a", sim.flapping(1, 1), sim.flapping(2, 1, badly=sim.gone()))
    assert await statuses(merchants, "a", 8) == [200, 503, 200, 200, 410, 200, 200, 410]
    merchants.behave("a", sim.ok(201))
    assert await statuses(merchants, "a", 1) == [201]
    for nothing in (lambda: merchants.behave("a"), lambda: sim.flapping(0, 0)):
        with pytest.raises(ValueError, match="has to behave somehow"):
            nothing()


async def test_a_cap_and_the_peak_in_flight(merchants: InLoop) -> None:
    """Two wait for ever and who comes on top gets a 429 at once; the peak counts those not answered, three of them."""
    merchants.behave("shop", replace(sim.dead(), at_most=2))
    async with client(merchants.port) as first, client(merchants.port) as second:
        first.send(webhook("shop"))
        second.send(webhook("shop"))
        await merchants.wait_for("shop", 2)
        assert await statuses(merchants, "shop", 3) == [429] * 3
        assert (merchants.in_flight("shop"), merchants.peak("shop")) == (2, 3)
    await nobody(merchants)
    merchants.clear()
    merchants.behave("shop", sim.ok(latency_s=0.01))
    assert await statuses(merchants, "shop", 3) == [200] * 3
    assert (merchants.peak("shop"), merchants.count("shop"), merchants.connections) == (1, 3, 1)


# --- the port


async def test_down_and_up_on_the_same_port(merchants: InLoop) -> None:
    """Down resets who is there and refuses who comes; up is the same address again."""
    async with client(merchants.port) as one:
        one.send(webhook("shop"))
        assert await one.answer() == OK
        merchants.down()
        with pytest.raises(ConnectionResetError):
            await one.rest()
    with pytest.raises(ConnectionRefusedError):
        await all_of(merchants.port, b"")
    merchants.up()
    assert await statuses(merchants, "shop", 1) == [200]
    assert (merchants.connections, merchants.count("shop")) == (2, 2)


@pytest.mark.parametrize("door", ["close", "reset", "silent"])
async def test_the_door(merchants: InLoop, door: Door) -> None:
    """A connection is ended, or left alone, before a byte of it is read; an open one goes on."""
    async with client(merchants.port) as old:
        old.send(webhook("shop"))
        assert await old.answer() == OK
        merchants.door = door
        if door == "close":
            assert await all_of(merchants.port, b"") == b""
        elif door == "reset":
            with pytest.raises(ConnectionResetError):
                await all_of(merchants.port, b"")
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(all_of(merchants.port, webhook("shop")), 0.05)
        old.send(webhook("shop"))
        assert await old.answer() == OK
    assert (merchants.connections, merchants.count("shop")) == (2, 2)


def certified(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts for a server on 127.0.0.1 and for a client that trusts it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "merchant")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    encoded = certificate.public_bytes(serialization.Encoding.PEM)
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = folder / "merchant.pem"
    pem.write_bytes(key.private_bytes(*plain) + encoded)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cadata=encoded.decode())


async def test_tls(tmp_path: Path) -> None:
    """The same over TLS; a client that does not trust us has connected, and nothing more."""
    server, trusting = certified(tmp_path)
    async with running(tls=server) as merchants:
        assert merchants.url("shop").startswith("https://127.0.0.1:")
        merchants.behave("shop", sim.ok(), sim.refuse("after", reset=True))
        async with client(merchants.port, trusting) as one:
            one.send(webhook("shop"))
            assert await one.answer() == OK
            one.send(webhook("shop"))
            with pytest.raises(ConnectionResetError):
                await one.rest()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", merchants.port, ssl=ssl.create_default_context())
        assert (merchants.connections, merchants.count("shop")) == (2, 2)


# --- elsewhere than in this loop


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    with Remote() as opened:
        yield opened


async def test_in_a_thread(merchants: InLoop) -> None:
    """All calls come from another thread than the serving one, this loop is blocked meanwhile, and the end is clean."""
    with running_in_thread() as threaded:
        threaded.behave("shop", sim.status(500), sim.ok())
        async with client(threaded.port) as one:
            one.send(webhook("shop", identity="a") + webhook("shop", identity="b"))
            await one.writer.drain()
            assert [received.headers["webhook-id"] for received in threaded.wait_for("shop", 2)] == ["a", "b"]
            assert (await one.answer())[9:12] == b"500"
            with pytest.raises(TimeoutError, match="2 of 3 requests"):
                threaded.wait_for("shop", 3, 0.01)
            threaded.down()
            with pytest.raises(ConnectionRefusedError):
                await all_of(threaded.port, b"")
            threaded.up()
            threaded.clear()
            assert (threaded.connections, threaded.received("shop")) == (0, [])


async def test_as_a_process(remote: Remote) -> None:
    """Behaviours go there and what was received comes back, over connections that are not counted."""
    remote.clear()
    every: list[Behaviour | Cycle] = [
        sim.flapping(1, 1),
        sim.refuse("inside", reset=True),
        sim.gzip_bomb(1),
        sim.informed(103),
        sim.garbage(),
    ]
    remote.behave("other", *every)
    remote.behave("shop", sim.status(503, {"x": "y"}, b"\0\xff"), sim.ok(latency_s=0.01))
    async with client(remote.port) as one:
        one.send(webhook("shop", bytes(range(256)), "a") + webhook("shop", identity="b"))
        assert (await one.answer()).endswith(b"\r\nx: y\r\ncontent-length: 2\r\n\r\n\0\xff")
        assert await one.answer() == OK
    remote.wait_for("shop", 2)
    with pytest.raises(TimeoutError, match="2 of 3 requests"):
        remote.wait_for("shop", 3, 0.01)
    first, second = remote.received("shop")
    assert (first.body, first.headers["webhook-id"]) == (bytes(range(256)), "a")
    assert remote.arrivals("shop", since=1) == [("b", second.arrived_at)]
    assert (remote.ids("shop"), remote.count("shop"), remote.peak("shop")) == ({"a": 1, "b": 1}, 2, 1)
    assert remote.connections == 1
    with pytest.raises(RuntimeError, match="refused POST behave: ValueError: a merchant has to behave"):
        remote.behave("shop")
    remote.clear()
    assert (remote.count("shop"), remote.connections) == (0, 0)


async def test_light_recording() -> None:
    """Ids and times are kept, asking for more is refused, and the process ends when its stdin does."""
    async with running(light=True) as merchants:
        assert await statuses(merchants, "shop", 3) == [200] * 3
        assert await merchants.wait_for("shop", 3) == []
        assert merchants.ids("shop") == {"msg_1": 3}
        with pytest.raises(RuntimeError, match="only ids and times are recorded"):
            merchants.received("shop")
    command = [sys.executable, "-m", "tests.simulators.merchant", "--light"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=20)  # noqa: S603, ASYNC221 - our own module
    line = json.loads(ended.stdout)
    assert line["port"] > 0
    assert line["light"] is True


# --- the official library


async def test_the_official_library_verifies(merchants: InLoop) -> None:
    """A good signature gives the body's JSON, one changed byte the library's error."""
    secret, now, body = "whsec_" + base64.b64encode(bytes(24)).decode(), datetime.now(UTC), '{"id": "đơn 1"}'
    signature = Webhook(secret).sign("msg_1", now, body)
    more = f"webhook-timestamp: {int(now.timestamp())}\r\nwebhook-signature: {signature}\r\n"
    async with client(merchants.port) as one:
        one.send(webhook("shop", body.encode(), more=more) + webhook("shop", body.encode() + b" ", more=more))
        good, bad = await merchants.wait_for("shop", 2)
    assert verified(good, secret) == {"id": "đơn 1"}
    with pytest.raises(WebhookVerificationError):
        verified(bad, secret)
