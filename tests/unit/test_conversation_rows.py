"""Raw conversations, messages and posts, as loosely as they come, and the documents they become."""

from typing import Any

import pytest

from src.sync.conversations import conversation_document, conversation_key
from src.sync.posts import post_document, post_key
from src.sync.standing import message_document
from src.sync.stream import in_words

PAGE = "pzl_100200"
BEGAN, CHANGED = "2026-05-14T13:33:09.904940", "2026-05-14T14:09:25.976000"
CHANGED_S = 1_778_767_765
ROW: dict[str, Any] = {
    "id": "100200_777",
    "type": "INBOX",
    "post_id": None,
    "from": {"id": "777", "name": "Khách Một"},
    "snippet": "còn hàng không",
    "seen": False,
    "inserted_at": BEGAN,
    "updated_at": CHANGED,
    "tags": [{"id": 0, "text": "VIP"}, None, {"id": 57, "text": None}],
    "assignee_ids": ["u1", None],
    "customer_id": "person-1",
    "customers": [None, {"id": "c1", "fb_id": "777", "name": "Khách Một"}],
    "page_customer": {"id": "c1", "customer_id": "person-1", "psid": "777", "name": "Khách Một"},
}


def row(**change: Any) -> dict[str, Any]:
    """The row with some fields changed; `...` leaves one out."""
    return {name: value for name, value in {**ROW, **change}.items() if value is not ...}


def test_a_conversation_keeps_what_is_relied_on_and_its_raw_row() -> None:
    """Times in seconds, the last change also to the microsecond; ids are text; nulls among tags say nothing."""
    second, document = conversation_document(PAGE, ROW)
    assert second == CHANGED_S
    assert document["panCakeData"] == ROW
    expected = {
        "conversationId": "100200_777",
        "pageId": PAGE,
        "type": "INBOX",
        "psid": "777",
        "customerId": "person-1",
        "customerName": "Khách Một",
        "updatedAt": CHANGED_S,
        "stamp": CHANGED_S * 1_000_000 + 976_000,
        "insertedAt": 1_778_765_589,
        "tags": ["0", "57"],
        "tagNames": ["VIP"],
        "assigneeIds": ["u1"],
    }
    assert {name: document[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "psid", "name"),
    [
        ({"from": {"id": "100200", "name": "Shop"}}, "777", "Khách Một"),
        ({"from": {"id": PAGE, "name": "Shop"}, "page_customer": None, "customers": None}, None, None),
        ({"page_customer": None}, "777", "Khách Một"),
        ({"page_customer": ..., "customers": ...}, "777", "Khách Một"),
        ({"from": "somebody", "page_customer": [], "customers": {}}, None, None),
        ({"from": {"id": 888, "name": "Người Lạ"}, "page_customer": None, "customers": []}, "888", "Người Lạ"),
    ],
    ids=["page wrote first", "page alone", "no page customer", "only who wrote", "of other shapes", "id as a number"],
)
def test_whose_conversation_it_is(change: dict[str, Any], psid: str | None, name: str | None) -> None:
    """The page itself is never the customer."""
    document = conversation_document(PAGE, row(**change))[1]
    assert (document["psid"], document["customerName"]) == (psid, name)


@pytest.mark.parametrize(
    "change",
    [{"tags": None}, {"tags": ...}, {"tags": [57]}, {"tags": "VIP"}, {"assignee_ids": None}, {"assignee_ids": {}}],
)
def test_odd_lists_cost_no_conversation(change: dict[str, Any]) -> None:
    """Tags and assignees only tell more."""
    document = conversation_document(PAGE, row(**change))[1]
    assert document["tags"] == (["57"] if change.get("tags") == [57] else [] if "tags" in change else ["0", "57"])


def test_a_conversation_without_a_change_stands_nowhere_in_the_list() -> None:
    """It is stored by its beginning, and says nothing of which seconds were read."""
    second, document = conversation_document(PAGE, row(updated_at=None))
    assert (second, document["updatedAt"]) == (None, document["insertedAt"])


@pytest.mark.parametrize(
    "raw",
    [None, 7, [], {}, row(id=None), row(id=...), row(updated_at=None, inserted_at=None), row(updated_at="yesterday")],
)
def test_what_cannot_be_read_says_what_is_wrong(raw: Any) -> None:
    """In words, and without what the row holds."""
    with pytest.raises(ValueError, match=r".") as found:
        conversation_document(PAGE, raw)
    assert in_words(found.value)
    assert "yesterday" not in in_words(found.value)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"id": "a"}, {"conversationId": "a"}),
        ({"id": 7}, {"conversationId": "7"}),
        ({"id": ""}, None),
        ({}, None),
        (None, None),
    ],
)
def test_an_unreadable_conversation_is_known_by_its_id(raw: Any, key: Any) -> None:
    """So that a sweep does not take it for deleted."""
    assert conversation_key(PAGE, raw) == key
    assert post_key(PAGE, raw) == ({"postId": key["conversationId"], "pageId": PAGE} if key else None)


def test_a_message_says_when_and_who_and_keeps_its_raw_row() -> None:
    """To the microsecond; the staff's id where the row tells."""
    raw = {"id": 5, "inserted_at": CHANGED, "from": {"id": "100200", "uid": "u1"}, "is_removed": True, "like": None}
    document = message_document(PAGE, "100200_777", raw)
    assert document == {
        "messageId": "5",
        "conversationId": "100200_777",
        "pageId": PAGE,
        "insertedAt": CHANGED_S,
        "stamp": CHANGED_S * 1_000_000 + 976_000,
        "sender": "agent",
        "staffId": "u1",
        "isRemoved": True,
        "messageData": raw,
    }


@pytest.mark.parametrize("raw", [None, {}, {"id": "m"}, {"id": "m", "inserted_at": "soon"}, {"inserted_at": CHANGED}])
def test_a_message_without_id_or_time_cannot_be_stored(raw: Any) -> None:
    """It would stand nowhere in its conversation."""
    with pytest.raises(ValueError, match=r"."):
        message_document(PAGE, "c", raw)


def test_a_post_is_ordered_by_when_it_was_published() -> None:
    """The only time it has."""
    raw = {"id": "1_2", "type": "photo", "message": None, "inserted_at": "2026-05-14T14:09:25"}
    second, document = post_document(PAGE, raw)
    assert second == document["insertedAt"] == CHANGED_S
    assert (document["postId"], document["pageId"], document["panCakeData"]) == ("1_2", PAGE, raw)
    with pytest.raises(ValueError, match="inserted_at"):
        post_document(PAGE, {"id": "1_2"})
