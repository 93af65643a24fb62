"""Rows a strict reader cannot take: how a fault changes the JSON of a row.

All of them are valid JSON by the grammar, as the wire is.
"""

import random
from collections.abc import Callable
from typing import Any, Final

import orjson

Fault = Callable[[dict[str, Any]], bytes]


def replaced(**change: Any) -> Fault:
    """Put other values in."""
    return lambda row: orjson.dumps(row | change)


def without(name: str) -> Fault:
    """Leave a field out."""
    return lambda row: orjson.dumps({key: value for key, value in row.items() if key != name})


def with_raw(name: str, text: bytes) -> Fault:
    """Put in text that no JSON writer of ours would write."""
    mark = "raw-text-goes-here"
    return lambda row: orjson.dumps(row | {name: mark}).replace(orjson.dumps(mark), text)


def as_text(row: dict[str, Any]) -> bytes:
    """A text in the place of the row."""
    return orjson.dumps(f"row {row['id']}")


def as_null(_: dict[str, Any]) -> bytes:
    """Nothing in the place of the row."""
    return b"null"


#: Of conversations. The last three a patient reader may store all the same.
OF_THREADS: Final[dict[str, Fault]] = {
    "missing_id": without("id"),
    "bad_updated_at": replaced(updated_at="not-a-date"),
    "string_row": as_text,
    "null_row": as_null,
    "type_list": replaced(type=["INBOX"]),
    "lone_surrogate": with_raw("snippet", b'"half \\ud800 pair"'),
    "big_integer": with_raw("global_id", b"36893488147419103232"),
    "null_stamps": replaced(updated_at=None, inserted_at=None),
    "tags_dict": replaced(tags={"0": "VIP"}),
    "null_people": replaced(customers=None, page_customer=None, last_sent_by=None),
    "null_updated_at": replaced(updated_at=None),
}
OF_POSTS: Final[dict[str, Fault]] = {
    "null_id": replaced(id=None),
    "bad_inserted_at": replaced(inserted_at="not-a-date"),
    "string_row": as_text,
    "null_row": as_null,
    "lone_surrogate": with_raw("message", b'"half \\ud800 pair"'),
    "big_integer": with_raw("global_id", b"36893488147419103232"),
    "null_stamps": replaced(inserted_at=None),
    "null_from": replaced(**{"from": None}),
}
OF_MESSAGES: Final[dict[str, Fault]] = {
    "missing_id": without("id"),
    "bad_inserted_at": replaced(inserted_at="not-a-date"),
    "string_row": as_text,
    "null_row": as_null,
    "lone_surrogate": with_raw("message", b'"half \\ud800 pair"'),
    "big_integer": with_raw("global_id", b"36893488147419103232"),
    "null_inserted_at": replaced(inserted_at=None),
}


def drawn(kinds: dict[str, Fault], rng: random.Random, percent: float) -> str:
    """The name of a fault for that share of rows, else empty. Nothing is drawn where there are none."""
    return rng.choice(list(kinds)) if percent > 0 and rng.random() * 100 < percent else ""
