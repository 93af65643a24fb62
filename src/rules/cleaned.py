"""Values as a log line may hold them: plain, without secrets, and not without end."""

from collections.abc import Collection, Mapping, Set, ValuesView
from dataclasses import fields, is_dataclass
from datetime import date, time
from functools import lru_cache
from math import isfinite
from typing import Any

from .redact import HIDDEN, is_secret_name, redact

Plain = str | int | float | bool | list[Any] | dict[str, Any] | None

LONGEST_TEXT = 8_000  # characters
MARGIN = 4_000  # looked at beyond that: a secret that begins before the cut is known by its whole
MOST_ENTRIES = 50  # of one list or dictionary
ENTRY = 4  # characters an entry takes at least
DEEPEST = 6
USUAL_NAME = 40  # characters of a field's name that need not be looked at
ROOM = 32_000  # characters of one line's values together
LEFT_OUT = "..."


class Room:
    """How many characters a line may still take. One for each line."""

    __slots__ = ("left",)

    def __init__(self, left: int = ROOM) -> None:
        self.left = left


def cleaned(value: object, room: Room, *, name: str = "", depth: int = 0) -> Plain:
    """`value` made of what JSON knows, secrets hidden by their look and by the name they stand under.

    What is too long, too deep or too much is cut, and says so. Never raises, whatever it is given.
    """
    if value is None or isinstance(value, bool):
        return value
    if name and _is_secret(name):
        return HIDDEN
    if type(value) is str:
        return _text(value, room)
    if type(value) is int:
        room.left -= 20
        return value if -(2**63) <= value < 2**63 else _text(_said(value), room)
    if type(value) is float:
        room.left -= 20
        return value if isfinite(value) else str(value)
    try:
        return _made_plain(value, room, depth)
    except Exception as e:  # noqa: BLE001 - what a caller's own class does when it is asked must not cost the line
        return f"<{type(value).__name__}: {type(e).__name__}>"


def _made_plain(value: object, room: Room, depth: int) -> Plain:
    if isinstance(value, str | int | float):  # an enumeration, or another class of their kind
        return _text(_said(value), room)
    if isinstance(value, bytes | bytearray | memoryview):
        return _text(bytes(value[: LONGEST_TEXT + MARGIN]).decode(errors="replace"), room)
    if isinstance(value, date | time):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name, None) for field in fields(value)}
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):  # a named one
        value = value._asdict()
    if isinstance(value, Mapping):
        return _mapping(value, room, depth)
    if isinstance(value, list | tuple | Set | ValuesView):  # dict.keys() and dict.items() are sets
        return _list(value, room, depth)
    return _text(_said(value) or type(value).__name__, room)


def cleaned_fields(fields_: Mapping[str, Any], room: Room) -> dict[str, Any]:
    """The same for the fields of a line, whose names may be anybody's too."""
    found: dict[str, Any] = {}
    for name, value in fields_.items():
        if room.left <= 0:
            found[LEFT_OUT] = len(fields_) - len(found)
            break
        room.left -= ENTRY + min(len(name), USUAL_NAME)
        is_usual = len(name) <= USUAL_NAME and name.isidentifier()
        found[name if is_usual else _text(name, room)] = cleaned(value, room, name=name)
    return found


def _mapping(value: Mapping[Any, Any], room: Room, depth: int) -> Plain:
    if depth >= DEEPEST or room.left <= 0:
        return LEFT_OUT
    found: dict[str, Any] = {}
    named = value.get("name")  # {"name": "Authorization", "value": ...}, as browsers record headers
    for key, part in value.items():
        if len(found) >= MOST_ENTRIES or room.left <= 0:
            found[LEFT_OUT] = len(value) - len(found)
            break
        room.left -= ENTRY
        word = _word(key)
        name = named if word == "value" and isinstance(named, str) else word
        found[_text(word, room)] = cleaned(part, room, name=name, depth=depth + 1)
    return found


def _list(value: Collection[Any], room: Room, depth: int) -> Plain:
    if depth >= DEEPEST or room.left <= 0:
        return LEFT_OUT
    found: list[Plain] = []
    name = ""
    for part in value:
        if len(found) >= MOST_ENTRIES or room.left <= 0:
            found.append(LEFT_OUT)
            break
        room.left -= ENTRY
        found.append(cleaned(part, room, name=name, depth=depth + 1))
        # a name and what stands under it, as lists of headers have them
        name = _word(part) if len(value) == 2 and isinstance(part, str | bytes) else ""
    return found


def _word(key: object) -> str:
    return key if type(key) is str else key.decode(errors="replace") if isinstance(key, bytes) else _said(key)


def _text(text: str, room: Room) -> str:
    length = len(text)
    most = LONGEST_TEXT if room.left > LONGEST_TEXT else max(0, room.left)
    room.left -= min(length, most)
    return redact(text) if length <= most else cut(text, most)


def cut(text: str, most: int = LONGEST_TEXT) -> str:
    """`text` without secrets; of a longer one its first `most` characters, and how long it is."""
    if len(text) <= most:
        return redact(text)
    shown = redact(text[: most + MARGIN])
    # what stands at the end may be half a secret, which is not known by its look: that much is never shown
    end = most if len(text) <= most + MARGIN else min(most, max(0, len(shown) - MARGIN))
    return f"{shown[:end]}{LEFT_OUT} ({len(text)} characters)"


def _said(value: object) -> str:
    """As it says itself; numbers beyond what Python writes out at once by their size."""
    try:
        return str(value)
    except ValueError:
        if isinstance(value, int):
            return f"<an integer of {value.bit_length()} bits>"
        raise


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return is_secret_name(name[:200])
