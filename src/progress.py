"""How far a sync is: bars on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from .sync.filler import Filled

LINE_EVERY_S = 5.0


class Progress:
    """One bar a page: rows, rows per second, time left. Use it as a context manager; `update` is cheap."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}/s"),
            TimeRemainingColumn(),
            console=Console(file=stream),
        )
        self._tasks: dict[str, TaskID] = {}
        self._seen: dict[str, Filled] = {}
        self._started = time.monotonic()
        self._line_at = self._started
        self._is_live = stream.isatty()

    def __enter__(self) -> Self:
        if self._is_live:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_live:
            self._bars.stop()
        rows = sum(filled.rows for filled in self._seen.values())
        elapsed_s = max(time.monotonic() - self._started, 0.001)
        self._say(f"{len(self._tasks)} pages, {rows} rows in {elapsed_s:.1f} s, {rows / elapsed_s:.0f} rows/s")

    def start(self, page_id: str) -> None:
        """A page's pass begins."""
        self._tasks[page_id] = self._bars.add_task(f"page {page_id}", total=None, rate="-")

    def update(self, page_id: str, filled: Filled) -> None:
        """Called after each stored answer; the total is what is read plus what the answers say is left."""
        self._seen[page_id] = filled
        now = time.monotonic()
        rate = filled.rows / max(now - self._started, 0.001)
        left = sum(filled.remaining.values())
        if self._is_live:
            self._bars.update(
                self._tasks[page_id], completed=filled.rows, total=filled.rows + left or None, rate=f"{rate:.0f}"
            )
        elif now - self._line_at >= LINE_EVERY_S:
            self._line_at = now
            eta = f", {left / rate:.0f} s left" if rate and left else ""
            self._say(f"page {page_id}: {filled.rows} rows, {left} known to be left, {rate:.0f} rows/s{eta}")

    def end(self, page_id: str, error: str) -> None:
        """A page's pass is over."""
        filled = self._seen.get(page_id, Filled())
        if self._is_live:
            self._bars.update(self._tasks[page_id], completed=filled.rows, total=max(filled.rows, 1))
        aside = f", {filled.set_aside} set aside (see dead_letters)" if filled.set_aside else ""
        self._say(f"page {page_id}: failed: {error}" if error else f"page {page_id}: {filled.rows} rows{aside}")

    def _say(self, line: str) -> None:
        if self._is_live:
            self._bars.console.print(line, markup=False, highlight=False)
        else:
            self._stream.write(line + "\n")
            self._stream.flush()
