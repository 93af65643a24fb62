"""By which ways alerts leave the house."""

import re
from collections.abc import Mapping
from email.utils import parseaddr
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from ..rules.values import is_address, pairs
from .base import Group, Names

_TOKEN: Final = re.compile(r"\d+:[A-Za-z0-9_-]{30,}")
_NAME: Final = re.compile(r"[\w.-]{1,64}")
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
#: Of Apprise's services those that speak TLS, to a host of theirs or one of the shop's: none that writes to this
#: machine's desktop, log or disk. SMS gateways stand in the second half.
SCHEMES: Final = (
    *("barks", "dingtalk", "discord", "feishu", "gchat", "gotifys", "jsons", "lark", "line", "matrixs"),
    *("mmosts", "nctalks", "ntfys", "opsgenie", "pagerduty", "pover", "rockets", "viber", "wecombot", "whatsapp"),
    *("workflows", "wxteams", "zalo", "zulip"),
    *("atalk", "bulksms", "burstsms", "clickatell", "clicksend", "d7sms", "infobip", "msg91", "msgbird", "plivo"),
    *("seven", "sinch", "smsmanager", "sns", "telnyx", "twilio", "vonage"),
)


def _is_token(value: SecretStr) -> SecretStr:
    if not _TOKEN.fullmatch(value.get_secret_value()):
        raise ValueError("is not a token as @BotFather gives it, like 123456:ABC-DEF...")
    return value


def _url(value: str) -> str:
    if not is_address(value, "http", "https"):
        raise ValueError("is not an address like https://api.telegram.org")
    return value.rstrip("/")


def _named(value: object) -> object:
    """`sales=https://...,ops=https://...`; a comma inside of an address is written %2C."""
    if not isinstance(value, str):
        return value
    try:
        found = pairs(value)
    except ValueError:
        raise ValueError("is to be name=address,name=address; write a comma inside of an address as %2C") from None
    for name in found if isinstance(found, Mapping) else ():
        if not _NAME.fullmatch(str(name)):
            raise ValueError("a name holds letters, digits, dots, dashes and underscores, at most 64")
    return found


def _are_https(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, url in value.items():
        if not is_address(url.get_secret_value(), "http", "https"):
            raise ValueError(f"the address of {name} is none like https://hooks.slack.com/services/...")
    return value


def _is_mailbox(value: str) -> str:
    address = parseaddr(value)[1]
    if not re.fullmatch(r"[^@\s,;<>\"]+@[^@\s,;<>\"]+", address) or not value.isprintable():
        raise ValueError("is no address like alerts@shop.vn or Shop <alerts@shop.vn>")
    return value


class ChannelSettings(Group, env_prefix="ALERT_"):
    """Access to the channels; one without is not used. Addresses set here are trusted, and none comes from data."""

    channel_timeout_seconds: float = Field(10, gt=0, le=60)  # of one message, connecting included

    telegram_token: Annotated[SecretStr, AfterValidator(_is_token)] | None = None
    telegram_base_url: Annotated[str, AfterValidator(_url)] = "https://api.telegram.org"

    # name=url,...; each URL is a secret as a whole
    slack_webhooks: Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_named), AfterValidator(_are_https)] = (
        Field({})
    )

    smtp_host: str | None = None
    smtp_port: int | None = Field(None, ge=1, le=65_535)  # else 587, with tls 465, with none 25
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"  # none: for a server on this machine
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_from: Annotated[str, AfterValidator(_is_mailbox)] | None = None

    zalo_app_id: str | None = Field(None, pattern=r"^\d{5,25}$")
    zalo_app_secret: SecretStr | None = None
    zalo_refresh_token: SecretStr | None = None  # the first one; later ones are kept in the database
    zalo_base_url: Annotated[str, AfterValidator(_url)] = "https://openapi.zalo.me"
    zalo_oauth_url: Annotated[str, AfterValidator(_url)] = "https://oauth.zaloapp.com"

    apprise_schemes: Names = SCHEMES
    # name=url,... as Apprise writes them; needs the extra `apprise`
    apprise_urls: Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_named)] = Field({})

    @property
    def smtp_default_port(self) -> int:
        """The port where none is set."""
        return _PORTS[self.smtp_tls]

    @field_validator("smtp_user")
    @classmethod
    def _is_encrypted(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and info.data.get("smtp_tls") == "none" and info.data.get("smtp_host") not in _LOCAL:
            raise ValueError("would be sent unencrypted: make ALERT_SMTP_TLS starttls or tls")
        return value

    @field_validator("apprise_urls")
    @classmethod
    def _are_allowed(cls, value: dict[str, SecretStr], info: ValidationInfo) -> dict[str, SecretStr]:
        allowed = info.data.get("apprise_schemes", ())
        for name, url in value.items():
            if url.get_secret_value().partition("://")[0].lower() not in allowed:
                raise ValueError(f"the address of {name} is of no kind that ALERT_APPRISE_SCHEMES lists")
        return value
