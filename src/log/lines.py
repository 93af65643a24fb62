"""What a log record says, as a line of JSON and as a line for a person. Nothing leaves here that was not cleaned.

The record itself is made clean, so that whoever else is handed it - another sink, loguru's own report of a sink that
fails - has no secret either.
"""

import json
import re
import traceback
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

import orjson

from ..rules.cleaned import LEFT_OUT, Room, cleaned_fields, cut

if TYPE_CHECKING:
    from loguru import Record

OWN = ("timestamp", "level", "message", "stack")  # a caller's field of such a name does not take their place
LONGEST_STACK = 16_000  # characters
STACK_HEAD = 4_000  # of these, for where it began; the end says what happened
WORKFLOW = "workflow"
_JSON, _SHOWN = "_json", "_shown"
#: What would break the line, or speak to the terminal: an error may hold what others sent.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROLS_OF_STACK = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_PLAIN_VALUE = re.compile(r"[^\s\"'=\\]+")


class Cleaner:
    """Makes a record clean, and of it what the sinks write. `fields` stand in every JSON line; text is in `zone`."""

    def __init__(self, fields: dict[str, str], *, as_json: bool, as_text: bool, zone: tzinfo | None = None) -> None:
        self._fields = dict(fields)
        self._zone = zone
        self._as_json, self._as_text = as_json, as_text

    def __call__(self, record: "Record") -> None:
        """Clean it in place. Never raises: a line that tells of trouble must not make more of it."""
        try:
            self._clean(record)
        except Exception as e:  # noqa: BLE001 - see above
            record["message"] = f"a log line could not be made ({type(e).__name__})"
            record["extra"] = {_JSON: _dump(_line(record, {})), _SHOWN: ""}
        record["exception"] = None

    def _clean(self, record: "Record") -> None:
        room = Room()
        record["message"] = cut(record["message"])
        extra = cleaned_fields(
            {key + "_" if key in OWN else key: value for key, value in record["extra"].items() if key[:1] != "_"}, room
        )
        problem = record["exception"]
        stack = stack_of(problem.value) if problem and problem.value is not None else ""
        made = {}
        if self._as_json:
            line = _line(record, {**self._fields, **extra})
            if stack:
                line["stack"] = stack
            made[_JSON] = _dump(line)
        if self._as_text:
            made[_SHOWN] = _shown(record["message"], extra, stack)
            record["time"] = record["time"].astimezone(self._zone)
        record["extra"] = {**extra, **made}


def json_line(record: "Record") -> str:
    """The line of a record a Cleaner has seen, with its end."""
    return str(record["extra"][_JSON])


def workflow_of(record: "Record") -> str:
    """The workflow the line belongs to, or ""."""
    found = record["extra"].get(WORKFLOW)
    return found if isinstance(found, str) else ""


def own_line(level: str, message: str, **fields: object) -> str:
    """A line of the log about itself, as JSON."""
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    return _dump({"timestamp": now, "level": level, "message": message, **fields})


def stack_of(error: BaseException) -> str:
    """The traceback, causes and all, without secrets; of a long one the beginning and the end."""
    parts = [cut(part) for part in traceback.format_exception(error)]
    if sum(map(len, parts)) <= LONGEST_STACK:
        return "".join(parts)
    head, tail = list[str](), list[str]()
    room = STACK_HEAD
    while parts and room >= len(parts[0]):
        room -= len(parts[0])
        head.append(parts.pop(0))
    room += LONGEST_STACK - STACK_HEAD
    while parts and room >= len(parts[-1]):
        room -= len(parts[-1])
        tail.append(parts.pop())
    return "".join([*head, f"  {LEFT_OUT} ({len(parts)} more)\n", *reversed(tail)])


def _line(record: "Record", fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "timestamp": record["time"].isoformat(timespec="milliseconds"),
        "level": record["level"].name.lower(),
        "message": record["message"],
        **fields,
    }


def _dump(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE).decode()
    except TypeError:  # half a character
        return json.dumps(line) + "\n"


def _shown(message: str, fields: dict[str, Any], stack: str) -> str:
    said = " ".join([_escaped(message), *(f"{_escaped(key)}={_value(value)}" for key, value in fields.items())])
    if not stack:
        return said
    # set in: at the left edge begin lines of the log alone, whatever an error's text looks like
    return "\n  ".join([said, *_CONTROLS_OF_STACK.sub(_escape, stack).rstrip().split("\n")])


def _value(value: object) -> str:
    """Quoted where a reader could not tell where it ends."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if isinstance(value, dict | list):
        return _escaped(_dump({"": value})[4:-2])
    if text.isprintable() and _PLAIN_VALUE.fullmatch(text):
        return text
    return _escaped(json.dumps(text, ensure_ascii=False))


def _escaped(text: str) -> str:
    return _CONTROLS.sub(_escape, text) if not text.isprintable() else text


def _escape(sign: re.Match[str]) -> str:
    return sign[0].encode("unicode_escape").decode()
