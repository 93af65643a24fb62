"""Whatever a caller hands to the log comes out plain, short, and without its secrets."""

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from src.rules.cleaned import LEFT_OUT, LONGEST_TEXT, ROOM, Room, cleaned, cut
from src.rules.redact import HIDDEN, redact

SECRET = "s3cr3t-0f-n0body"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6IjEwMCIsImdlbiI6MX0.c2lnbmF0dXJlX29m-bm9ib2R5"


@dataclass
class Account:
    name: str
    api_key: str


class Pair(NamedTuple):
    name: str
    access_token: str


class Login(BaseModel):
    user: str
    password: str
    pin: SecretStr


class Kind(enum.Enum):
    URL = f"https://pages.test/x?token={SECRET}"


class Word(enum.StrEnum):
    URL = f"https://pages.test/x?token={SECRET}"


class Awkward:
    def __str__(self) -> str:
        raise RuntimeError(SECRET)


@pytest.mark.parametrize(
    "value",
    [
        {"password": SECRET},
        {"headers": {"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET, "Set-Cookie": f"a={SECRET}"}},
        {"page": {"pageAccessToken": SECRET}},
        {"tokens": [SECRET, SECRET]},
        {"mnemonic": SECRET, "seedPhrase": SECRET, "pass_phrase": SECRET},
        {"session": SECRET, "session_id": SECRET, "x_signature": SECRET, "bearer": SECRET},
        {"secret": {"sealed": SECRET}},
        {"token": 12345678901234567890, "x": {"pwd": SECRET.encode()}},
        {b"token": SECRET.encode()},
        {"x": f"token={SECRET}".encode()},
        [("authorization", SECRET), ("accept", "*/*")],
        [[b"cookie", SECRET.encode()]],
        {Account("a", SECRET).name: Account("a", SECRET)},
        [Login(user="a", password=SECRET, pin=SecretStr(SECRET))],
        SecretStr(SECRET),
        {f"https://pages.test/?token={SECRET}"},
        {f"https://pages.test/?token={SECRET}": 1},
        Kind.URL,
        Word.URL,
        ValueError(f"password='{SECRET}'"),
        Awkward(),
        [f"token={SECRET}"] * 10_000,
        Pair("a", SECRET),
        {"token": SECRET}.items(),
        {"x": f"token={SECRET}"}.values(),
        {"headers": [{"name": "Authorization", "value": SECRET}]},
    ],
    ids=range(26),
)
def test_no_secret_is_left(value: object) -> None:
    """Under a name, in a text, in an object: however it is wrapped."""
    assert SECRET not in json.dumps(cleaned(value, Room()))
    assert SECRET not in json.dumps(cleaned({"details": [value]}, Room()))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"rows": 3, "is_new": True, "page_id": "100"}, {"rows": 3, "is_new": True, "page_id": "100"}),
        ({"token": None, "has_token": True}, {"token": None, "has_token": True}),
        (datetime(2026, 5, 14, 7, 30, tzinfo=UTC), "2026-05-14T07:30:00+00:00"),
        (date(2026, 5, 14), "2026-05-14"),
        (b"bytes", "bytes"),
        ((1, 2.5, None), [1, 2.5, None]),
        (["a", "b"], ["a", "b"]),
        (float("nan"), "nan"),
        (2**70, str(2**70)),
        (Account("shop", "x"), {"name": "shop", "api_key": HIDDEN}),
        (ValueError(), "ValueError"),
        (10**5000, "<an integer of 16610 bits>"),
    ],
    ids=range(12),
)
def test_what_is_no_secret_stays_readable(value: object, plain: object) -> None:
    """A log is read by programs: numbers stay numbers, times are ISO 8601."""
    assert cleaned(value, Room()) == plain


def nested(secret: str) -> st.SearchStrategy[Any]:
    """Values with the secret somewhere in each leaf: in a text that shows it for one, or under a name that does."""
    texts = st.sampled_from(
        [f"GET /x?page_access_token={secret}&since=1", f"redis://:{secret}@cache.test", f'{{"api_key": "{secret}"}}']
    )
    named = st.sampled_from(["password", "accessToken", "x-api-key", "Authorization", "client_secret"])
    leaves = texts | st.builds(lambda name: {name: secret}, named) | texts.map(str.encode)
    return st.recursive(
        leaves,
        lambda parts: (
            st.lists(parts, max_size=4)
            | st.dictionaries(st.sampled_from(["a", "b", "url"]), parts, max_size=3)
            | st.tuples(parts, parts)
        ),
        max_leaves=8,
    )


@given(nested(SECRET))
def test_no_planted_secret_is_found_again(value: object) -> None:
    """Any nesting of lists, dictionaries, pairs and bytes."""
    assert SECRET not in json.dumps(cleaned(value, Room()))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.builds(object)
    | st.builds(Awkward),
    lambda parts: st.lists(parts) | st.dictionaries(st.text() | st.integers() | st.binary(), parts),
)


@given(ANYTHING)
def test_anything_becomes_json(value: object) -> None:
    """No value of a caller costs a line."""
    json.dumps(cleaned(value, Room()), allow_nan=False)


def test_a_line_has_an_end() -> None:
    """However long, wide, deep or endless a value is."""
    endless: list[Any] = []
    endless += [endless] * 60
    wide: Mapping[str, Any] = {f"field{n}": "x" * 500 for n in range(100_000)}
    for value in ("x" * 10_000_000, wide, endless, [["x" * 100] * 1000] * 1000, [[[[[[[[["deep"]]]]]]]]]):
        text = json.dumps(cleaned(value, Room()))
        assert len(text) < 2 * ROOM
        assert LEFT_OUT in text


def test_all_fields_of_a_line_share_its_room() -> None:
    """Many long fields are no longer than one."""
    room = Room()
    assert sum(len(str(cleaned("x" * 7_000, room))) for _ in range(1_000)) < 2 * ROOM


def test_a_long_text_says_how_long_it_was() -> None:
    """So that nobody takes the cut for the end."""
    assert cut("x" * 1_000_000) == "x" * LONGEST_TEXT + "... (1000000 characters)"
    assert cut("x" * (LONGEST_TEXT + 1)) == "x" * LONGEST_TEXT + f"... ({LONGEST_TEXT + 1} characters)"


@given(
    st.integers(0, 3 * len(JWT)), st.sampled_from([JWT, f"redis://worker:{SECRET}@cache.test", f"token='a {SECRET}'"])
)
def test_a_cut_leaves_no_half_of_a_secret(shift: int, secret: str) -> None:
    """A secret that the cut goes through is known by what stands behind it."""
    text = "x" * (LONGEST_TEXT - shift) + " " + secret + " " + "y" * 100_000
    shown = cut(text)
    assert SECRET[:4] not in shown
    assert JWT[21:30] not in shown


@given(st.integers(1, 60))
def test_hidden_secrets_do_not_bring_the_end_of_the_window_into_view(count: int) -> None:
    """Text shrinks where secrets are hidden; what is half in view stays out of it."""
    text = f"token={'s' * 300} " * count + "z" * (LONGEST_TEXT + 4_000 - 307 * count - 30) + " redis://u:" + SECRET * 40
    assert SECRET[:4] not in cut(text + "@host " + "y" * 20_000)


@pytest.mark.parametrize(
    "part",
    ["1", "a.", "eyJ-", "a://x", '="\\', "token='", "('token', '", "authorization: ", "Cookie: ", ":", "bearer "],
    ids=range(11),
)
def test_hostile_text_is_looked_at_once(part: str) -> None:
    """A pattern that looks back and forth over a long text would block the worker: here for minutes."""
    assert redact(part * (200_000 // len(part)))
