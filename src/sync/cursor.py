"""Reads list v2 of conversations by page number, though it has none.

Page 1 is a window of time like any other. Page n follows the cursor (`last_conversation_id`) n - 1 times, and is needed
only where one second holds more conversations than an answer: a tag given to hundreds at once. What may go wrong:

* The row the cursor names was deleted, and the answer is empty as at the end: the row before it is tried.
* It was changed, moved to the top, and the answer begins there: only rows not met before count.
* The cursor is ignored, and every answer is the first (measured by one client): then all conversations are read in the
  order they began, which never changes, and those of the window are picked out.
"""

import time
from typing import Any

from ..clients.pancake.client import CONVERSATIONS_PER_CALL, Listing, PancakeClient
from ..clients.pancake.models import Conversation
from ..errors import Malformed
from ..rules.times import unix_seconds

BEFORE_LAST = 3  # rows that are tried as a cursor
Row = Any


class CursorReader:
    """Use one per pass: it remembers what it had to read the long way."""

    def __init__(self, client: PancakeClient) -> None:
        self._client = client
        self._picked: dict[tuple[int, int], Listing] = {}

    async def read(self, page_id: str, *, since: int, until: int, page_number: int = 1) -> Listing:
        """One page of [since, until], newest first; an empty one behind the last. Raises what the client raises."""
        answer = await self._client.conversations(page_id, since=since, until=until)
        seen = _ids(answer.rows)
        for number in range(2, page_number + 1):
            before, answer = answer, await self._after(page_id, answer, seen, since=since, until=until)
            is_first_again = number == 2 and answer.rows and _ids(answer.rows) <= seen
            if is_first_again and len(before.rows) >= CONVERSATIONS_PER_CALL:
                return await self._picked_out(page_id, since, until, but=seen, page_number=page_number)
            answer = _without(answer, seen)
            seen |= _ids(answer.rows)
            if not answer.rows:
                break
        return answer

    async def _after(self, page_id: str, answer: Listing, seen: set[str], *, since: int, until: int) -> Listing:
        """The answer that follows; the last row may be gone, or have moved, so those before it are tried too."""
        found = answer
        for row in reversed(answer.rows[-BEFORE_LAST:]):
            for cursor in _ids([row]):
                found = await self._client.conversations(page_id, since=since, until=until, after_id=cursor)
                if found.rows and not _ids(found.rows) <= seen:
                    return found
        return found

    async def _picked_out(self, page_id: str, since: int, until: int, *, but: set[str], page_number: int) -> Listing:
        """All of the window that page 1 did not hold, as page 2."""
        window = (since, until)
        if window not in self._picked:
            self._picked[window] = await self._by_beginning(page_id, since, until)
        found = _without(self._picked[window], but)
        return found if page_number == 2 else Listing([], None, found.as_of, found.asked_at)

    async def _by_beginning(self, page_id: str, since: int, until: int) -> Listing:
        """Every conversation there is, in the order they began; returns those that changed within the window."""
        high, picked, first = int(time.time()) + 86_400, dict[str, Row](), None
        while True:
            answer = await self._client.conversations(page_id, since=0, until=high, order_by="inserted_at")
            first = first or answer
            for row in answer.rows:
                if since <= (_second(row, "updated_at") or -1) <= until:
                    picked.update(dict.fromkeys(_ids([row]), row))
            began = [second for second in (_second(row, "inserted_at") for row in answer.rows) if second is not None]
            if len(answer.rows) < CONVERSATIONS_PER_CALL:
                break
            if not began or min(began) >= high:
                raise Malformed(
                    f"conversations of page {page_id}: more than {CONVERSATIONS_PER_CALL} share one second, and "
                    "Pancake ignores the cursor (last_conversation_id); nothing can be counted as read"
                )
            high = min(began)
        return Listing(list(picked.values()), None, first.as_of, first.asked_at)


def _without(answer: Listing, seen: set[str]) -> Listing:
    rows = [row for row in answer.rows if not _ids([row]) <= seen or not _ids([row])]
    return Listing(rows if any(_ids([row]) for row in rows) else [], answer.total, answer.as_of, answer.asked_at)


def _ids(rows: list[Row]) -> set[str]:
    return {str(row["id"]) for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str | int)}


def _second(row: Row, field: str) -> int | None:
    try:
        moment = getattr(Conversation.model_validate(row), field)
        return unix_seconds(moment) if moment is not None else None
    except ValueError:
        return None
