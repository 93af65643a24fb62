"""Rows leave the list between any two calls: whatever the server caps or counts, what counts as read was read."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from src.clients.mongo import Document
from src.clients.pancake.client import Listing
from src.errors import Transient
from src.rules.coverage import Coverage, Sweep, due_for_sweep
from src.rules.intervals import Interval
from src.store.rows import Stored
from src.sync.filler import Filler
from src.sync.passes import PagePass
from src.sync.stream import Stream

NOW = 100_000
Row = tuple[int, int]  # second, number
#: A second fuller than any page, then older rows, one a second.
ROWS: list[Row] = [(5000, number) for number in range(120)] + [(4000 - number, 1000 + number) for number in range(130)]


class Server:
    """A list, newest first; before call `leave_at`, 30 rows of the full second change and so leave the window."""

    def __init__(self, cap: int, *, counts: bool, leave_at: int) -> None:
        self._cap, self._counts, self._leave_at = cap, counts, leave_at
        self.rows = list(ROWS)
        self.stored: set[Row] = set()
        self.calls = 0

    async def read(self, page_id: str, *, since: int, until: int, page_number: int = 1) -> Listing:
        self.calls += 1
        if self.calls == self._leave_at:
            del self.rows[:30]
        found = [row for row in self.rows if since <= row[0] <= until]
        page: list[Any] = found[(page_number - 1) * self._cap : page_number * self._cap]
        return Listing(page, len(found) if self._counts else None, as_of=NOW, asked_at=datetime.now(UTC))

    async def upsert(self, rows: Sequence[Document], asked_at: datetime, *, expect_new: bool = False) -> Stored:
        self.stored |= {row["row"] for row in rows}
        return Stored(written=len(rows))

    async def mark_seen(self, keys: Sequence[Document], asked_at: datetime) -> None:
        assert not keys

    def stream(self) -> Stream:
        return Stream(
            name="rows",
            page_size=100,
            read=self.read,
            map_row=lambda page_id, raw: (raw[0], {"row": raw}),
            key=lambda page_id, raw: None,
            store=cast("Any", self),
        )


@pytest.mark.anyio
@pytest.mark.parametrize("slices", [1, 3])
@pytest.mark.parametrize(
    ("cap", "counts"), [(100, True), (50, True), (100, False)], ids=["plain", "capped", "no total"]
)
async def test_no_second_counts_as_read_that_was_not(cap: int, counts: bool, slices: int) -> None:
    """Tried with the rows leaving before each call there is; a pass may fail, but what it claims must hold."""
    for leave_at in range(1, 40):
        server = Server(cap, counts=counts, leave_at=leave_at)
        read: list[Interval] = []

        async def on_read(span: Interval, as_of: int, read: list[Interval] = read) -> None:
            read.append(span)

        filler = Filler(server.stream(), "1", cast("Any", None), slices=slices, on_read=on_read, stop=lambda: False)
        try:
            await filler.fill([(0, 6000)])
        except Transient:
            continue
        missing = {row for row in server.rows if any(low <= row[0] <= high for low, high in read)} - server.stored
        assert not missing, f"rows left before call {leave_at}: {len(missing)} others were lost"
        assert sum(high - low + 1 for low, high in read) == 6001


class States:
    """The one state, in memory."""

    def __init__(self, state: Coverage) -> None:
        self.state = state

    async def load(self, stream: str, page_id: str) -> Coverage:
        return self.state

    async def change(self, stream: str, page_id: str, change: Any) -> Coverage:
        self.state = change(self.state)
        return self.state


@pytest.mark.anyio
async def test_a_sweep_killed_at_its_very_end_is_finished_by_the_next_backfill() -> None:
    """All was read, but the process died before it was marked: else no sweep would ever be due again."""
    now = int(time.time())
    sweep = Sweep(started_at=now - 5000.0, until=now - 6000, settled=((0, now - 6000),))
    states = States(
        Coverage(settled=((0, now - 305),), initial_from=now - 86_400, swept_at=now - 30 * 86_400.0, sweep=sweep)
    )
    evaluated: list[str] = []

    async def nothing(*_: object, **__: object) -> Listing:
        return Listing([], 0, as_of=now, asked_at=datetime.now(UTC))

    async def forget_missing(page_id: str, *_: object) -> tuple[int, int]:
        evaluated.append(page_id)
        return 0, 0

    async def stored(*_: object, **__: object) -> Stored:
        return Stored()

    async def none(*_: object) -> None:
        return None

    store = SimpleNamespace(upsert=stored, mark_seen=none, forget_missing=forget_missing, oldest=none)
    stream = SimpleNamespace(
        name="rows", page_size=100, read=nothing, map_row=None, key=None, store=store, after_store=None
    )
    settings = SimpleNamespace(slices=1, settle_seconds=5, overlap_seconds=300, sweep_days=7, initial_days=30)
    clock = [now]
    for mode in ("backfill", "incremental"):
        await PagePass(
            cast("Any", stream),
            "1",
            cast("Any", states),
            cast("Any", None),
            cast("Any", settings),
            server_now=lambda: clock[0],
            stop=lambda: False,
        ).run(mode)
        now = clock[0] = now + 1000  # by then all that changed during the sweep has settled
    assert evaluated == ["1"]
    assert states.state.sweep is None
    assert due_for_sweep(states.state, now + 8 * 86_400, 7 * 86_400)
