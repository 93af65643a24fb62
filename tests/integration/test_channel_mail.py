"""E-mail: encrypted or not at all, the same Message-ID in each try, and what each step's failure means."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from src.clients.channels import Channels, Note, Unsure, open_channels
from src.errors import Permanent, Transient
from src.rules.recipients import recipient_of
from src.settings import ChannelSettings
from tests.simulators.channels import SmtpServer, running

pytestmark = pytest.mark.anyio
BOSS = recipient_of("email:boss@shop.test")
PASSWORD = "s3cret of nobody"
NOTE = Note("n1", "Khách chờ 31 phút", "Phụ trách: <An>", link="https://pancake.test/1", severity="high")
Open = Callable[..., AbstractAsyncContextManager[Channels]]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "mail.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def opened(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    @asynccontextmanager
    async def opened(server: SmtpServer, **changed: Any) -> AsyncIterator[Channels]:
        settings = ChannelSettings(
            **{
                "smtp_host": "127.0.0.1",
                "smtp_port": server.port,
                "smtp_tls": "none",
                "smtp_from": "Cửa hàng <alerts@shop.test>",
                **changed,
            }
        )
        async with open_channels(settings) as channels:
            yield channels

    return opened


async def test_a_note_arrives_as_text_and_as_html(opened: Open) -> None:
    """Readers without HTML read all of it too; nothing a customer wrote is markup."""
    async with running(SmtpServer()) as server, opened(server) as channels:
        message_id = await channels.send(BOSS, NOTE)
    [received] = server.received
    message = received.message
    assert (received.sender, received.to) == ("alerts@shop.test", "boss@shop.test")
    assert (message["Subject"], message["Message-ID"], message["Importance"]) == (NOTE.title, message_id, "high")
    assert message["From"].addresses[0].display_name == "Cửa hàng"
    assert message["Auto-Submitted"] == "auto-generated"
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    assert text.get_content().split() == f"{NOTE.title} {NOTE.text} {NOTE.link}".split()
    assert "Phụ trách: &lt;An&gt;" in html.get_content()
    assert {part["Content-Transfer-Encoding"] for part in (text, html)} == {"quoted-printable"}


async def test_the_same_note_has_the_same_id_in_every_try(opened: Open) -> None:
    """So that a double is known for one; another note, or another reader, has another."""
    async with running(SmtpServer()) as server, opened(server) as channels:
        ids = [await channels.send(BOSS, NOTE) for _ in range(2)]
        others = {await channels.send(recipient_of("email:an@shop.test"), NOTE)}
        others.add(await channels.send(BOSS, Note("n2", "t", "x")))
    assert len(set(ids)) == 1
    assert len(others | set(ids)) == 3


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "tls"])
async def test_the_login_and_the_message_are_encrypted(opened: Open, tls: ssl.SSLContext, implicit: bool) -> None:
    """By STARTTLS on the usual port, or from the first byte on."""
    how = {"smtp_tls": "tls" if implicit else "starttls", "smtp_user": "shop", "smtp_password": SecretStr(PASSWORD)}
    server = SmtpServer(tls=tls, implicit=implicit, user="shop", password=PASSWORD)
    async with running(server), opened(server, **how) as channels:
        await channels.send(BOSS, NOTE)
        [(name, is_ok, said)] = await channels.check()
    assert (server.received[0].is_encrypted, server.received[0].user) == (True, "shop")
    assert (name, is_ok) == ("email", True)
    assert "logged in as shop" in said


async def test_nothing_goes_to_a_server_without_encryption(opened: Open) -> None:
    """Whoever takes STARTTLS out of the server's offer gets no message."""
    async with running(SmtpServer()) as server, opened(server, smtp_tls="starttls") as channels:
        with pytest.raises(Permanent, match="ALERT_SMTP_TLS"):
            await channels.send(BOSS, NOTE)
    assert server.received == []


async def test_nothing_goes_to_a_server_of_another_name(
    opened: Open, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificate has to be one we trust."""
    async with running(SmtpServer(tls=tls)) as server, opened(server, smtp_tls="starttls") as channels:
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(Transient, match="certificate"):
            await channels.send(BOSS, NOTE)
    assert server.received == []


async def test_a_refused_login_is_for_good_and_tells_no_password(opened: Open, tls: ssl.SSLContext) -> None:
    """Not even where the server repeats it."""
    how = {"smtp_tls": "starttls", "smtp_user": "shop", "smtp_password": SecretStr("wr0ng of nobody")}
    server = SmtpServer(tls=tls, user="shop", password=PASSWORD)
    async with running(server), opened(server, **how) as channels:
        with pytest.raises(Permanent, match="ALERT_SMTP_PASSWORD") as caught:
            await channels.send(BOSS, NOTE)
    assert "nobody" not in str(caught.value)


@pytest.mark.parametrize(
    ("step", "answer", "kind"),
    [
        ("connect", "421 4.3.2 not now", Transient),
        ("connect", "554 5.7.1 no service for you", Permanent),
        ("mail", "451 4.7.1 greylisted", Transient),
        ("rcpt", "450 4.2.1 mailbox busy", Transient),
        ("rcpt", "550 5.1.1 no such mailbox", Permanent),
        ("data", "452 4.3.1 no room", Transient),
        ("content", "554 5.6.0 not this", Permanent),
        ("content", "421 4.3.2 going down", Transient),
        ("connect", "hang", Transient),
        ("connect", "cut", Transient),
        ("rcpt", "hang", Transient),
        ("rcpt", "cut", Transient),
        ("content", "hang", Unsure),
        ("content", "cut", Unsure),
    ],
)
async def test_each_step_fails_in_its_way(opened: Open, step: Any, answer: str, kind: type[Exception]) -> None:
    """Codes from 500 on are for good; in doubt is only what was cut short after the message went out."""
    soon = {"channel_timeout_seconds": 0.3} if answer == "hang" else {}
    async with running(SmtpServer(faults={step: answer})) as server, opened(server, **soon) as channels:
        with pytest.raises(kind) as caught:
            await channels.send(BOSS, NOTE)
    assert type(caught.value) is kind
    assert "shop" not in str(caught.value)


@pytest.mark.parametrize("end", ["hang", "cut", "500 what?"])
async def test_what_was_taken_is_sent_however_the_goodbye_goes(opened: Open, end: str) -> None:
    """Else it would be sent again."""
    soon = {"channel_timeout_seconds": 0.3} if end == "hang" else {}
    async with running(SmtpServer(faults={"quit": end})) as server, opened(server, **soon) as channels:
        await channels.send(BOSS, NOTE)
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"title": "x\r\nBcc: all@shop.test"},
        {"note_id": "a\r\nBcc: all@shop.test"},
        {"text": "x\r\n.\r\nMAIL FROM:<a@b.test>\r\n"},
        {"title": "\ud800 half", "text": "\x00\x07"},
    ],
    ids=["subject", "id", "end of data", "no text"],
)
async def test_words_stay_words(opened: Open, changed: dict[str, Any]) -> None:
    """A header, a command or a second message cannot be smuggled in."""
    note = Note(**{"note_id": "n", "title": "t", "text": "x", **changed})
    async with running(SmtpServer()) as server, opened(server) as channels:
        await channels.send(BOSS, note)
    [received] = server.received
    assert received.message["Bcc"] is None
    assert received.to == "boss@shop.test"


async def test_names_beyond_ascii_need_a_server_that_takes_them(opened: Open) -> None:
    """Domains are written as DNS has them; a mailbox's own name cannot be."""
    to = recipient_of("email:sếp@shop.test")
    async with running(SmtpServer()) as server, opened(server) as channels:
        with pytest.raises(Permanent, match="beyond ASCII"):
            await channels.send(to, NOTE)
        await channels.send(recipient_of("email:boss@bücher.test"), NOTE)
    assert server.received[0].to == "boss@xn--bcher-kva.test"
    async with running(SmtpServer(smtputf8=True)) as server, opened(server) as channels:
        await channels.send(to, NOTE)
    assert server.received[0].to == "sếp@shop.test"


async def test_few_connections_at_once(opened: Open) -> None:
    """Servers refuse clients that open many."""
    async with running(SmtpServer()) as server, opened(server) as channels, anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(channels.send, BOSS, Note(f"n{number}", "t", "x"))
    assert len(server.received) == 12
    assert server.most_at_once <= 4  # one may be on its way out
