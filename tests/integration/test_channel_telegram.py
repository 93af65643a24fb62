"""Telegram: what arrives, what a person reads there, and what each way to fail means for the next try."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from src.clients.channels import Channels, Note, Unsure, open_channels
from src.errors import Permanent, Transient
from src.rules.recipients import recipient_of
from src.settings import ChannelSettings
from tests.simulators.channels import Fault, TelegramServer, running

pytestmark = pytest.mark.anyio
GROUP, PERSON = recipient_of("telegram:-1001"), recipient_of("telegram:42")


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramServer]:
    async with running(TelegramServer()) as server:
        yield server


@pytest.fixture
async def channels(telegram: TelegramServer) -> AsyncIterator[Channels]:
    async with open_channels(settings_of(telegram)) as opened:
        yield opened


def settings_of(telegram: TelegramServer, **changed: Any) -> ChannelSettings:
    return ChannelSettings(telegram_token=SecretStr(telegram.token), telegram_base_url=telegram.url, **changed)


def note(text: str = "Phụ trách: An", **changed: Any) -> Note:
    return Note(**{"note_id": "n1", "title": "Khách chờ 31 phút", "text": text, "severity": "high", **changed})


async def test_a_note_arrives_as_it_was_meant(telegram: TelegramServer, channels: Channels) -> None:
    """Title, text and links are there, markup in a customer's words is text, and the id comes back."""
    link = ("An & Bình", 'https://pancake.test/1?a=1&b="2"')
    assert await channels.send(GROUP, note("<b>x</b> & y\nz", links=(link,))) == "1"
    message = telegram.messages[0]
    assert message["shown"] == "Khách chờ 31 phút\n<b>x</b> & y\nz\n\nAn & Bình"
    assert 'href="https://pancake.test/1?a=1&amp;b=&quot;2&quot;"' in message["text"]
    assert (message["chat_id"], message["disable_notification"]) == ("-1001", False)


@pytest.mark.parametrize("sign", ["x", "<", "&", "🔔", "ệ"], ids=["ascii", "markup", "entity", "two units", "accent"])
async def test_a_long_text_is_cut_and_the_links_stay(telegram: TelegramServer, channels: Channels, sign: str) -> None:
    """Telegram refuses what is longer than 4096 UTF-16 units; what is cut says so."""
    await channels.send(PERSON, note(sign * 9000, link="https://pancake.test/1"))
    shown = telegram.messages[0]["shown"]
    assert shown.endswith(f"{sign}…\n\nhttps://pancake.test/1")


async def test_a_topic_is_written_to(telegram: TelegramServer, channels: Channels) -> None:
    """A topic of a group is a part of the address."""
    await channels.send(recipient_of("telegram:-1001/7"), note())
    assert telegram.messages[0]["message_thread_id"] == 7


async def test_a_topic_that_is_gone_does_not_lose_the_message(telegram: TelegramServer, channels: Channels) -> None:
    """It goes to the group itself."""
    await channels.send(recipient_of("telegram:-1001/8"), note())
    assert "message_thread_id" not in telegram.messages[0]


async def test_a_group_that_became_a_supergroup_is_followed(telegram: TelegramServer, channels: Channels) -> None:
    """At once, and without asking in vain the next time; `check` tells the new id."""
    telegram.moved["-5"] = -1001
    for _ in range(2):
        await channels.send(recipient_of("telegram:-5"), note())
    assert [call.body["chat_id"] for call in telegram.calls] == ["-5", "-1001", "-1001"]
    [(_, is_ok, said)] = await channels.check()
    assert is_ok
    assert "-5 is now -1001" in said


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((403, "Forbidden: bot was blocked by the user"), "blocked"),
        ((403, "Forbidden: bot can't initiate conversation with a user"), "press Start"),
        ((403, "Forbidden: bot was kicked from the supergroup chat"), "add it again"),
        ((400, "Bad Request: chat not found"), "notify telegram-chats"),
        ((400, "Bad Request: something new"), "something new"),
    ],
    ids=["blocked", "not started", "kicked", "unknown", "other"],
)
async def test_a_refusal_is_for_good(
    telegram: TelegramServer, channels: Channels, refusal: tuple[int, str], words: str
) -> None:
    """Nobody tries again what a person has to put right; the words say what that is."""
    telegram.refusals["42"] = refusal
    with pytest.raises(Permanent, match=words):
        await channels.send(PERSON, note())


async def test_a_wrong_token_is_for_good(telegram: TelegramServer) -> None:
    """The variable is named, the token is not."""
    token = "654321:" + "W" * 35
    changed = settings_of(telegram).model_copy(update={"telegram_token": SecretStr(token)})
    async with open_channels(changed) as channels:
        with pytest.raises(Permanent, match="ALERT_TELEGRAM_TOKEN") as caught:
            await channels.send(PERSON, note())
        assert (await channels.check())[0][1] is False
    assert token not in str(caught.value)


async def test_too_many_is_waited_for_as_long_as_asked(telegram: TelegramServer, channels: Channels) -> None:
    """The hint is Telegram's own and exact; while it lasts, that chat is not called, and others are."""
    body = b'{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":17}}'
    telegram.fail(Fault(429, body, {"Content-Type": "application/json"}))
    with pytest.raises(Transient) as caught:
        await channels.send(PERSON, note())
    assert (caught.value.retry_after_s, caught.value.is_exact) == (17, True)
    with pytest.raises(Transient) as again:
        await channels.send(PERSON, note())
    assert 16 < (again.value.retry_after_s or 0) <= 17
    await channels.send(GROUP, note())
    assert len(telegram.calls) == 2


async def test_a_chat_gets_one_message_a_second(telegram: TelegramServer) -> None:
    """Who would have to wait longer than a call may take is sent away, with the time to come back after."""
    async with open_channels(settings_of(telegram, channel_timeout_seconds=0.6)) as channels:
        await channels.send(PERSON, note())
        with pytest.raises(Transient) as caught:
            await channels.send(PERSON, note())
    assert not isinstance(caught.value, Unsure)
    assert caught.value.retry_after_s == 1
    assert len(telegram.messages) == 1


@pytest.mark.parametrize(
    ("fault", "is_unsure"),
    [
        (Fault(500), False),
        (Fault(503, headers={"Retry-After": "5"}), False),
        (Fault(502), True),
        (Fault(504), True),
        (Fault(200, b"<html>hello</html>"), True),
        (Fault(silence="hang"), True),
        (Fault(silence="cut"), True),
    ],
    ids=["500", "503", "502", "504", "web page", "hang", "cut"],
)
async def test_a_failure_that_passes_is_tried_again(telegram: TelegramServer, fault: Fault, is_unsure: bool) -> None:
    """Whether it may have arrived is told apart, as Telegram knows no doubles."""
    telegram.fail(fault)
    soon = {"channel_timeout_seconds": 0.3} if fault.silence == "hang" else {}
    async with open_channels(settings_of(telegram, **soon)) as channels:
        with pytest.raises(Transient) as caught:
            await channels.send(PERSON, note())
        assert isinstance(caught.value, Unsure) is is_unsure
        assert caught.value.retry_after_s == (5 if fault.status == 503 else None)


async def test_what_was_never_sent_is_not_in_doubt(telegram: TelegramServer) -> None:
    """Nobody listens there: it is sure that nothing arrived."""
    nowhere = settings_of(telegram).model_copy(update={"telegram_base_url": "http://127.0.0.1:1"})
    async with open_channels(nowhere) as channels:
        with pytest.raises(Transient, match="nothing was sent") as caught:
            await channels.send(PERSON, note())
    assert not isinstance(caught.value, Unsure)


async def test_a_redirect_is_not_followed(telegram: TelegramServer, channels: Channels) -> None:
    """It would carry the token to whoever is named there."""
    telegram.fail(Fault(302, headers={"Location": telegram.url}))
    with pytest.raises(Permanent, match="redirect"):
        await channels.send(PERSON, note())
    assert len(telegram.calls) == 1


async def test_the_chats_a_bot_knows_are_listed(telegram: TelegramServer, channels: Channels) -> None:
    """Each once, with the address to write into a setting; topics by their names."""
    group = {"id": -1001, "type": "supergroup", "title": "Sales"}
    made = {"forum_topic_created": {"name": "Late"}}
    telegram.updates = [
        {"update_id": 1, "my_chat_member": {"chat": group}},
        {"update_id": 2, "message": {"chat": {"id": 42, "type": "private", "first_name": "An", "username": "an"}}},
        {
            "update_id": 3,
            "message": {"chat": group, "is_topic_message": True, "message_thread_id": 7, "reply_to_message": made},
        },
        {"update_id": 4, "poll": {"id": "1"}},
    ]
    found = [(chat.address, chat.name) for chat in await channels.telegram.chats()]
    assert found == [("telegram:-1001", "Sales"), ("telegram:42", "An (@an)"), ("telegram:-1001/7", "Sales: Late")]


async def test_another_reader_of_the_updates_is_named(telegram: TelegramServer, channels: Channels) -> None:
    """Telegram gives updates to one reader only."""
    telegram.fail(Fault(409, b'{"ok":false,"error_code":409,"description":"Conflict"}'))
    with pytest.raises(Permanent, match="another program reads"):
        await channels.telegram.chats()
