"""`notify`: try a channel before an alert needs it, see what is set up, find the ids of Telegram's chats."""

import uuid
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import typer

from ..clients.channels import Channels, Note, Unsure, open_channels
from ..errors import Misuse
from ..log import configure_logging
from ..rules.recipients import Recipient, recipient_of
from ..settings import Settings
from .edge import FAILED, checked, run_or_stop, settings_or_stop, stop, with_deps
from .shown import print_json, print_table

T = TypeVar("T")
ELSEWHERE = {
    "webhook": "`webhook send` sends merchants an event",
    "app": "what is for the app is stored, not sent",
}
NOTHING = (
    "no channel is set up: set ALERT_TELEGRAM_TOKEN, ALERT_SLACK_WEBHOOKS, ALERT_SMTP_HOST, ALERT_ZALO_APP_ID or "
    "ALERT_APPRISE_URLS"
)

notify = typer.Typer(no_args_is_help=True, help="Try the channels that alerts take.")


@notify.command("test")
def send_test(
    address: Annotated[str, typer.Argument(help="such as telegram:-1001234, slack:sales, email:boss@shop.vn")],
    text: Annotated[str, typer.Option(help="what it says")] = "If you can read this, alerts reach you here.",
) -> None:
    """Send one test message; prints the provider's id of it as one JSON line."""
    recipient = checked(lambda: _recipient(address))
    note = Note(f"test_{uuid.uuid4().hex}", "Test message", text)

    async def work(channels: Channels) -> str | None:
        if lacking := channels.configured(recipient):
            raise Misuse(f"nothing was sent: {lacking}")
        try:
            return await channels.send(recipient, note)
        except Unsure as e:
            stop(f"{e}; look there before you try again", FAILED)

    message_id = _with_channels(
        work, needs_database=lambda settings: recipient.channel == "zalo" and _has_zalo(settings)
    )
    print_json({"to": str(recipient), "sent": True, "message_id": message_id})


@notify.command()
def check() -> None:
    """Look at each channel that is set up, without sending anything; exits 1 where one does not work."""
    found = _with_channels(lambda channels: channels.check(), needs_database=_has_zalo)
    if not found:
        stop(NOTHING, FAILED)
    print_table(
        ("channel", "", "what it says"), [(name, "ok" if is_ok else "WRONG", said) for name, is_ok, said in found]
    )
    if not all(is_ok for _, is_ok, _ in found):
        raise typer.Exit(FAILED)


@notify.command("telegram-chats")
def telegram_chats() -> None:
    """List the chats and topics the bot was written to in the last 24 hours, with the addresses to use for them."""
    chats = _with_channels(lambda channels: channels.telegram.chats(), needs_database=lambda _: False)
    if not chats:
        stop(
            "none: add the bot to the group (or press Start), write something with its name in it, and ask again",
            FAILED,
        )
    print_table(("address", "kind", "name"), [(chat.address, chat.kind, chat.name) for chat in chats])


def _recipient(address: str) -> Recipient:
    try:
        found = recipient_of(address)
    except ValueError as e:
        raise Misuse(str(e)) from e
    if found.channel in ELSEWHERE:
        raise Misuse(f"{found.channel} is not tried from here: {ELSEWHERE[found.channel]}")
    return found


def _has_zalo(settings: Settings) -> bool:
    return settings.channels.zalo_app_id is not None


def _with_channels(
    ask: Callable[[Channels], Coroutine[Any, Any, T]], *, needs_database: Callable[[Settings], bool]
) -> T:
    """The database is opened for Zalo alone, whose tokens are kept there: the others are tried without any server."""
    settings = settings_or_stop()
    if needs_database(settings):
        return with_deps(lambda deps: ask(deps.channels), level="WARNING")
    configure_logging("WARNING", settings.service.log_format, zone=settings.service.zone)

    async def opened() -> T:
        async with open_channels(settings.channels) as channels:
            return await ask(channels)

    return run_or_stop(opened, settings)
