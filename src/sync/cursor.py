"""Reads list v2 of conversations by page number, though it has none.

Page 1 is a window of time like any other. The pages behind it follow the cursor (`last_conversation_id`), and are
needed only where one second holds more conversations than an answer: a tag given to hundreds at once. A row that leaves
the window meanwhile shifts none of those behind a cursor, so the pages are kept until page 1 is asked for once more.
What may go wrong:

* The row the cursor names was deleted, and the answer is empty as at the end: rows before it are tried, further and
  further back. The end is believed where a row that is there has nothing behind it but rows we know.
* It was changed and left the window, and the answer begins at the top: only rows not met before count.
* The cursor is ignored, and every answer is the first (measured by one client): it holds the very row it should begin
  behind. Then all conversations of the page are read in the order they began, which never changes, and those of the
  window are picked out. That takes a call for each 60 of them, and is the price of losing none.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..clients.pancake.client import CONVERSATIONS_PER_CALL, Listing, PancakeClient
from ..clients.pancake.models import Conversation
from ..errors import Malformed
from ..rules.times import unix_seconds

KEPT = 16  # windows; more than readers at work, each of which needs one
Row = Any
Window = tuple[str, int, int]


@dataclass(slots=True)
class _Chain:
    """The pages of one window so far, without what was met before; `ids` in the order they came."""

    answers: list[Listing]
    ids: dict[str, None] = field(default_factory=dict)
    fullest: int = 0
    is_over: bool = False

    def add(self, answer: Listing) -> bool:
        """Append what is new in `answer`; returns whether anything is."""
        self.fullest = max(self.fullest, len(answer.rows))
        rows = [row for row in answer.rows if _id(row) not in self.ids]
        new = dict.fromkeys(found for found in map(_id, rows) if found is not None)
        if new:
            self.ids |= new
            self.answers.append(Listing(rows, answer.total, answer.as_of, answer.asked_at))
        return bool(new)


class CursorReader:
    """Use one per pass."""

    def __init__(self, client: PancakeClient) -> None:
        self._client = client
        self._chains: OrderedDict[Window, _Chain] = OrderedDict()

    async def read(self, page_id: str, *, since: int, until: int, page_number: int = 1) -> Listing:
        """One page of [since, until], newest first; an empty one behind the last. Raises what the client raises."""
        window = (page_id, since, until)
        if page_number == 1 or window not in self._chains:
            first = await self._client.conversations(page_id, since=since, until=until)
            self._chains[window] = _begin(first)
        chain = self._chains[window]
        self._chains.move_to_end(window)
        while len(self._chains) > KEPT:
            self._chains.popitem(last=False)
        while len(chain.answers) < page_number and not chain.is_over:
            await self._extend(chain, window)
        if page_number <= len(chain.answers):
            return chain.answers[page_number - 1]
        last = chain.answers[-1]
        return Listing([], last.total, last.as_of, last.asked_at)

    async def _extend(self, chain: _Chain, window: Window) -> None:
        """Add the next page, or find that there is none."""
        page_id, since, until = window
        for cursor in _cursors(list(chain.ids)):
            found = await self._client.conversations(page_id, since=since, until=until, after_id=cursor)
            if any(_id(row) == cursor for row in found.rows):  # ignored, and a short answer is then all there is
                chain.is_over = True
                if chain.fullest >= CONVERSATIONS_PER_CALL:
                    chain.add(await self._by_beginning(page_id, since, until))
                return
            if chain.add(found):
                return
            if 0 < len(found.rows) < chain.fullest:
                break
        chain.is_over = True

    async def _by_beginning(self, page_id: str, since: int, until: int) -> Listing:
        """Every conversation there is, in the order they began; returns those that changed within the window."""
        high, picked, first = int(time.time()) + 86_400, list[Row](), None
        while True:
            answer = await self._client.conversations(page_id, since=0, until=high, order_by="inserted_at")
            first = first or answer
            picked += [row for row in answer.rows if _may_be_of(row, since, until)]
            if len(answer.rows) < CONVERSATIONS_PER_CALL:
                break
            began = [second for second in (_second(row, "inserted_at") for row in answer.rows) if second is not None]
            # whether the bound itself belongs to the window is not documented, so the next one holds all of a second
            before, high = high, min(began, default=high) + 1
            if high >= before:  # an answer full of one second: there may be more of it
                raise Malformed(
                    f"conversations of page {page_id}: more than {CONVERSATIONS_PER_CALL} share one second, and "
                    "Pancake ignores the cursor (last_conversation_id); nothing can be counted as read"
                )
        unique = {_id(row) or str(place): row for place, row in enumerate(picked)}
        return Listing(list(unique.values()), None, first.as_of, first.asked_at)


def _begin(first: Listing) -> _Chain:
    ids = dict.fromkeys(found for found in map(_id, first.rows) if found is not None)
    return _Chain([first], ids, len(first.rows), is_over=not ids)


def _cursors(ids: list[str]) -> Iterator[str]:
    """The last row, the one before it, and others further and further back."""
    back = 1
    while back <= len(ids):
        yield ids[-back]
        back *= 2


def _id(row: Row) -> str | None:
    found = row.get("id") if isinstance(row, dict) else None
    return str(found) if isinstance(found, str | int) else None


def _may_be_of(row: Row, since: int, until: int) -> bool:
    """Also a row that does not say when it changed: it is to be set aside by name, not passed over."""
    second = _second(row, "updated_at")
    return second is None or since <= second <= until


def _second(row: Row, name: str) -> int | None:
    try:
        moment = getattr(Conversation.model_validate(row), name)
    except ValueError:
        return None
    return unix_seconds(moment) if moment is not None else None
