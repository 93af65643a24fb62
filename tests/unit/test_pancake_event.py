"""What Pancake's events say, in every shape they were seen or may be imagined in."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.pancake_event import PageNames, event_of, is_removed, page_of, told_of
from tests.harness.hooks import PAGE, messaging, posted

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("page_id", "event_type", "data", "message", "conversation", "post", "id", "conversation_id")


def without(event: dict[str, Any], *path: str) -> dict[str, Any]:
    """The event with one field away."""
    event = copy.deepcopy(event)
    part = event
    for name in path[:-1]:
        part = part[name]
    del part[path[-1]]
    return event


def test_a_message_and_its_conversation_are_found() -> None:
    """The shape of the documents."""
    event = event_of(messaging("m_7"))
    assert (event.kind, event.page_id, event.message_id) == ("message", PAGE, "m_7")
    assert event.conversation_id == f"{PAGE}_7770001"
    assert event.message
    assert event.conversation


@pytest.mark.parametrize(
    "path",
    [
        ("page_id",),
        ("event_type",),
        ("data", "post"),
        ("data", "conversation"),
        ("data", "message", "conversation_id"),
        ("data", "message", "page_id"),
    ],
    ids="/".join,
)
def test_what_stands_twice_may_be_missing_once(path: tuple[str, ...]) -> None:
    """The same message of the same conversation is found."""
    whole, part = event_of(messaging()), event_of(without(messaging(), *path))
    assert (part.kind, part.page_id) == ("message", PAGE)
    assert (part.conversation_id, part.message_id) == (whole.conversation_id, whole.message_id)


def test_ids_may_be_numbers() -> None:
    """As everywhere with Pancake."""
    event = event_of({**messaging(id=12, conversation_id=34), "page_id": 56})
    assert (event.page_id, event.conversation_id, event.message_id) == ("56", "34", "12")


def test_an_event_may_tell_of_a_conversation_alone() -> None:
    """Then there is no message to be stored."""
    event = event_of({**messaging(), "data": {"conversation": messaging()["data"]["conversation"], "message": None}})
    assert (event.kind, event.message) == ("conversation", None)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (posted(), "post"),
        ({"event_type": "subscription", "data": {"subscription": {"id": "A"}}}, "subscription"),
        ({"event_type": "subscription"}, "subscription"),
        ({"event_type": "Messaging ", "page_id": PAGE, "data": messaging()["data"]}, "message"),
        ({"event_type": "order", "page_id": PAGE}, "other"),
        ({}, "other"),
    ],
    ids=["post", "subscription", "bare subscription", "capital", "unknown", "empty"],
)
def test_kinds(event: dict[str, Any], kind: str) -> None:
    """What is not known is kept apart, and is no fault."""
    assert event_of(event).kind == kind


@pytest.mark.parametrize(
    "event",
    [
        without(without(messaging(), "data", "message", "id"), "data", "conversation"),
        {"event_type": "messaging", "page_id": PAGE, "data": {}},
        {"event_type": "messaging", "page_id": PAGE, "data": None},
        {"event_type": "messaging", "data": {"message": {"id": "m", "conversation_id": "c"}}},
        {"event_type": "post", "page_id": PAGE, "data": {"post": {}}},
        {"event_type": "post", "data": {"post": {"id": "p"}}},
        messaging(id=""),
        messaging(id=True),
    ],
    ids=["no id", "nothing", "no data", "no page", "empty post", "post of no page", "empty id", "true"],
)
def test_what_lacks_its_name_is_refused_without_quoting_it(event: dict[str, Any]) -> None:
    """A dead letter's reason stands in the log."""
    with pytest.raises(ValueError, match=r"names no|has no") as e:
        event_of(event)
    assert "Customer" not in str(e.value)


@given(JSON, st.sampled_from(NAMES), JSON)
def test_nothing_but_a_value_error_comes_of_nonsense(value: Any, name: str, other: Any) -> None:
    """Whatever JSON there is."""
    for event in (
        {name: value},
        {**messaging(), name: value},
        {**messaging(), "data": {name: value, "message": other}},
    ):
        try:
            found = event_of(event)
        except ValueError:
            continue
        told_of(found.conversation or {})
        page_of(event)


def test_the_same_news_have_the_same_digest_and_others_another() -> None:
    """What Pancake sends twice is known again; what changed is not taken for it."""
    first = event_of(messaging()).digest
    assert event_of(dict(reversed(messaging().items()))).digest == first
    assert event_of(messaging(like_count=3)).digest == first
    others = [
        messaging("m_2"),
        messaging(customer="7770002"),
        messaging(text="khác"),
        messaging(is_removed=True),
        messaging(edit_history=[{"text": "x"}]),
        messaging(attachments=[{"type": "photo", "url": "https://x.test/p.jpg"}]),
        messaging(conversation={"seen": True}),
        messaging(conversation={"tags": []}),
        messaging(conversation={"is_removed": True}),
    ]
    assert len({first, *(event_of(other).digest for other in others)}) == len(others) + 1


def test_what_is_told_of_a_conversation_has_our_names() -> None:
    """And nothing that was not said, so that nothing is overwritten with it."""
    assert told_of({}) == {}
    assert told_of({"seen": None, "snippet": None, "tags": None, "assignee_ids": "x"}) == {}
    assert told_of({"seen": False, "snippet": "a", "tags": [0, 57, None, {"id": 3}], "assignee_ids": ["u1", None]}) == {
        "seen": False,
        "snippet": "a",
        "tags": ["0", "57", "3"],
        "assigneeIds": ["u1"],
    }


def test_only_true_is_removed() -> None:
    """Deleting for a mistake of type would be worse than not to."""
    assert is_removed({"is_removed": True})
    assert not any(map(is_removed, (None, {}, {"is_removed": None}, {"is_removed": "true"}, {"is_removed": 1})))


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (["100"], "100", "100"),
        (["zl_5"], "5", "zl_5"),
        (["5"], "zl_5", "5"),
        (["zl_5"], "tt_5", None),
        (["zl_5", "tt_5"], "5", None),
        (["zl_5", "tt_5"], "tt_5", "tt_5"),
        (["5", "tt_5"], "5", "5"),
        (["100"], "10", None),
        ([], "100", None),
    ],
)
def test_a_page_is_ours_where_only_its_prefix_is_missing(ours: list[str], theirs: str, found: str | None) -> None:
    """Two channels with one number are two pages."""
    assert PageNames(ours).ours(theirs) == found
