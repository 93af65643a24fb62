"""Apprise: it can neither block the worker, nor keep it from ending, nor tell an address to anybody."""

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from src.clients.channels import Channels, Note, Unsure, longtail, open_channels
from src.errors import Permanent, Transient
from src.rules.recipients import recipient_of
from src.settings import ChannelSettings
from tests.simulators.channels import Fault, Service, in_thread

apprise = pytest.importorskip("apprise")
with warnings.catch_warnings():  # one of its 150 plugins is behind its time
    warnings.simplefilter("ignore")
    apprise.Apprise.instantiate("json://127.0.0.1")
pytestmark = pytest.mark.anyio
OPS = recipient_of("apprise:ops")
NOTE = Note("n1", "Trang chậm", "Dữ liệu trễ 12 phút", severity="critical")


@pytest.fixture
def service() -> Iterator[Service]:
    with in_thread(Service()) as server:
        yield server


@pytest.fixture
async def channels(service: Service) -> AsyncIterator[Channels]:
    async with open_channels(settings_of(service)) as opened:
        yield opened


def settings_of(service: Service, **changed: Any) -> ChannelSettings:
    url = SecretStr(f"json://user:s3cret@127.0.0.1:{service.port}/hook")
    return ChannelSettings(apprise_schemes=("json",), apprise_urls={"ops": url}, **changed)


async def test_a_note_arrives(service: Service, channels: Channels) -> None:
    """With its title, its text and how grave it is."""
    assert await channels.send(OPS, NOTE) is None
    [call] = service.calls
    assert (call.body["title"], call.body["message"], call.body["type"]) == (NOTE.title, NOTE.text, "failure")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(404), Permanent),
        (Fault(429), Transient),
        (Fault(503), Transient),
        (Fault(302, headers={"Location": "http://127.0.0.1:1"}), Permanent),
        (Fault(silence="cut"), Unsure),
        (Fault(silence="hang"), Unsure),
    ],
    ids=["404", "429", "503", "redirect", "cut", "hang"],
)
async def test_a_failure_is_told_by_its_status(service: Service, fault: Fault, kind: type[Exception]) -> None:
    """Apprise says only that it failed; without a status the message may have arrived."""
    service.fail(fault)
    soon = {"channel_timeout_seconds": 0.5} if fault.silence == "hang" else {}
    async with open_channels(settings_of(service, **soon)) as channels:
        with pytest.raises(kind) as caught:
            await channels.send(OPS, NOTE)
    assert type(caught.value) is kind
    assert "s3cret" not in str(caught.value)


async def test_calls_that_hang_leave_the_loop_and_the_others_alone(service: Service) -> None:
    """When all threads are stuck, the next message is sent away unsent, in time."""
    service.fail(*[Fault(silence="hang")] * longtail.THREADS)
    url = settings_of(service).apprise_urls["ops"]
    urls = {f"ops{number}": url for number in range(longtail.THREADS + 1)}
    settings = settings_of(service, channel_timeout_seconds=0.6).model_copy(update={"apprise_urls": urls})
    async with open_channels(settings) as channels:
        results = await asyncio.gather(
            *(channels.send(recipient_of(f"apprise:{name}"), NOTE) for name in urls), return_exceptions=True
        )
    assert [type(result) for result in results] == [Unsure] * longtail.THREADS + [Transient]
    assert "stuck" in str(results[-1])


async def test_nothing_it_logs_is_passed_on(service: Service, channels: Channels) -> None:
    """Its words may hold addresses, which are secrets."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(f"{record.name} {record.getMessage()}")

    ear, root = Ear(), logging.getLogger()
    before = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    try:
        service.fail(Fault(404))
        with pytest.raises(Permanent):
            await channels.send(OPS, NOTE)
        await channels.check()
    finally:
        root.removeHandler(ear)
        root.setLevel(before)
    assert [line for line in heard if not line.startswith("asyncio")] == []


async def test_an_address_that_cannot_be_read_is_told_by_its_name() -> None:
    """By `check`, before an alert needs it, and by the message."""
    settings = ChannelSettings(apprise_urls={"sms": SecretStr("twilio://s3cret")})
    async with open_channels(settings) as channels:
        [(_, is_ok, said)] = await channels.check()
        assert (is_ok, "sms" in said) == (False, True)
        with pytest.raises(Permanent, match="sms") as caught:
            await channels.send(recipient_of("apprise:sms"), NOTE)
    assert "s3cret" not in f"{said}{caught.value}"
