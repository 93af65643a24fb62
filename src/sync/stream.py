"""What a stream is, and what becomes of one answer of it."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pydantic import ValidationError

from ..clients.mongo import Document
from ..clients.pancake.client import Listing
from ..store.dead_letters import DeadLetters
from ..store.rows import RowStore

REPEATED = 4  # rows at the end of an answer that are looked for at the start of the next
UNNAMED = "unnamed-"
RAW_KEPT = 16_384  # characters of a row that is set aside


class ReadWindow(Protocol):
    """One call: rows of [since, until] by the stream's order, newest first, `page_number` from 1."""

    async def __call__(self, page_id: str, *, since: int, until: int, page_number: int = 1) -> Listing:
        """The answer. Raises what the Pancake client raises."""
        ...


@dataclass(frozen=True, slots=True)
class Stream:
    """A list of Pancake that a collection follows.

    `map_row` turns a raw row into (second it is ordered by or None, document) or raises ValueError (pydantic's
    included) with what is wrong; `key` gives the identity even of a row that cannot be read, or None; `page_size` is
    the number of rows a full answer has. `after_store` is told the documents of an answer when they are stored and do
    not count as read yet: what has to follow from a change can be noted there, and a crash cannot lose it.
    """

    name: str
    page_size: int
    read: ReadWindow
    map_row: Callable[[str, Any], tuple[int | None, Document]]
    key: Callable[[str, Any], Document | None]
    store: RowStore
    after_store: Callable[[list[Document]], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One answer, stored. `seconds` are those of its readable rows, in the answer's order.

    `last` are its last raw rows, which an answer that goes on from here repeats; `is_new` whether most were new to us.
    """

    seconds: tuple[int, ...]
    written: int
    set_aside: int
    last: tuple[Any, ...] = ()
    is_new: bool = False


def readable(stream: Stream, page_id: str, rows: list[Any]) -> list[Document]:
    """The documents of those rows that can be read."""
    documents = []
    for raw in rows:
        with suppress(ValueError):
            documents.append(stream.map_row(page_id, raw)[1])
    return documents


async def store_answer(
    stream: Stream,
    page_id: str,
    answer: Listing,
    dead_letters: DeadLetters,
    *,
    previous: Batch | None = None,
) -> Batch:
    """Store every row of `answer` that can be; the others are set aside by name, and hurt nothing. Safe to repeat.

    `previous` is the answer this one goes on from: rows it ended with need not be stored again where they are the same.
    """
    seconds: list[int] = []
    rows: list[Document] = []
    sources: list[Any] = []
    bad: list[tuple[Any, str]] = []
    known = previous.last if previous else ()
    expect_new = previous is not None and previous.is_new
    for raw in answer.rows:
        try:
            second, document = stream.map_row(page_id, raw)
        except ValueError as e:
            bad.append((raw, in_words(e)))
            continue
        if second is not None:
            seconds.append(second)
        if raw not in known:
            rows.append(document)
            sources.append(raw)
    stored = await stream.store.upsert(rows, answer.asked_at, expect_new=expect_new)
    if stream.after_store:
        await stream.after_store(rows)
    bad += [(sources[place], reason) for place, reason in stored.refused]
    await _set_aside(stream, page_id, bad, answer.asked_at, dead_letters)
    return Batch(
        seconds=tuple(seconds),
        written=stored.written,
        set_aside=len(bad),
        last=tuple(answer.rows[-REPEATED:]),
        is_new=stored.inserted * 2 > len(answer.rows),
    )


async def _set_aside(
    stream: Stream, page_id: str, bad: list[tuple[Any, str]], asked_at: datetime, dead_letters: DeadLetters
) -> None:
    # a customer whose row cannot be read is there all the same: a sweep must not take them for deleted
    keys = [key for key in (stream.key(page_id, raw) for raw, _ in bad) if key is not None]
    await stream.store.mark_seen(keys, asked_at)
    for raw, reason in bad:
        await dead_letters.add_row(
            stream=stream.name, page_id=page_id, row_id=row_id(raw), error=reason, raw=json.dumps(raw)[:RAW_KEPT]
        )


def in_words(error: ValueError) -> str:
    """What is wrong with a row, field by field, without what it holds."""
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'row'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        )
    return str(error)


def row_id(raw: Any) -> str:
    """A name that is the same each time the row is met: its own id, else a digest of what it says."""
    if isinstance(raw, dict):
        for key in ("id", "psid"):
            if isinstance(raw.get(key), str | int):
                return str(raw[key]).encode("utf-8", "replace").decode()
    return f"{UNNAMED}{hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:16]}"
