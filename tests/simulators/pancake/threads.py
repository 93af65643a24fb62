"""Conversations of a page (v2) and their messages: state and JSON.

Shapes: the vendor's documented rows with the measured differences; all values invented.
"""

import random
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from tests.simulators.pancake import faults, invent
from tests.simulators.pancake.clock import iso
from tests.simulators.pancake.switches import Switches

#: Who wrote a message. `native` is the page answering from the channel's own app: no agent fields.
SENDERS: Final = ("customer", "agent", "native", "bot")
#: And others that write now and then: notes of the system, answers of the page's automat.
ALL_SENDERS: Final = (*SENDERS, "system", "auto")
AUTO: Final = "[Botcake Reply] "
#: Fields of a conversation nobody was assigned to.
_UNASSIGNED: Final[dict[str, Any]] = {
    "tag_histories": [],
    "assignee_ids": [],
    "assignee_group_id": None,
    "current_assign_users": [],
    "assignee_histories": [],
}
#: Fields of a message nothing was done to.
_PLAIN_MESSAGE: Final[dict[str, Any]] = {
    "seen": True,
    "has_phone": False,
    "phone_info": [],
    "message_tags": [],
    "is_hidden": False,
    "is_parent": False,
    "is_parent_hidden": False,
    "is_removed": False,
    "removed_by": None,
    "parent_id": None,
    "comment_count": None,
    "like_count": None,
    "user_likes": False,
    "show_info": True,
    "rich_message": None,
    "edit_history": None,
    "can_comment": False,
    "can_hide": False,
    "can_like": False,
    "can_remove": False,
    "can_reply_privately": False,
    "private_reply_conversation": None,
}


@dataclass(slots=True)
class Message:
    """One message; the list a thread keeps is in order of time."""

    mid: str
    inserted_us: int
    sender: str
    #: Empty for a message that is only a picture.
    text: str
    removed: bool = False
    #: A key of `faults.OF_MESSAGES` when the row is malformed, else empty.
    fault: str = ""


@dataclass(slots=True)
class Conversation:
    """One state of a conversation, as a row of the v2 list."""

    rid: str
    kind: str
    psid: str
    customer_rid: str
    name: str
    inserted_us: int
    updated_us: int
    message_count: int
    snippet: str
    last_sender: str
    seen: bool
    tags: tuple[int, ...]
    #: A key of `faults.OF_THREADS` when the row is malformed, else empty.
    fault: str = ""
    version: int = 1
    body: bytes | None = None


@dataclass(slots=True)
class PageFacts:
    """What rows of a page need to know of it. Lives as long as the page."""

    page_id: str
    name: str
    #: `page_id` without its channel prefix.
    bare_id: str
    #: (uuid, name, fb_id) of each agent.
    agents: list[tuple[str, str, str]] = field(default_factory=list)
    #: Text of each tag; its id is its place.
    tags: list[str] = field(default_factory=list)

    def shown_id(self, switches: Switches) -> str:
        """Return the page id as rows write it."""
        return self.bare_id if switches.strip_channel_prefix else self.page_id


def first_messages(conversation: Conversation) -> list[Message]:
    """Invent the messages a conversation had before the simulator began; the same ones each time."""
    rng = random.Random(conversation.rid)
    span_us = max(1, conversation.updated_us - conversation.inserted_us)
    stamps = sorted(conversation.inserted_us + rng.randrange(span_us) for _ in range(conversation.message_count - 1))
    out = [
        Message(f"m_{conversation.rid}_{number}", at_us, rng.choice(SENDERS), _line(rng))
        for number, at_us in enumerate(stamps)
    ]
    last = Message(
        f"m_{conversation.rid}_{len(out)}",
        conversation.updated_us,
        conversation.last_sender,
        conversation.snippet,
    )
    return [*out, last]


def _line(rng: random.Random) -> str:
    return "" if rng.random() < 0.16 else rng.choice(invent.LINES)


def next_message(
    messages: list[Message], conversation: Conversation, rng: random.Random, at_us: int, switches: Switches
) -> Message:
    """Write one more message into a conversation, never before the last one."""
    at_us = max(at_us, messages[-1].inserted_us if messages else 0)
    message = Message(f"m_{conversation.rid}_{len(messages)}", at_us, rng.choice(ALL_SENDERS), _line(rng))
    message.fault = faults.drawn(faults.OF_MESSAGES, rng, switches.malformed_messages_pct)
    messages.append(message)
    return message


def sender_json(page: PageFacts, thread: Conversation, sender: str, switches: Switches) -> dict[str, Any]:
    """Return `from` / `last_sent_by`: the vendor has no role field, one must look at which keys are there."""
    if sender == "system":
        return {}
    if sender == "customer":
        return {"id": thread.psid, "name": thread.name, "email": f"{thread.psid}@facebook.test"}
    out: dict[str, Any] = {"id": page.shown_id(switches), "name": page.name}
    if sender != "native" and not switches.drop_admin_fields:
        uid, name, fb_id = page.agents[int(thread.psid[-1]) % len(page.agents)]
        bot = sender in ("bot", "auto")
        out |= {"uid": None if bot else uid, "admin_id": fb_id, "admin_name": "Botcake" if bot else name}
        out |= {"ai_generated": False, "is_automated": bot}
    return out


def tag_json(page: PageFacts, tag_id: int) -> dict[str, Any]:
    """Return one tag as conversations carry it."""
    return {"id": tag_id, "text": page.tags[tag_id], "color": "#f28809", "is_deactive": False, "is_lead_event": False}


def render(thread: Conversation, page: PageFacts, switches: Switches) -> bytes:
    """Write one row of the v2 list."""
    offset_h, shown_id = switches.tz_offset_hours, page.shown_id(switches)
    customer_id = invent.derived_uuid("customer", thread.customer_rid)
    tags: list[Any] = [tag_json(page, tag_id) for tag_id in thread.tags]
    row: dict[str, Any] = {
        "id": thread.rid,
        "type": thread.kind,
        "page_id": shown_id,
        "post_id": None if thread.kind == "INBOX" else f"{shown_id}_1",
        "from": sender_json(page, thread, "customer", switches),
        "snippet": thread.snippet,
        "seen": thread.seen,
        "message_count": thread.message_count,
        "has_phone": False,
        "inserted_at": iso(thread.inserted_us, fraction=True, offset_h=offset_h),
        "updated_at": iso(thread.updated_us, fraction=True, offset_h=offset_h),
        "last_sent_by": sender_json(page, thread, thread.last_sender, switches),
        "tags": [*tags, None] if switches.null_tags else tags,
        **_UNASSIGNED,
        "customer_id": customer_id,
        "customers": [{"id": thread.customer_rid, "fb_id": thread.psid, "name": thread.name, "is_contact": None}],
        "page_customer": _page_customer(thread, customer_id, offset_h),
        "recent_phone_numbers": [],
        "sim_id": thread.rid,
        "sim_version": thread.version,
    }
    if thread.kind == "INBOX":  # measured: comment rows have neither field
        row |= {"ad_ids": [], "ads": []}
    return faults.OF_THREADS[thread.fault](row) if thread.fault else orjson.dumps(row)


def _page_customer(thread: Conversation, customer_id: str, offset_h: float) -> dict[str, Any]:
    return {
        "id": thread.customer_rid,
        "name": thread.name,
        "customer_id": customer_id,
        "psid": thread.psid,
        "gender": None,
        "birthday": None,
        "global_id": None,
        "inserted_at": iso(thread.inserted_us, fraction=False, offset_h=offset_h),
        "notes": None,
        "recent_orders": None,
    }


def message_json(message: Message, thread: Conversation, page: PageFacts, switches: Switches) -> dict[str, Any]:
    """Return one message as the messages call writes it."""
    text = AUTO + message.text if message.sender == "auto" else message.text
    attachments: list[dict[str, Any]] = []
    if message.sender == "system":
        attachments = [{"type": "system_message", "message": text}]
    elif not text:
        attachments = [{"type": "photo", "url": f"https://cdn.invalid/{message.mid}.jpg"}]
    return {
        "id": message.mid,
        "conversation_id": thread.rid,
        "page_id": page.shown_id(switches),
        "type": thread.kind,
        "message": f"<div>{text}</div>",
        "original_message": text,
        "from": sender_json(page, thread, message.sender, switches),
        "inserted_at": iso(message.inserted_us, fraction=True, offset_h=switches.tz_offset_hours),
        "attachments": attachments,
        **_PLAIN_MESSAGE,
        "is_removed": message.removed,
        "sim_id": message.mid,
    }


def message_body(message: Message, thread: Conversation, page: PageFacts, switches: Switches) -> Any:
    """Return what a list of messages holds: the message, with its fault where it has one."""
    row = message_json(message, thread, page, switches)
    return orjson.Fragment(faults.OF_MESSAGES[message.fault](row)) if message.fault else row


def batch(messages: list[Message], current_count: int, order: str, size: int = 30) -> list[Message]:
    """Skip the newest `current_count` messages and return the `size` before them (30 by the documentation)."""
    end = max(0, len(messages) - current_count)
    found = messages[max(0, end - size) : end]
    return found if order == "asc" else found[::-1]
