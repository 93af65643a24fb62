"""Access to channels as a person writes it: right ones are read, wrong ones are told without being shown."""

import pytest

from src.errors import Misuse
from src.settings import load_settings

SECRET = "s3cret-0f-n0body"
TOKEN = "123456:" + "T" * 35


def test_everything_set_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names lead to addresses; ports follow from the encryption."""
    for name, value in {
        "ALERT_TELEGRAM_TOKEN": TOKEN,
        "ALERT_SLACK_WEBHOOKS": "sales=https://hooks.slack.test/services/T/B/x?a=b, ops=https://hooks.slack.test/y",
        "ALERT_SMTP_HOST": "mail.test",
        "ALERT_SMTP_TLS": "tls",
        "ALERT_SMTP_FROM": "Shop <alerts@shop.test>",
        "ALERT_APPRISE_URLS": "sms=twilio://sid:token@0900000001/0900000002%2C0900000003",
    }.items():
        monkeypatch.setenv(name, value)
    channels = load_settings(None).channels
    assert channels.slack_webhooks["sales"].get_secret_value() == "https://hooks.slack.test/services/T/B/x?a=b"
    assert set(channels.slack_webhooks) == {"sales", "ops"}
    assert (channels.smtp_port, channels.smtp_default_port) == (None, 465)
    assert set(channels.apprise_urls) == {"sms"}
    assert "hooks.slack.test" not in repr(channels)
    assert "sid" not in repr(channels)


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"ALERT_TELEGRAM_TOKEN": SECRET}, "ALERT_TELEGRAM_TOKEN: is not a token as @BotFather gives it"),
        ({"ALERT_TELEGRAM_BASE_URL": "telegram.test"}, "ALERT_TELEGRAM_BASE_URL: is not an address"),
        ({"ALERT_SLACK_WEBHOOKS": f"https://hooks.slack.test/{SECRET}"}, "ALERT_SLACK_WEBHOOKS: is to be name=address"),
        ({"ALERT_SLACK_WEBHOOKS": f"sales={SECRET}"}, "ALERT_SLACK_WEBHOOKS: the address of sales"),
        ({"ALERT_SLACK_WEBHOOKS": f"my sales=https://{SECRET}.test"}, "ALERT_SLACK_WEBHOOKS: a name holds"),
        ({"ALERT_SMTP_FROM": "shop"}, "ALERT_SMTP_FROM: is no address"),
        (
            {"ALERT_SMTP_HOST": "mail.test", "ALERT_SMTP_TLS": "none", "ALERT_SMTP_USER": "shop"},
            "ALERT_SMTP_USER: would be sent unencrypted",
        ),
        ({"ALERT_APPRISE_URLS": f"x=syslog://{SECRET}"}, "ALERT_APPRISE_URLS: the address of x is of no kind"),
        ({"ALERT_APPRISE_URLS": f"x=json://{SECRET}"}, "ALERT_APPRISE_URLS: the address of x is of no kind"),
    ],
    ids=[
        "token",
        "base url",
        "no name",
        "no address",
        "bad name",
        "sender",
        "password in the open",
        "local log",
        "no tls",
    ],
)
def test_a_wrong_one_is_told_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], fault: str
) -> None:
    """One line, by the variable, before anything starts."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Misuse) as caught:
        load_settings(None)
    assert fault in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_kind_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is the operator's."""
    monkeypatch.setenv("ALERT_APPRISE_SCHEMES", "json,syslog")
    monkeypatch.setenv("ALERT_APPRISE_URLS", "x=json://localhost")
    assert set(load_settings(None).channels.apprise_urls) == {"x"}
