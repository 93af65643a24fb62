"""Who wrote a message: every platform's way of saying so, and rows that say it badly."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.senders import Sender, bare_id, sender_of

PAGE = "1234567890"
STAFF = "6b9f0c1e-0000-4000-8000-000000000001"
CUSTOMER, PAGES_OWN, BOT, SYSTEM = Sender("customer"), Sender("agent"), Sender("bot"), Sender("system")


def by(page_id: str = PAGE, **who: Any) -> dict[str, Any]:
    """The `from` of a page's side."""
    return {"id": page_id, "name": "Shop", **who}


@pytest.mark.parametrize(
    ("page_id", "who", "expected"),
    [
        (PAGE, {"id": "998877", "name": "An", "email": "998877@facebook.test"}, CUSTOMER),
        (PAGE, by(uid=STAFF, admin_id="55", admin_name="Lan"), Sender("agent", STAFF)),
        (PAGE, by(uid=None, admin_id="55", admin_name="Lan"), PAGES_OWN),
        (PAGE, by(), PAGES_OWN),
        (PAGE, {"id": "55", "name": "Lan", "uid": STAFF}, Sender("agent", STAFF)),
        (PAGE, {"name": "Lan", "admin_name": "Lan"}, PAGES_OWN),
        ("tt_-000abc", {"id": "tt_-000abc", "name": "Shop"}, PAGES_OWN),
        ("tt_-000abc", {"id": "-000abc", "name": "Shop"}, PAGES_OWN),
        ("tt_-000abc", {"id": "tt_user:1", "name": "An"}, CUSTOMER),
        ("ttm_77", by("77", uid=None, admin_name="Lan"), PAGES_OWN),
        ("pzl_84900000001", {"id": "84900000001", "name": "Shop"}, PAGES_OWN),
        ("84900000001", {"id": "pzl_84900000001", "name": "Shop"}, PAGES_OWN),
        ("pzl_84900000001", {"id": "pzl_84900000002", "name": "An"}, CUSTOMER),
        ("igo_178", {"id": "igo_178", "name": "Shop"}, PAGES_OWN),
        ("igo_178", {"id": "igo_555", "name": "An"}, CUSTOMER),
        ("waba_849", {"id": "849", "name": "Shop", "uid": STAFF}, Sender("agent", STAFF)),
        ("waba_849", {"id": "84911", "name": "An"}, CUSTOMER),
        ("web_9", {"id": "web_9"}, PAGES_OWN),
    ],
    ids=[
        "facebook customer",
        "facebook staff",
        "staff without a user id",
        "page-started thread, or an answer from the channel's own app",
        "staff under an id of their own",
        "staff named, no id",
        "tiktok inbox: the page alone",
        "tiktok: prefix on one side",
        "tiktok customer",
        "tiktok comment of staff",
        "zalo: prefix on the page's side",
        "zalo: prefix on the row's side",
        "zalo customer",
        "instagram page",
        "instagram customer",
        "whatsapp staff",
        "whatsapp customer whose number begins with the page's",
        "chat plugin",
    ],
)
def test_each_platform(page_id: str, who: dict[str, Any], expected: Sender) -> None:
    """A message of the page's side is an answer, whoever of it wrote; all others are customers."""
    assert sender_of({"from": who, "message": "Xin chào"}, page_id) == expected


@pytest.mark.parametrize(
    "message",
    [
        {"from": by(uid=None, admin_name="Botcake", is_automated=True)},
        {"from": by(uid=STAFF, ai_generated=True)},
        {"from": by(admin_name="Botcake"), "message": "<div>[Botcake Reply] Dạ</div>"},
        {"from": by(), "original_message": "[Botcake Reply] Dạ", "message": "<div>Dạ</div>"},
        {"from": by("another-bot", is_automated=True)},
        {"from": by(), "message": " <div> <span>[botcake reply] Dạ"},
    ],
    ids=["automated", "generated", "by its text", "by its bare text", "under another id", "deep in markup"],
)
def test_a_bot_is_neither_staff_nor_customer(message: dict[str, Any]) -> None:
    """What a bot says ends nobody's wait, though it comes from the page and may name staff."""
    assert sender_of(message, PAGE) == BOT


def test_a_flag_that_says_no_makes_no_bot() -> None:
    """Rows of people carry the flags too; and a text that only speaks of the bot is no bot's."""
    who = by(uid=STAFF, is_automated=False, ai_generated=False)
    assert sender_of({"from": who, "message": "Tin [Botcake Reply] là gì?"}, PAGE) == Sender("agent", STAFF)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"from": None},
        {"from": "An"},
        {"from": {}},
        {"from": {"name": "Facebook User"}},
        {"from": {"id": "", "uid": None, "admin_id": 0, "admin_name": False}},
        {"from": {"id": "998877"}, "attachments": [{"type": "photo"}, {"type": "system_message"}]},
        {"from": by(uid=STAFF), "attachments": [{"type": "system_message"}]},
    ],
    ids=["nothing", "null", "text", "empty", "a name alone", "nobody", "a customer's action", "a note about staff"],
)
def test_what_nobody_wrote_is_the_systems(message: dict[str, Any]) -> None:
    """It neither waits nor answers."""
    assert sender_of(message, PAGE) == SYSTEM


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"from": {"id": 998877}}, CUSTOMER),
        ({"from": {"id": int(PAGE)}}, PAGES_OWN),
        ({"from": {"id": "998877"}, "attachments": None}, CUSTOMER),
        ({"from": {"id": "998877"}, "attachments": {"type": "system_message"}}, CUSTOMER),
        ({"from": {"id": "998877"}, "attachments": [None, "photo"]}, CUSTOMER),
        ({"from": {"id": "998877"}, "message": None, "original_message": 5}, CUSTOMER),
        ({"from": {"id": "998877", "uid": None, "admin_id": "", "admin_name": None}}, CUSTOMER),
        ({"from": {"id": "998877", "is_automated": "no"}}, CUSTOMER),
        ({"from": by(uid=42)}, Sender("agent", "42")),
    ],
    ids=["number", "page as number", "null list", "no list", "odd items", "odd text", "empty fields", "words", "uid"],
)
def test_loose_shapes_have_an_answer(message: dict[str, Any], expected: Sender) -> None:
    assert sender_of(message, PAGE) == expected


@pytest.mark.parametrize(
    ("page_id", "bare"),
    [
        ("tt_1", "1"),
        ("tts_1", "1"),
        ("zl_1", "1"),
        ("spo_1", "1"),
        ("1", "1"),
        ("xx_1", "xx_1"),
        ("tt_tt_1", "tt_1"),
    ],
)
def test_only_known_prefixes_are_taken_off_and_once(page_id: str, bare: str) -> None:
    assert bare_id(page_id) == bare


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["id", "uid", "admin_id", "admin_name", "is_automated", "ai_generated", "name"])


@given(st.dictionaries(KEYS, ANYTHING, max_size=7) | ANYTHING, ANYTHING, ANYTHING)
def test_every_shape_has_an_answer(who: object, attachments: object, text: object) -> None:
    """A row that nobody foresaw stops no sync; and only staff has a user id."""
    found = sender_of({"from": who, "attachments": attachments, "message": text}, PAGE)
    assert found.staff_id is None or found.kind == "agent"
