"""What an event of Pancake's own webhooks says (reference: pancake-api, section 12).

Documented are `messaging` (a message that is new or was changed), `post` and `subscription`. Nothing is signed, the
event has no id and no time of its sending; the same one may come twice, and in any order. Fields may be missing or
null, ids may be numbers, and the page's id may lack its channel prefix.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from .senders import bare_id

Kind = Literal["message", "conversation", "post", "subscription", "other"]
Raw = dict[str, Any]

#: What makes one version of a message another than the next; its id stays. Likes and rights to reply do not count.
_CONTENT = (
    "message",
    "original_message",
    "inserted_at",
    "is_removed",
    "is_hidden",
    "edit_history",
    "attachments",
    "from",
)


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `page_id` is as it stands there; `digest` is the same for the same news, whenever it comes."""

    kind: Kind
    page_id: str | None = None
    conversation_id: str = ""
    message_id: str = ""
    conversation: Raw | None = None
    message: Raw | None = None
    post: Raw | None = None
    digest: str = ""


def event_of(raw: Mapping[str, Any]) -> Event:
    """The event. Raises ValueError, with a sentence that quotes nothing of it, where it lacks what makes it one."""
    data = _part(raw, "data") or {}
    name = str(raw.get("event_type") or "").strip().lower()
    message, conversation, post = _part(data, "message"), _part(data, "conversation"), _part(data, "post")
    if name == "subscription":
        return Event("subscription")
    if name == "post":
        return _post(raw, post)
    if name == "messaging" or (not name and message):
        return _messaging(raw, message, conversation, post)
    return Event("other", page_of(raw))


def page_of(raw: Mapping[str, Any]) -> str | None:
    """The page an event says it is about, as it writes it; None where it names none."""
    data = _part(raw, "data") or {}
    parts = (raw, _part(data, "message") or {}, _part(data, "conversation") or {})
    return next((found for part in parts if (found := _id(part, "page_id"))), None)


def told_of(conversation: Mapping[str, Any]) -> Raw:
    """What an event's conversation says of the fields we keep, under our names; what it does not say is not there."""
    told: Raw = {}
    if isinstance(conversation.get("seen"), bool):
        told["seen"] = conversation["seen"]
    if isinstance(conversation.get("snippet"), str):
        told["snippet"] = conversation["snippet"]
    if isinstance(assignees := conversation.get("assignee_ids"), list):
        told["assigneeIds"] = [str(each) for each in assignees if isinstance(each, str | int) and each != ""]
    if isinstance(tags := conversation.get("tags"), list):  # plain ids here, objects in lists
        ids = [tag.get("id") if isinstance(tag, Mapping) else tag for tag in tags]
        told["tags"] = [str(each) for each in ids if isinstance(each, str | int)]
    return told


class PageNames:
    """Our pages by what others call them: an id counts as ours where one side merely lacks the channel prefix."""

    def __init__(self, page_ids: Collection[str]) -> None:
        self._ours = frozenset(page_ids)
        bare = [bare_id(page_id) for page_id in self._ours]
        # two channels may use one number, and an event that says only the number tells of neither
        self._by_bare = {bare_id(page_id): page_id for page_id in self._ours if bare.count(bare_id(page_id)) == 1}

    def ours(self, page_id: str) -> str | None:
        """The id under which we keep the page, or None: not ours."""
        if page_id in self._ours:
            return page_id
        bare = bare_id(page_id)
        found = self._by_bare.get(bare)
        return found if found and bare in (page_id, found) else None

    def __len__(self) -> int:
        return len(self._ours)


def _messaging(raw: Mapping[str, Any], message: Raw | None, conversation: Raw | None, post: Raw | None) -> Event:
    page_id = _page(raw)
    message_id = _id(message or {}, "id")
    conversation_id = _id(message or {}, "conversation_id") or _id(conversation or {}, "id")
    if not conversation_id:
        raise ValueError("a messaging event names no conversation")
    if message and not message_id:
        raise ValueError("the message of a messaging event has no id")
    told = told_of(conversation or {})
    return Event(
        "message" if message else "conversation",
        page_id,
        conversation_id,
        message_id or "",
        conversation,
        message,
        post,
        digest=_digest(conversation_id, message_id, _only(message or {}, _CONTENT), told, is_removed(conversation)),
    )


def _post(raw: Mapping[str, Any], post: Raw | None) -> Event:
    page_id = _page(raw)
    if not post or not _id(post, "id"):
        raise ValueError("a post event has no post with an id")
    return Event("post", page_id, post=post, digest=_digest(page_id, post))


def is_removed(part: Mapping[str, Any] | None) -> bool:
    """Whether a message or a conversation was deleted."""
    return part is not None and part.get("is_removed") is True


def _page(raw: Mapping[str, Any]) -> str:
    page_id = page_of(raw)
    if not page_id:
        raise ValueError("an event names no page")
    return page_id


def _part(raw: Mapping[str, Any], name: str) -> Raw | None:
    part = raw.get(name)
    return part if isinstance(part, dict) else None


def _id(part: Mapping[str, Any], name: str) -> str | None:
    value = part.get(name)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _only(part: Mapping[str, Any], names: Collection[str]) -> Raw:
    return {name: part.get(name) for name in names}


def _digest(*parts: object) -> str:
    written = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
    return hashlib.blake2b(written, digest_size=16).hexdigest()
