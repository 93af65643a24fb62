"""Slack's incoming webhooks: what arrives, and what each way to refuse means."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from src.clients.channels import Channels, Note, Unsure, open_channels
from src.clients.channels.calls import CONNECTIONS
from src.errors import Permanent, Transient
from src.rules.recipients import recipient_of
from src.settings import ChannelSettings
from tests.simulators.channels import Fault, SlackServer, running

pytestmark = pytest.mark.anyio
SALES = recipient_of("slack:sales")


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    async with running(SlackServer()) as server:
        yield server


@pytest.fixture
async def channels(slack: SlackServer) -> AsyncIterator[Channels]:
    async with open_channels(settings_of(slack)) as opened:
        yield opened


def settings_of(slack: SlackServer, **changed: Any) -> ChannelSettings:
    webhooks = {name: SecretStr(slack.hook(f"{name}-s3cret")) for name in ("sales", "other")}
    return ChannelSettings(slack_webhooks=webhooks, **changed)


async def test_a_note_arrives_without_anybody_else_called(slack: SlackServer, channels: Channels) -> None:
    """What a customer wrote can neither mention a channel nor make a link; our links work."""
    note = Note(
        "n1", "A & B wait", "<!channel> <https://x.test|here> *now*", links=(("A|<B>", "https://p.test/?a=1|2"),)
    )
    assert await channels.send(SALES, note) is None
    header, text, links = (block["text"] for block in slack.messages[0]["blocks"])
    assert header == {"type": "plain_text", "text": "A & B wait"}
    assert text["text"] == "&lt;!channel&gt; &lt;https://x.test|here&gt; *now*"
    assert text["verbatim"] is True
    assert links["text"] == "<https://p.test/?a=1%7C2|A¦&lt;B&gt;>"
    assert slack.messages[0]["text"].startswith("A &amp; B wait\n&lt;!channel&gt;")


@pytest.mark.parametrize("sign", ["x", "<", "🔔"], ids=["ascii", "escaped", "wide"])
async def test_a_long_note_is_cut(slack: SlackServer, channels: Channels, sign: str) -> None:
    """To what a block takes, and at no half entity."""
    await channels.send(SALES, Note("n1", sign * 400, sign * 9000))
    text = slack.messages[0]["blocks"][1]["text"]["text"]
    assert text.endswith("…")
    assert len(text) > 2990
    assert text.replace("&lt;", "").strip(sign) == "…"


@pytest.mark.parametrize(
    ("status", "word", "words"),
    [
        (404, "no_service", "make a new one"),
        (403, "invalid_token", "make a new one"),
        (410, "channel_is_archived", "another one"),
        (400, "invalid_payload", "invalid_payload"),
        (403, "<html>sales-s3cret</html>", "no reason given"),
    ],
    ids=["revoked", "token", "archived", "payload", "web page"],
)
async def test_a_refusal_is_for_good(
    slack: SlackServer, channels: Channels, status: int, word: str, words: str
) -> None:
    """It says what to do, by the name of the webhook and not by its address."""
    slack.states["/services/T000/B000/sales-s3cret"] = (status, word)
    with pytest.raises(Permanent, match=words) as caught:
        await channels.send(SALES, Note("n1", "t", "x"))
    assert "sales" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    await channels.send(recipient_of("slack:other"), Note("n1", "t", "x"))


async def test_too_many_is_waited_for_as_long_as_asked(slack: SlackServer, channels: Channels) -> None:
    """By that webhook; another one is not held back."""
    slack.fail(Fault(429, headers={"Retry-After": "30"}))
    for _ in range(2):
        with pytest.raises(Transient) as caught:
            await channels.send(SALES, Note("n1", "t", "x"))
        assert caught.value.is_exact
        assert 29 < (caught.value.retry_after_s or 0) <= 30
    await channels.send(recipient_of("slack:other"), Note("n1", "t", "x"))
    assert len(slack.calls) == 2


@pytest.mark.parametrize("fault", [Fault(silence="hang"), Fault(silence="cut"), Fault(504)], ids=["hang", "cut", "504"])
async def test_what_may_have_arrived_is_said_so(slack: SlackServer, fault: Fault) -> None:
    """Slack knows no doubles, so somebody has to decide."""
    slack.fail(fault)
    soon = {"channel_timeout_seconds": 0.3} if fault.silence == "hang" else {}
    async with open_channels(settings_of(slack, **soon)) as channels:
        with pytest.raises(Unsure):
            await channels.send(SALES, Note("n1", "t", "x"))


async def test_a_name_without_a_webhook_is_told(channels: Channels) -> None:
    """Before anything is sent, and by the variable to set."""
    unknown = recipient_of("slack:nobody")
    assert "ALERT_SLACK_WEBHOOKS" in (channels.configured(unknown) or "")
    with pytest.raises(Permanent, match="no webhook of the name nobody"):
        await channels.send(unknown, Note("n1", "t", "x"))
    assert channels.configured(SALES) is None


async def test_calls_that_hung_leave_the_way_free(slack: SlackServer) -> None:
    """As many of them as there are connections: the next message goes through."""
    names = [f"hook{number}" for number in range(CONNECTIONS)]
    slack.fail(*[Fault(silence="hang")] * CONNECTIONS)
    webhooks = {name: SecretStr(slack.hook(name)) for name in (*names, "last")}
    settings = ChannelSettings(slack_webhooks=webhooks, channel_timeout_seconds=0.8)
    note = Note("n1", "t", "x")
    async with open_channels(settings) as channels:
        results = await asyncio.gather(
            *(channels.send(recipient_of(f"slack:{name}"), note) for name in names), return_exceptions=True
        )
        assert [type(result) for result in results] == [Unsure] * CONNECTIONS
        await channels.send(recipient_of("slack:last"), note)
    assert len(slack.messages) == 1
