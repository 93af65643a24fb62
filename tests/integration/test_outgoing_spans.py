"""What a trace tells of calls to others, and what it keeps to itself."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import SecretStr
from pymongo.errors import OperationFailure

from src.clients.channels import Note, Unsure, open_channels
from src.clients.merchants.sender import open_sender
from src.clients.mongo import open_database
from src.clients.probe import status_of
from src.errors import Transient
from src.rules.recipients import recipient_of
from src.settings import ChannelSettings, Settings
from src.settings.webhooks import WebhookSettings
from tests.harness.spans import Spans, inside, is_below, recording
from tests.simulators.channels import Fault, TelegramServer, running

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
NOTE = Note(note_id="n1", title="Khách chờ 31 phút", text="Phụ trách: An", severity="high")
PATH = "/hook/SECRET?key=SECRET"


@pytest.fixture
def spans() -> Iterator[Spans]:
    with recording() as spans:
        yield spans


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with running(TelegramServer()) as server:
        yield server


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def call_of(spans: Spans, name: str) -> ReadableSpan:
    """The one call there was; nothing in any span is a secret."""
    call = spans.one(name)
    assert call.kind is SpanKind.CLIENT
    assert is_below(call, spans.one("outer"))
    assert "SECRET" not in spans.text
    return call


async def test_a_message_is_told_of_without_its_address(spans: Spans, server: TelegramServer) -> None:
    """Telegram's token stands in the path."""
    settings = ChannelSettings(telegram_token=SecretStr(server.token), telegram_base_url=server.url)
    async with open_channels(settings) as channels:
        with inside():
            await channels.send(recipient_of("telegram:42"), NOTE)
    call = call_of(spans, "POST ")
    assert told(call) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": int(server.url.rpartition(":")[2]),
    }
    assert call.status.status_code is StatusCode.UNSET
    assert [
        each for each in (server.token, server.token.partition(":")[2], NOTE.text, NOTE.title) if each in spans.text
    ] == []
    assert not {name.lower() for name in server.calls[0].headers} & {"traceparent", "tracestate", "baggage"}


@pytest.mark.parametrize(
    ("fault", "why"),
    [(Fault(500), "500"), (Fault(silence="cut"), None), (Fault(silence="hang"), "TimeoutError")],
    ids=["refused", "cut", "no answer"],
)
async def test_a_call_that_failed_says_how(spans: Spans, server: TelegramServer, fault: Fault, why: str | None) -> None:
    """A call that took too long is not shown as one that somebody cancelled."""
    server.faults.append(fault)
    settings = ChannelSettings(
        telegram_token=SecretStr(server.token), telegram_base_url=server.url, channel_timeout_seconds=1
    )
    async with open_channels(settings) as channels:
        with inside(), pytest.raises((Transient, Unsure)):
            await channels.send(recipient_of("telegram:42"), NOTE)
    call = call_of(spans, "POST ")
    assert call.status.status_code is StatusCode.ERROR
    assert why is None or told(call)["error.type"] == why
    assert server.token not in spans.text


@pytest.mark.parametrize("status", [200, 503])
async def test_a_webhook_is_told_of_by_host_and_status(spans: Spans, server: TelegramServer, status: int) -> None:
    """Its path is the merchant's affair."""
    server.faults.append(Fault(status))
    ours = WebhookSettings.model_validate({"allow_http": True, "allowed_networks": "127.0.0.0/8"})
    async with open_sender(ours) as sender:
        with inside():
            answer = await sender.send(f"{server.url}{PATH}", {"webhook-id": "evt_1"}, b"{}")
    assert answer.status == status
    call = call_of(spans, "POST merchant")
    assert told(call)["http.response.status_code"] == status
    assert call.status.status_code is (StatusCode.UNSET if status == 200 else StatusCode.ERROR)
    assert not {name.lower() for name in server.calls[0].headers} & {"traceparent", "tracestate", "baggage"}


async def test_a_webhook_that_reached_nobody_says_why(spans: Spans) -> None:
    """In the words its merchant is told."""
    async with open_sender(WebhookSettings()) as sender:
        with inside():
            answer = await sender.send(f"https://127.0.0.1{PATH}", {}, b"{}")
    assert answer.status is None
    call = call_of(spans, "POST merchant")
    assert (call.status.status_code, call.status.description) == (StatusCode.ERROR, answer.error)


async def test_a_probe_is_told_of_without_its_path(spans: Spans, server: TelegramServer) -> None:
    """Health addresses may hold a token, or a user with a password."""
    server.faults.append(Fault(204))
    with inside():
        assert await status_of(f"{server.url.replace('//', '//user:SECRET@')}{PATH}", 5) == 204
    call = call_of(spans, "GET probe")
    assert told(call)["server.address"] == "127.0.0.1"


async def test_a_command_is_told_of_by_name_and_collection(spans: Spans, settings: Settings) -> None:
    """Neither filter nor row leaves the house; one that failed has MongoDB's word for why."""
    async with open_database(settings.mongo) as database:
        with inside():
            await database["things"].insert_many([{"phone": "SECRET", "n": n} for n in range(3)])
            assert len(await database["things"].find({"phone": "SECRET"}).batch_size(2).to_list(None)) == 3
            with pytest.raises(OperationFailure):
                await database["things"].update_one({"phone": "SECRET"}, {"$rename": {"n": "SECRET."}})
            with pytest.raises(OperationFailure):
                await database.command({"noSuchCommand": "SECRET"})
    outer = spans.one("outer")
    commands = [span for span in spans.all if span is not outer]
    assert [span.name for span in commands if is_below(span, outer)] == [span.name for span in commands]
    insert = call_of(spans, "insert things")
    assert told(insert)["db.namespace"] == settings.mongo.database
    assert told(spans.one("getMore"))["db.collection.name"] == "things"
    assert told(spans.one("noSuchCommand"))["error.type"] == "CommandNotFound"
    assert spans.one("noSuchCommand").status.status_code is StatusCode.ERROR


async def test_outside_of_a_trace_nothing_is_recorded(spans: Spans, server: TelegramServer, settings: Settings) -> None:
    """Heartbeats, looks at the lanes and the like would be noise."""
    server.faults.append(Fault(204))
    async with open_database(settings.mongo) as database:
        await database["things"].find_one()
        await status_of(server.url, 5)
    assert (spans.all, spans.asked) == ((), [])
