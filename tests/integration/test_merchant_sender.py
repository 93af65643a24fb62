"""Calls to merchants' servers that are slow, broken, hostile or not theirs, over real sockets on both event loops."""

import asyncio
import errno
import gzip
import socket
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from src.clients.merchants.guard import Denied, Guard, Resolve, examine, system_resolve
from src.clients.merchants.pools import KEEPALIVE_S, MOST_UNUSED
from src.clients.merchants.sender import Answer, Sender, open_sender
from src.clients.merchants.stream import LONGEST_ANSWER
from src.errors import Misuse
from src.settings.webhooks import WebhookSettings

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEADERS = {"webhook-id": "msg_1", "content-type": "application/json"}
BODY = b'{"n":1}'
PUBLIC = "93.184.216.34"
METADATA = "169.254.169.254"
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
SOON_S = 5.0


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for shop.example, its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "shop.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture(autouse=True)
def _one_authority(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all of certifi's takes longer than most of these tests."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


def settings(**changed: Any) -> WebhookSettings:
    return WebhookSettings(
        **{"allow_http": True, "allowed_networks": LOOPBACK, "timeout_seconds": 5.0, "allowed_ports": (443,), **changed}
    )


def resolving(*answers: str) -> Resolve:
    async def resolve(host: str, port: int) -> list[str]:
        return list(answers)

    return resolve


def failing(error: Exception) -> Resolve:
    async def resolve(host: str, port: int) -> list[str]:
        raise error

    return resolve


class Server:
    """What a merchant's server saw. `serve` answers one request, given its number and where to write; None: never."""

    def __init__(self, serve: "Serve | None") -> None:
        self.serve = serve
        self.port = 0
        self.connections = 0
        self.open = 0
        self.requests: list[bytes] = []
        self.arrived = asyncio.Event()  # the first request, whole
        self.tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Condition()

    def url(self, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}/hook?key=SECRET"

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            # a cancelled handler would be logged by asyncio
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
                while True:
                    await self._one(reader, writer)
        finally:
            writer.close()
            self.open -= 1
            self.tasks.discard(task)
            async with self._changed:
                self._changed.notify_all()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        self.requests.append(head + await reader.readexactly(size))
        self.arrived.set()
        if self.serve is None:
            await reader.read()  # to the end
            raise ConnectionResetError
        await self.serve(len(self.requests), writer)
        await writer.drain()
        if writer.is_closing():
            raise ConnectionResetError

    async def none_open(self, but: int = 0) -> None:
        """Wait until the other side has closed every connection but so many."""
        async with asyncio.timeout(SOON_S), self._changed:
            await self._changed.wait_for(lambda: self.open <= but)


Serve = Callable[[int, asyncio.StreamWriter], Awaitable[None]]


def saying(data: bytes, *, then_close: bool = False) -> Serve:
    async def serve(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if then_close:
            writer.close()

    return serve


def dripping(first: bytes, drop: bytes) -> Serve:
    """Writes `first` at once, then `drop` every 50 ms until the other side is gone."""

    async def serve(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.05)

    return serve


@asynccontextmanager
async def serving(serve: Serve | None, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(serve)
    listener = await asyncio.start_server(server.connected, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        tasks = list(server.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def call(sender: Sender, url: str, *, headers: Any = HEADERS, body: bytes = BODY) -> Answer:
    """Every answer there is keeps secrets to itself and stays small."""
    answer = await sender.send(url, headers, body)
    assert "SECRET" not in answer.error
    assert bool(answer.error) == (answer.status is None)
    assert len(answer.response.encode()) <= 3 * 1024  # a replacement character takes three bytes
    return answer


async def answer_to(serve: Serve, **changed: Any) -> Answer:
    async with serving(serve) as server, open_sender(settings(**changed)) as sender:
        return await call(sender, server.url())


class Dials:
    """Watches the event loop: which addresses were dialled. All are led to `port` on loopback, or nowhere."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, port: int | None = None, error: OSError | None = None) -> None:
        self.seen: list[tuple[str, int]] = []
        loop = asyncio.get_running_loop()
        real = loop.create_connection

        async def create_connection(factory: Any, host: str, number: int, **options: Any) -> Any:
            self.seen.append((host, number))
            if error:
                raise error
            assert port is not None, f"{host} was dialled"
            return await real(factory, "127.0.0.1", port, **options)

        monkeypatch.setattr(loop, "create_connection", create_connection)


# --- Only to where it may go


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "10.0.0.1", "100.64.0.1", METADATA, "172.16.0.1", "192.168.1.1"),
        "0.0.0.0",  # noqa: S104 - nothing is bound to it
        *("192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1"),
        *("240.0.0.1", "255.255.255.255", "::", "::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%1", "fec0::1"),
        *("ff02::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1", "2001::1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
        *("2002:a9fe:a9fe::", "2002:7f00:1::", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "no address"),
    ],
)
async def test_no_denied_address_is_dialled(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as the only answer of a resolver nor beside a public one, at allowed ports and by the literal."""
    dials = Dials(monkeypatch)
    literal = f"[{address}]" if ":" in address else address
    for answers in ((address,), (PUBLIC, address), (address, PUBLIC)):
        async with open_sender(settings(allowed_networks=()), resolve=resolving(*answers)) as sender:
            for url in ("https://shop.example/", "http://shop.example/", f"https://{literal}/"):
                answer = await call(sender, url)
                assert answer.status is None
                assert not answer.is_ours
    assert dials.seen == []


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "017700000001", "0"),
        *("localhost", "LOCALHOST", "localhost.", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"),
        *("[::ffff:7f00:1]", "[::127.0.0.1]", "１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1", "%31%32%37.0.0.1"),
        *(
            "a@127.0.0.1",
            "127.0.0.1%00.example",
            "127.0.0.1%2523",
            "[::1%25lo]",
            "[::1%lo]",
            "127.0.0.1\t",
            "127.0.0.1.",
        ),
    ],
)
async def test_no_spelling_of_loopback_reaches_a_server_there(host: str) -> None:
    """With the system's own resolver, and a server that listens."""
    async with serving(saying(OK)) as server:
        closed = settings(allowed_networks=(), allowed_ports=(443, server.port))
        async with open_sender(closed) as sender:
            for scheme in ("http", "https"):
                answer = await call(sender, server.url(host, scheme))
                assert answer.status is None
                assert not answer.is_ours
        assert server.connections == 0


async def test_a_name_is_resolved_once_and_judged_at_every_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when asked first and loopback when asked next never gets the second connection."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    async with serving(saying(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))) as server:
        dials = Dials(monkeypatch, server.port)
        async with open_sender(settings(allowed_networks=()), resolve=rebinding) as sender:
            assert (await call(sender, "http://shop.example/")).status == 200
            assert len(asked) == 1
            refused = await call(sender, "http://shop.example/")
        assert refused.error == "shop.example must not be called: 127.0.0.1 is loopback (127.0.0.0/8)"
        assert dials.seen == [(PUBLIC, 80)]
        assert b"Host: shop.example\r\n" in server.requests[0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody goes where it points."""
    location = f"http://{METADATA}/latest/meta-data/".encode()
    redirect = b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, location)
    async with serving(saying(redirect)) as server, open_sender(settings()) as sender:
        dials = Dials(monkeypatch, server.port)
        assert (await call(sender, server.url())).status == status
        assert dials.seen == [("127.0.0.1", server.port)]


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a proxy the guard would judge the proxy's address only."""
    async with serving(saying(OK)) as proxy, serving(saying(OK)) as server, open_sender(settings()) as sender:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await call(sender, server.url())).status == 200
        assert proxy.connections == 0


@pytest.mark.parametrize(
    ("url", "answers", "changed", "is_dialled"),
    [
        ("https://shop.example/", [PUBLIC], {}, True),
        ("https://shop.example:8443/", [PUBLIC], {}, False),
        ("https://shop.example:8443/", [PUBLIC], {"allowed_ports": (443, 8443)}, True),
        ("https://shop.example:80/", [PUBLIC], {}, True),
        ("https://shop.example:80/", [PUBLIC], {"allow_http": False}, False),
        ("http://shop.example/", [PUBLIC], {"allow_http": False}, False),
        ("https://shop.example:6379/", ["127.0.0.1", "::1"], {}, True),
        ("https://shop.example:6379/", ["::ffff:127.0.0.1"], {}, True),
        ("https://shop.example:6379/", ["127.0.0.1", PUBLIC], {}, False),
        ("https://shop.example/", ["127.0.0.1", PUBLIC], {}, True),
    ],
)
async def test_ports_are_the_allowed_ones(
    url: str, answers: list[str], changed: dict[str, Any], is_dialled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any port only where all of a host lies in networks of the operator's own."""
    dials = Dials(monkeypatch, error=ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
    async with open_sender(settings(**changed), resolve=resolving(*answers)) as sender:
        answer = await call(sender, url)
    assert bool(dials.seen) == is_dialled
    assert ("refused" in answer.error) == is_dialled


async def test_a_mapped_address_is_dialled_as_what_it_is() -> None:
    """So it is called where there is no IPv6, and once where both spellings are given."""
    async with serving(saying(OK)) as server:
        async with open_sender(settings(), resolve=resolving("::ffff:127.0.0.1", "127.0.0.1")) as sender:
            assert (await call(sender, server.url("shop.example"))).status == 200
        assert server.connections == 1


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    """A host with one dead address is not dead."""
    resolve = resolving("127.0.0.2", "127.0.0.1")
    async with serving(saying(OK)) as server, open_sender(settings(), resolve=resolve) as sender:
        assert (await call(sender, server.url("shop.example"))).status == 200


async def test_no_unix_socket_is_opened() -> None:
    """httpcore could ask for one; nobody gets it."""
    with pytest.raises(Denied):
        await Guard(settings(), system_resolve).connect_unix_socket("/run/docker.sock")


# --- When an endpoint is saved


@pytest.mark.parametrize(
    ("url", "answers", "words"),
    [
        ("https://127.1/", [PUBLIC], "four decimal numbers"),
        ("http://shop.example/", [PUBLIC], "https://"),
        ("https://shop.example/", ["10.0.0.1"], "10.0.0.1 is private"),
        ("https://shop.example/", [PUBLIC, "::1"], "::1 is loopback"),
        ("https://shop.example:22/", [PUBLIC], "use 443"),
    ],
)
async def test_what_could_never_be_called_is_not_saved(url: str, answers: list[str], words: str) -> None:
    """The merchant is told at once, and what to change."""
    closed = settings(allow_http=False, allowed_networks=())
    with pytest.raises(Misuse, match=words):
        await examine(url, closed, resolving(*answers))
    with pytest.raises(Misuse, match=words):
        await examine(
            url, settings(allow_http=False, allowed_networks=(ip_network("10.9.0.0/16"),)), resolving(*answers)
        )


async def test_what_does_not_resolve_yet_is_saved_with_a_warning() -> None:
    """A shop may be set up before its name is; a port that is never allowed is refused all the same."""
    closed = settings(allowed_networks=())
    assert await examine("https://shop.example/", closed, resolving(PUBLIC)) is None
    for resolve in (resolving(), failing(socket.gaierror(socket.EAI_NONAME, "no")), failing(TimeoutError())):
        warning = await examine("https://shop.example/", closed, resolve)
        assert warning is not None
        assert "shop.example" in warning
        with pytest.raises(Denied, match="port 22"):
            await examine("https://shop.example:22/", closed, resolve)


async def test_the_system_resolver_knows_loopback() -> None:
    """The default way to resolve gives every address once."""
    assert await system_resolve("127.0.0.1", 443) == ["127.0.0.1"]
    assert await system_resolve("::1", 443) == ["::1"]
    with pytest.raises(Denied, match="loopback"):
        await examine("https://localhost/", settings(allowed_networks=()))


# --- Whose fault it is


@pytest.mark.parametrize(
    ("error", "is_ours"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"), False),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"), False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
        (socket.gaierror(socket.EAI_SYSTEM, "System error"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (TimeoutError(), True),
        (UnicodeEncodeError("idna", "x", 0, 1, "label too long"), False),
        (RuntimeError("a bug"), True),
    ],
)
async def test_a_name_that_is_not_there_is_the_merchants_fault(error: Exception, is_ours: bool) -> None:
    """And a resolver that does not answer is ours."""
    async with open_sender(settings(), resolve=failing(error)) as sender:
        answer = await call(sender, "https://shop.example/?key=SECRET")
    assert (answer.status, answer.is_ours) == (None, is_ours)


async def test_a_name_without_addresses_is_the_merchants_fault() -> None:
    """An empty answer is as good as none."""
    async with open_sender(settings(), resolve=resolving()) as sender:
        answer = await call(sender, "https://shop.example/")
    assert (answer.error, answer.is_ours) == ("shop.example does not resolve to any address", False)


async def test_a_resolver_that_hangs_is_our_fault() -> None:
    """The call still ends at its deadline."""

    async def hang(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError

    async with open_sender(settings(timeout_seconds=0.1), resolve=hang) as sender:
        answer = await call(sender, "https://shop.example/")
    assert answer.is_ours
    assert "timed out after 0.1 s" in answer.error


@pytest.mark.parametrize(
    ("code", "is_ours"),
    [
        (errno.ECONNREFUSED, False),
        (errno.ECONNRESET, False),
        (errno.ETIMEDOUT, False),
        (errno.EHOSTUNREACH, False),
        (errno.ENETUNREACH, True),
        (errno.EADDRNOTAVAIL, True),
        (errno.EMFILE, True),
        (errno.ENFILE, True),
    ],
    ids=errno.errorcode.get,
)
async def test_who_answers_for_a_failed_connect(code: int, is_ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens before a packet leaves is ours."""
    Dials(monkeypatch, error=OSError(code, "failed"))
    async with open_sender(settings(), resolve=resolving(PUBLIC)) as sender:
        answer = await call(sender, "https://shop.example/")
    assert (answer.status, answer.is_ours) == (None, is_ours)


async def test_a_refused_connection_is_said_so() -> None:
    """The commonest fault has plain words."""
    async with serving(saying(OK)) as server:
        pass
    async with open_sender(settings()) as sender:
        answer = await call(sender, server.url())
    assert (answer.status, answer.error, answer.is_ours) == (None, "the connection was refused", False)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed before an answer came"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "closed before an answer came"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "no HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n", "no HTTP/1.1 answer"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "no HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * LONGEST_ANSWER, "broke before a whole answer came"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 4_000, "broke before a whole answer came"),
    ],
    ids=["nothing", "half a head", "SSH", "bad header", "101", "endless header", "endless hints"],
)
async def test_half_an_answer_is_none(answer: bytes, words: str) -> None:
    """It is the merchant's fault, and it is not sent again: something may have been done with it."""
    async with serving(saying(answer, then_close=True)) as server, open_sender(settings()) as sender:
        found = await call(sender, server.url())
        assert (found.status, found.is_ours) == (None, False)
        assert words in found.error
        assert server.connections == 1


@pytest.mark.parametrize(
    "headers",
    [
        [("x-shop", "a\r\nHost: evil")],
        [("x-shop", "a\nb")],
        [("x-shop", "a\r")],
        [("x\r\ny", "a")],
        [("x y", "a")],
        [("", "a")],
        [("x-shop", "a\x00")],
        [("x-shop", "SECRET ü")],
        [("x-shöp", "a")],
    ],
    ids=repr,
)
async def test_a_header_cannot_smuggle_a_line(headers: list[tuple[str, str]]) -> None:
    """Not a byte of such a request is sent, and the words do not repeat the header."""
    async with serving(saying(OK)) as server, open_sender(settings()) as sender:
        answer = await call(sender, server.url(), headers=headers)
        assert (answer.status, answer.is_ours) == (None, False)
        assert answer.error.startswith("a header cannot be sent")
        assert (await call(sender, server.url())).status == 200
        assert len(server.requests) == 1


# --- What is sent


async def test_a_request_is_framed_by_us() -> None:
    """A merchant's own headers change neither where a request goes nor where it ends."""
    async with serving(saying(OK)) as server, open_sender(settings()) as sender:
        headers = [
            ("Host", "evil"),
            ("Content-Length", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Expect", "100-continue"),
        ]
        answer = await call(sender, server.url(), headers=[*headers, ("X-Shop", "a"), ("x-shop", "b")])
    assert answer.status == 200
    assert answer.ms > 0
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == BODY
    assert head.split(b"\r\n") == [
        b"POST /hook?key=SECRET HTTP/1.1",
        b"Host: 127.0.0.1:%d" % server.port,
        b"Accept-Encoding: identity",
        b"Content-Length: 7",
        b"X-Shop: a",
        b"x-shop: b",
    ]


async def test_a_large_body_arrives_whole() -> None:
    """As much as may be accepted, to a server that reads it."""
    body = b"x" * 262_144
    async with serving(saying(OK)) as server, open_sender(settings()) as sender:
        assert (await call(sender, server.url(), body=body)).status == 200
    assert server.requests[0].endswith(b"\r\n\r\n" + body)


async def test_a_body_that_is_not_read_ends_at_the_deadline() -> None:
    """A server that stops reading holds nothing up for longer."""

    is_over = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await is_over.wait()
        writer.close()

    listener = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1_024)
    port = listener.sockets[0].getsockname()[1]
    async with open_sender(settings(timeout_seconds=0.2)) as sender:
        answer = await call(sender, f"http://127.0.0.1:{port}/", body=b"x" * 16_000_000)
    assert answer.error == "timed out after 0.2 s while waiting for an answer"
    is_over.set()
    listener.close()
    await asyncio.sleep(0)  # the handler's last turn


# --- What comes back


@pytest.mark.parametrize(
    ("raw", "status", "response"),
    [
        (OK, 200, "ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\n\xff\xfeno", 500, "\ufffd\ufffdno"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: v\r\n\r\n",
            200,
            "abc",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, "ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK, 200, "ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + b"x" * 3000, 200, "x" * 1024),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1026\r\n\r\n" + b"x" * 1023 + "é!".encode(), 200, "x" * 1023),
    ],
    ids=["length", "no content", "no text", "chunked", "100", "103 and 102", "long", "cut in a character"],
)
async def test_an_answer_is_read_whole_and_its_connection_kept(raw: bytes, status: int, response: str) -> None:
    """Ten calls, one connection."""
    async with serving(saying(raw)) as server, open_sender(settings()) as sender:
        for _ in range(10):
            answer = await call(sender, server.url())
            assert (answer.status, answer.response) == (status, response)
        assert (server.connections, len(server.requests)) == (1, 10)


@pytest.mark.parametrize(
    ("raw", "status", "response"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", 200, "to the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 200, "half"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk", 200, ""),
    ],
    ids=["HTTP/1.0", "half a body", "broken chunks"],
)
async def test_once_the_head_is_there_the_status_counts(raw: bytes, status: int, response: str) -> None:
    """Whatever becomes of the body; the connection is closed."""
    async with serving(saying(raw, then_close=True)) as server, open_sender(settings()) as sender:
        answer = await call(sender, server.url())
        assert (answer.status, answer.response) == (status, response)
        await server.none_open()


async def test_headers_that_steer_us_are_handed_on() -> None:
    """As they came, the control header in lower case, neither without end."""
    raw = b"HTTP/1.1 429 Slow\r\nRetry-After: 120\r\nWebhook-Delivery: DISABLE\r\nContent-Length: 0\r\n\r\n"
    answer = await answer_to(saying(raw))
    assert (answer.status, answer.retry_after, answer.control) == (429, "120", "disable")
    answer = await answer_to(saying(OK))
    assert (answer.retry_after, answer.control) == ("", "")
    answer = await answer_to(saying(raw.replace(b"120", b"1" * 5_000)))
    assert len(answer.retry_after) == 100


@pytest.mark.parametrize(
    ("encoding", "body", "response"),
    [
        (b"gzip", gzip.compress(b"hello"), "hello"),
        (b"X-GZIP", gzip.compress(b"hello"), "hello"),
        (b"deflate", zlib.compress(b"hello"), "hello"),
        (b"deflate", zlib.compress(b"hello", wbits=-15), "hello"),
        (b"gzip", b"not gzip", "not gzip"),
        (b"br", b"whatever", "whatever"),
        (b"gzip", gzip.compress(b"\0" * 40_000_000), "\0" * 1024),
    ],
    ids=["gzip", "x-gzip", "zlib", "raw deflate", "false gzip", "unknown", "bomb"],
)
async def test_a_compressed_body_is_undone_no_further_than_shown(encoding: bytes, body: bytes, response: str) -> None:
    """Though we ask for none; 40 MB of nothing cost no more than one page of text."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body)) + body
    async with serving(saying(raw)) as server, open_sender(settings()) as sender:
        tracemalloc.start()
        answer = await call(sender, server.url())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (answer.status, answer.response) == (200, response)
    assert peak < 2_000_000


async def test_an_endless_body_is_read_so_far_and_no_further() -> None:
    """The status counts, the first bytes are shown, and the server finds its connection closed."""
    sent = 0

    async def pour(number: int, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65_536)
            sent += 65_536
            await writer.drain()

    async with serving(pour) as server, open_sender(settings()) as sender:
        answer = await call(sender, server.url())
        assert (answer.status, answer.response) == (200, "x" * 1024)
        assert answer.ms < 1_500
        await server.none_open()
    assert sent < 50_000_000  # what the kernel's buffers take, not two seconds of pouring


# --- How long it takes


@pytest.mark.parametrize(
    "serve",
    [
        None,
        dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        dripping(b"", b"H"),
        dripping(b"", b"HTTP/1.1 103 E\r\n\r\n"),
    ],
    ids=["mute", "dripping headers", "dripping status", "dripping hints"],
)
async def test_the_deadline_is_for_everything_together(serve: Serve | None) -> None:
    """No drop of an answer starts it again, and the connection is closed."""
    async with serving(serve) as server, open_sender(settings(timeout_seconds=0.3)) as sender:
        answer = await call(sender, server.url())
        assert answer.status is None
        assert "0.3 s" in answer.error or "no HTTP/1.1" in answer.error
        assert not answer.is_ours
        assert answer.ms < 1_500
        await server.none_open()
        assert server.connections == 1


async def test_a_dripping_body_does_not_undo_a_success() -> None:
    """It gets its two seconds or what is left of the deadline, and what came of it is shown."""
    drip = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nbegun", b".")
    async with serving(drip) as server, open_sender(settings(timeout_seconds=0.3)) as sender:
        answer = await call(sender, server.url())
        assert answer.status == 200
        assert answer.response.startswith("begun.")
        assert answer.ms < 1_500
        await server.none_open()


async def test_a_body_gets_two_seconds_of_a_long_deadline() -> None:
    """A status that is known holds no slot for the rest of 25 s."""
    drip = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b".")
    answer = await answer_to(drip, timeout_seconds=25.0)
    assert answer.status == 200
    assert 1_500 < answer.ms < 5_000


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize(
    "serve", [None, dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b".")], ids=["head", "body"]
)
async def test_a_cancelled_call_leaves_no_connection(serve: Serve | None, turns: int) -> None:
    """Not even when it is cancelled again while it closes, and another call to the same server goes on."""
    async with serving(None) as server, open_sender(settings()) as sender:
        other = asyncio.create_task(call(sender, server.url()))
        await server.arrived.wait()
        server.arrived.clear()
        server.serve = serve
        task = asyncio.create_task(call(sender, server.url()))
        await server.arrived.wait()
        for cancelled in (task, task, other):
            for _ in range(turns):
                await asyncio.sleep(0)
            cancelled.cancel()
            if cancelled is task and task.cancelling() > 1:
                await server.none_open(but=1)
        for cancelled in (task, other):
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        await server.none_open()
        server.serve = saying(OK)
        assert (await call(sender, server.url())).status == 200


@pytest.mark.parametrize("turns", range(12))
async def test_a_call_cancelled_while_it_connects_leaves_no_connection(turns: int) -> None:
    """At whatever turn of the event loop it happens."""
    async with serving(None) as server:
        async with open_sender(settings()) as sender:
            task = asyncio.create_task(sender.send(server.url(), HEADERS, BODY))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # behind this connection in the server's queue, the cancelled one has been accepted, too
            server.serve = saying(OK)
            assert (await call(sender, server.url())).status == 200
        await server.none_open()


# --- Connections that are kept


def closing_second(*, always: bool) -> Serve:
    """Answers the first request; closes at the second without a byte, and at all later ones if `always`."""

    async def serve(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 2 or (always and number > 2):
            writer.close()
        else:
            writer.write(OK)

    return serve


async def test_a_stale_connection_is_replaced_once() -> None:
    """The merchant is not charged for a connection that its server gave up."""
    async with serving(closing_second(always=False)) as server, open_sender(settings()) as sender:
        assert (await call(sender, server.url())).status == 200
        assert (await call(sender, server.url())).status == 200
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_no_second_stale_connection_is_tried() -> None:
    """A server that was restarted has closed all that were kept, so the second try opens a connection."""
    both = asyncio.Event()

    async def serve(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 2:
            both.set()
        await both.wait()
        if number > 2 and server.connections == 2:
            writer.close()
        else:
            writer.write(OK)

    async with serving(serve) as server, open_sender(settings()) as sender:
        for calls in (2, 1):
            answers = await asyncio.gather(*[call(sender, server.url()) for _ in range(calls)])
            assert {answer.status for answer in answers} == {200}
        assert (server.connections, len(server.requests)) == (3, 4)


async def test_a_new_connection_that_fails_is_not_replaced() -> None:
    """Neither the one for a stale one nor the very first."""
    async with serving(closing_second(always=True)) as server, open_sender(settings()) as sender:
        assert (await call(sender, server.url())).status == 200
        assert "closed before an answer" in (await call(sender, server.url())).error
        assert (server.connections, len(server.requests)) == (2, 3)
        assert "closed before an answer" in (await call(sender, server.url())).error
        assert (server.connections, len(server.requests)) == (3, 4)


async def test_an_answer_begun_on_a_kept_connection_is_not_asked_for_again() -> None:
    """Something may have been done with the first one."""

    async def serve(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK if number == 1 else b"HTTP/1.1 2")
        if number > 1:
            writer.close()

    async with serving(serve) as server, open_sender(settings()) as sender:
        assert (await call(sender, server.url())).status == 200
        assert (await call(sender, server.url())).status is None
        assert (server.connections, len(server.requests)) == (1, 2)


async def test_a_connection_closed_while_idle_is_not_used() -> None:
    """The end of a connection is seen before the next request is put on it."""

    async def serve(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        writer.close()

    async with serving(serve) as server, open_sender(settings()) as sender:
        assert (await call(sender, server.url())).status == 200
        await server.none_open()
        assert (await call(sender, server.url())).status == 200
        assert (server.connections, len(server.requests)) == (2, 2)


async def test_calls_at_the_same_time_share_what_is_free() -> None:
    """Four at a time need four connections, however many there are."""
    async with serving(saying(OK)) as server, open_sender(settings()) as sender:
        for _ in range(5):
            assert {
                answer.status for answer in await asyncio.gather(*[call(sender, server.url()) for _ in range(4)])
            } == {200}
        assert server.connections <= 4


async def test_the_longest_unused_connections_are_closed() -> None:
    """A worker with thousands of merchants does not run out of file descriptors."""
    async with serving(saying(OK)) as server, open_sender(settings(), resolve=resolving("127.0.0.1")) as sender:
        for number in range(MOST_UNUSED + 20):
            assert (await call(sender, server.url(f"shop{number}.example"))).status == 200
        assert (await call(sender, server.url("shop100.example"))).status == 200
        assert server.connections == MOST_UNUSED + 20
        assert server.open <= MOST_UNUSED + 1
        assert (await call(sender, server.url("shop0.example"))).status == 200
        assert server.connections == MOST_UNUSED + 21


async def test_a_connection_nobody_uses_is_closed_after_a_while() -> None:
    """While one that is in use stays, however long its call takes."""
    async with serving(saying(OK)) as server, open_sender(settings(), resolve=resolving("127.0.0.1")) as sender:
        pools = sender._pools
        shop, busy = ("http", "shop.example", server.port), ("http", "busy.example", server.port)
        assert (await call(sender, server.url("shop.example"))).status == 200
        assert (await call(sender, server.url("busy.example"))).status == 200
        with pools.use(busy) as used:
            with pools.use(shop) as first:
                pass
            with pools.use(shop) as again:
                assert again is first
            first.unused_since -= KEEPALIVE_S + 1
            assert (await call(sender, server.url("other.example"))).status == 200
            with pools.use(shop) as later:
                assert later is not first
            with pools.use(busy) as second:
                assert second is not used
        with pools.use(busy) as same:
            assert same is used
            same.is_doubtful = True
        with pools.use(busy) as replaced:
            assert replaced is not used


async def test_closing_the_sender_ends_what_is_under_way() -> None:
    """Nothing stays open behind it."""
    async with serving(None) as server:
        async with open_sender(settings()) as sender:
            task = asyncio.create_task(sender.send(server.url(), HEADERS, BODY))
            await server.arrived.wait()
        answer = await task
        assert (answer.status, answer.error) == (None, "the connection broke before a whole answer came")
        await server.none_open()


# --- TLS


def serving_tls(serve: Serve, certificate: Path, names: list[str | None]) -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_servername_callback(lambda _, name, __: names.append(name))
    return serving(serve, tls=context)


async def test_https_goes_by_the_name(certificate: Path) -> None:
    """SNI, Host and the certificate are the name's though an address was dialled; and the connection is kept."""
    names: list[str | None] = []
    async with serving_tls(saying(OK), certificate, names) as server:
        async with open_sender(settings(), resolve=resolving("127.0.0.1")) as sender:
            for _ in range(3):
                assert (await call(sender, server.url("shop.example", "https"))).status == 200
            wrong = await call(sender, server.url("other.example", "https"))
        assert (wrong.status, wrong.is_ours) == (None, False)
        assert "the TLS certificate is not valid" in wrong.error
        assert "other.example" in wrong.error
        assert names == ["shop.example", "other.example"]
        assert server.connections == 1
        assert b"Host: shop.example:" in server.requests[0]
        await server.none_open()


async def test_an_unknown_authority_is_said_so(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a byte of the event is sent to somebody who cannot prove who it is."""
    monkeypatch.delenv("SSL_CERT_FILE")
    async with serving_tls(saying(OK), certificate, []) as server:
        async with open_sender(settings(), resolve=resolving("127.0.0.1")) as sender:
            answer = await call(sender, server.url("shop.example", "https"))
        assert answer.error == "the TLS certificate is not valid: self-signed certificate"
        assert server.requests == []


async def test_https_to_a_plain_server_is_said_so() -> None:
    """A wrong port gets words, not a code."""
    async with serving_plain(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port, open_sender(settings()) as sender:
        answer = await call(sender, f"https://127.0.0.1:{port}/")
    assert answer.status is None
    assert answer.error.startswith("the TLS handshake failed")


async def test_a_connection_closed_in_its_handshake_is_said_so() -> None:
    """As above, for a server that says nothing at all."""
    async with serving_plain(b"") as port, open_sender(settings()) as sender:
        answer = await call(sender, f"https://127.0.0.1:{port}/")
    assert answer.status is None
    assert "TLS handshake" in answer.error
    assert not answer.is_ours


@asynccontextmanager
async def serving_plain(data: bytes) -> AsyncIterator[int]:
    """Reads something, whatever it is, answers with `data` and closes."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(data)
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield listener.sockets[0].getsockname()[1]
    listener.close()


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["deadline", "cancelled"])
async def test_a_handshake_that_hangs_leaves_no_connection(is_cancelled: bool) -> None:
    """httpcore leaves such a socket to the garbage collector."""
    server_sees = asyncio.Queue[str]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        server_sees.put_nowait("hello")
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        server_sees.put_nowait("end")

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with open_sender(settings(timeout_seconds=SOON_S if is_cancelled else 0.2)) as sender:
        task = asyncio.create_task(call(sender, url))
        assert await server_sees.get() == "hello"
        if is_cancelled:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            assert (await task).error == "timed out after 0.2 s while waiting for a TLS handshake"
        assert await asyncio.wait_for(server_sees.get(), SOON_S) == "end"
    listener.close()
