"""`notify` as a person uses it before the first alert: it says what happened, and what to do."""

import json
from collections.abc import Iterator

import pytest

from tests.acceptance.processes import COMMAND, environment, run
from tests.conftest import Servers
from tests.simulators.channels import Fault, SlackServer, TelegramServer, in_thread

NOWHERE = Servers("redis://127.0.0.1:1", "mongodb://127.0.0.1:1")
NOTIFY = [*COMMAND, "notify"]


@pytest.fixture(scope="module")
def telegram() -> Iterator[TelegramServer]:
    with in_thread(TelegramServer()) as server:
        yield server


@pytest.fixture(scope="module")
def slack() -> Iterator[SlackServer]:
    with in_thread(SlackServer()) as server:
        yield server


@pytest.fixture
def env(telegram: TelegramServer, slack: SlackServer) -> dict[str, str]:
    """No Redis and no MongoDB: neither is needed to try a channel."""
    return environment(
        NOWHERE,
        "unused",
        ALERT_TELEGRAM_TOKEN=telegram.token,
        ALERT_TELEGRAM_BASE_URL=telegram.url,
        ALERT_SLACK_WEBHOOKS=f"sales={slack.hook('s3cret')}",
    )


def test_a_test_message_is_sent(env: dict[str, str], telegram: TelegramServer) -> None:
    """One line of JSON, with the id of the message."""
    done = run([*NOTIFY, "test", "telegram:42", "--text", "Xin chào"], env)
    assert done.returncode == 0, done.stderr
    sent = json.loads(done.stdout)
    assert (sent["to"], sent["sent"]) == ("telegram:42", True)
    assert telegram.messages[int(sent["message_id"]) - 1]["shown"] == "Test message\nXin chào"


@pytest.mark.parametrize(
    ("address", "fault", "code", "words"),
    [
        ("telegram:43", None, 1, "press Start"),
        ("telegram:42", Fault(silence="hang"), 1, "look there before you try again"),
        ("slack:ops", None, 2, "ALERT_SLACK_WEBHOOKS"),
        ("zalo:1234567890", None, 2, "ALERT_ZALO_APP_ID"),
        ("webhook:m1", None, 2, "webhook send"),
        ("pigeon:1", None, 2, "is no address"),
    ],
    ids=["unknown chat", "in doubt", "no webhook", "no account", "elsewhere", "pigeon"],
)
def test_what_went_wrong_is_said_with_what_to_do(
    env: dict[str, str], telegram: TelegramServer, address: str, fault: Fault | None, code: int, words: str
) -> None:
    """2 where nothing was tried, 1 where it failed; no traceback, and no token."""
    if fault is not None:
        telegram.fail(fault)
    soon = {"ALERT_CHANNEL_TIMEOUT_SECONDS": "0.5"} if fault is not None else {}
    done = run([*NOTIFY, "test", address], {**env, **soon})
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert telegram.token not in done.stderr


def test_check_looks_at_all_that_is_set_up(env: dict[str, str]) -> None:
    """It exits 1 as soon as one does not work, and shows all of them all the same."""
    well = run([*NOTIFY, "check"], env)
    assert well.returncode == 0, well.stderr
    assert "bot @shop_bot" in well.stdout
    assert "not checkable" in well.stdout
    wrong = run([*NOTIFY, "check"], {**env, "ALERT_TELEGRAM_TOKEN": "654321:" + "W" * 35})
    assert wrong.returncode == 1
    assert "WRONG" in wrong.stdout
    assert "not checkable" in wrong.stdout
    nothing = run([*NOTIFY, "check"], environment(NOWHERE, "unused"))
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "set ALERT_TELEGRAM_TOKEN" in nothing.stderr


def test_telegrams_chats_are_listed_with_their_addresses(env: dict[str, str], telegram: TelegramServer) -> None:
    """Ready to be written into a setting."""
    telegram.updates = [{"update_id": 1, "message": {"chat": {"id": -1001, "type": "supergroup", "title": "Sales"}}}]
    done = run([*NOTIFY, "telegram-chats"], env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-3:] == ["telegram:-1001", "supergroup", "Sales"]
