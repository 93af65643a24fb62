"""Who wrote a message. Pancake's rows have no field that says so (reference: pancake-api, section 8).

In this order, as far as documents and measurements go: a message of the system, of a bot, of the page's staff, of a
customer. What nobody is named for is the system's: it neither waits nor answers. Ids of one page are written with
and without their channel prefix (`pzl_`, `tt_` ...), so they are compared without.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

SenderKind = Literal["customer", "agent", "bot", "system"]

_PREFIX = re.compile(r"^(?:tt|ttm|tts|pzl|zl|igo|waba|wa|web|spo|ln|tl)_")
_BOT_TEXT = re.compile(r"^\s*(?:<[^>]*>\s*)*\[Botcake Reply\]", re.IGNORECASE)
_STAFF = ("uid", "admin_id", "admin_name")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wrote. `staff_id` is Pancake's user id of a member of staff, None where the row does not say."""

    kind: SenderKind
    staff_id: str | None = None


def bare_id(page_id: str) -> str:
    """A page's id without its channel prefix."""
    return _PREFIX.sub("", page_id)


def sender_of(message: Mapping[str, Any], page_id: str) -> Sender:
    """Who wrote a raw message of page `page_id`; any shape of row has an answer.

    An answer typed in the channel's own app names the page and nobody of its staff: it is an answer all the same.
    """
    who = message.get("from")
    if not isinstance(who, Mapping) or not any(_given(who, key) for key in ("id", *_STAFF)):
        return Sender("system")
    attachments = message.get("attachments")
    if isinstance(attachments, list) and any(_is_system(item) for item in attachments):
        return Sender("system")
    if who.get("is_automated") is True or who.get("ai_generated") is True or _is_bot_text(message):
        return Sender("bot")
    if any(_given(who, key) for key in _STAFF) or bare_id(str(who.get("id"))) == bare_id(page_id):
        return Sender("agent", str(who["uid"]) if _given(who, "uid") else None)
    return Sender("customer")


def _given(who: Mapping[str, Any], key: str) -> bool:
    return bool(who.get(key))  # null, "", 0 and false all stand for nobody


def _is_system(attachment: object) -> bool:
    return isinstance(attachment, Mapping) and attachment.get("type") == "system_message"


def _is_bot_text(message: Mapping[str, Any]) -> bool:
    return any(
        isinstance(text := message.get(key), str) and bool(_BOT_TEXT.match(text))
        for key in ("original_message", "message")
    )
