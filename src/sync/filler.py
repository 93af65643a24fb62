"""Reads every row of some time ranges of a list that is sorted newest first and changes meanwhile.

The method is the until-keyset: ask for the first page of [low, high], store it, then ask for [low, oldest second seen],
and so on until an answer is not full. Each call is anchored in time, not in a page number, so rows that move to the
top, appear or vanish shift nothing past us. What remains are the edges:

* Whether the bounds are inclusive, and how fractions of a second compare, is not documented: each call asks for one
  second more on both sides, and counts only the seconds in between as read.
* A second fuller than a page makes no progress: it is walked by page number from its last page to its first. Rows can
  only leave such a window, which moves the others towards the pages still to be read.
* `total` is checked against what came before a short answer is believed: a server that caps the page size looks like
  the end. One that counts more than the window is noticed by an empty second page, and no longer asked.
* Rows out of order mean that the list is not sorted as we rely on; then nothing is counted as read.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from ..clients.pancake.client import Listing
from ..errors import Malformed, Transient
from ..rules.intervals import Interval
from ..store.dead_letters import DeadLetters
from .stream import Batch, Stream, store_answer

SPLIT_PAGES = 4  # a gap with fewer full answers left than this is not worth dividing
WALKS = 5  # a second that keeps growing while it is walked is left for a later pass


@dataclass(slots=True)
class Filled:
    """What a fill did. `remaining`: per reader at work, the rows known to be left in its gap."""

    calls: int = 0
    rows: int = 0
    written: int = 0
    set_aside: int = 0
    is_complete: bool = True
    remaining: dict[int, int] = field(default_factory=dict)


#: Told after rows are stored: the seconds that are now wholly read, and as of which second of Pancake's clock.
OnRead = Callable[[Interval, int], Awaitable[None]]


class Filler:
    """Fills gaps of one stream of one page. Use one per pass."""

    def __init__(
        self,
        stream: Stream,
        page_id: str,
        dead_letters: DeadLetters,
        *,
        slices: int,
        on_read: OnRead,
        stop: Callable[[], bool],
    ) -> None:
        self._stream = stream
        self._page_id = page_id
        self._dead_letters = dead_letters
        self._slices = slices
        self._on_read = on_read
        self._stop = stop
        self._total_counts_window = True
        self._fullest = 0  # rows of the fullest answer so far: less than asked for may be a cap
        self._waiting: list[Interval] = []  # gaps nobody reads yet, oldest first
        self._active = 0
        self.filled = Filled()

    async def fill(self, gaps: Iterable[Interval]) -> Filled:
        """Read all `gaps`, newest first, `slices` at a time, until done or told to stop.

        What was read before an error counts as read. Raises the first error of the client or the store.
        """
        self._waiting = sorted(gaps)
        try:
            async with asyncio.TaskGroup() as group:
                self._start_readers(group)
        except BaseExceptionGroup as e:
            raise e.exceptions[0] from None
        self.filled.is_complete = self.filled.is_complete and not self._waiting
        return self.filled

    def _start_readers(self, group: asyncio.TaskGroup) -> None:
        while self._waiting and self._active < self._slices:
            self._active += 1
            group.create_task(self._read_gaps(group, self._waiting.pop()))

    async def _read_gaps(self, group: asyncio.TaskGroup, gap: Interval | None) -> None:
        while gap is not None:
            await self._read_gap(group, gap)
            gap = None if self._stop() or not self._waiting else self._waiting.pop()
        self._active -= 1

    async def _read_gap(self, group: asyncio.TaskGroup, gap: Interval) -> None:
        low, high = gap
        previous_total: int | None = None
        batch: Batch | None = None
        while low <= high:
            if self._stop():
                self.filled.is_complete = False
                return
            answer = await self._ask(low, high)
            batch = await self._store(answer, batch)
            seconds = self._in_window(batch, high)
            if await self._is_all(answer, low, high):
                await self._on_read((low, high), answer.as_of)
                break
            oldest = seconds[-1] if seconds else None
            if oldest is None and low < high:  # a page without one readable time: look at smaller windows
                middle = (low + high) // 2
                self._waiting.append((low, middle))
                low = middle + 1
            elif oldest is None or oldest >= high:
                if not await self._walk(high):
                    return
                high -= 1
            elif oldest < low:
                await self._on_read((low, high), answer.as_of)
                break
            else:
                await self._on_read((oldest + 1, high), answer.as_of)
                low = self._share(group, low, high, oldest, answer.total, previous_total)
                high, previous_total = oldest, answer.total
                self.filled.remaining[id(asyncio.current_task())] = max((answer.total or 0) - len(answer.rows), 0)
        self.filled.remaining.pop(id(asyncio.current_task()), None)

    async def _ask(self, low: int, high: int, page_number: int = 1) -> Listing:
        self.filled.calls += 1
        return await self._stream.read(self._page_id, since=max(low - 1, 0), until=high + 1, page_number=page_number)

    async def _store(self, answer: Listing, previous: Batch | None = None) -> Batch:
        batch = await store_answer(self._stream, self._page_id, answer, self._dead_letters, previous=previous)
        self.filled.rows += len(answer.rows)
        self.filled.written += batch.written
        self.filled.set_aside += batch.set_aside
        return batch

    async def _is_all(self, answer: Listing, low: int, high: int) -> bool:
        """Whether `answer` holds every row of the window it was asked for."""
        self._fullest = max(self._fullest, len(answer.rows))
        if len(answer.rows) >= self._stream.page_size:
            return False
        if answer.total is None:
            if not answer.rows or self._fullest >= self._stream.page_size:
                return True
        elif answer.total <= len(answer.rows) or not self._total_counts_window:
            return True
        second = await self._ask(low, high, page_number=2)
        await self._store(second)
        if second.rows:
            return False  # the page size is capped
        if second.total is not None:
            if second.total <= len(answer.rows):
                return False  # rows left meanwhile, and those of page 2 stand on page 1 now
            self._total_counts_window = False
        return True

    def _in_window(self, batch: Batch, high: int) -> list[int]:
        """The batch's seconds in the list's order, without rows that changed while the answer was made.

        Raises Malformed when the answer is no newest-first list of the time asked for: then nothing may count as read.
        """
        where = f"{self._stream.name} of page {self._page_id}"
        seconds = [second for second in batch.seconds if second <= high + 1]
        if len(seconds) * 2 < len(batch.seconds):
            raise Malformed(f"{where}: most rows are newer than the time asked for; are its times no longer in UTC?")
        if any(later > earlier for earlier, later in pairwise(seconds)):
            raise Malformed(f"{where} do not come newest first; nothing can be counted as read")
        return seconds

    async def _walk(self, second: int) -> bool:
        """Read one second by page number, last page first; returns False when told to stop on the way."""
        first = await self._ask(second, second)
        total = first.total
        for _ in range(WALKS):
            for page_number in range(await self._end(second, total, len(first.rows)), 0, -1):
                if self._stop():
                    self.filled.is_complete = False
                    return False
                answer = await self._ask(second, second, page_number)
                await self._store(answer)
            if answer.total is None or total is None or answer.total <= total:
                await self._on_read((second, second), first.as_of)
                return True
            total = answer.total
        raise Transient(f"{self._stream.name} of page {self._page_id}: second {second} grows while it is read")

    async def _end(self, second: int, total: int | None, page_size: int) -> int:
        """A page number behind the last row of a second: by `total` where that is borne out, else by looking."""
        if total is not None and self._total_counts_window:
            last = -(-total // max(page_size, 1))
            answer = await self._ask(second, second, last) if last > 1 else None
            if answer is None or answer.rows:
                return last + 1
            if answer.total is not None and answer.total > (last - 1) * page_size:  # else rows left meanwhile
                self._total_counts_window = False
        page_number = 2
        while (await self._ask(second, second, page_number)).rows:
            page_number += 1
        return page_number

    def _share(
        self, group: asyncio.TaskGroup, low: int, high: int, oldest: int, total: int | None, previous: int | None
    ) -> int:
        """Give the older half of what is left of a long gap to another reader; returns the new lower end.

        `total` is believed only where it fell since the previous answer: else it counts something else.
        """
        if total is None or previous is None or total >= previous or self._active >= self._slices or self._waiting:
            return low
        left = total - self._stream.page_size
        if left < SPLIT_PAGES * self._stream.page_size:
            return low
        seconds_per_row = max(high - oldest, 1) / self._stream.page_size
        middle = oldest - int(seconds_per_row * left / 2)
        if not low < middle < oldest:
            middle = (low + oldest) // 2
        if not low < middle < oldest:
            return low
        self._waiting.append((low, middle - 1))
        self._start_readers(group)
        return middle
