"""The state of a sync in a real MongoDB: writers at once lose nothing, and one that dies leaves it whole."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest

from src.clients.mongo import Database, open_database
from src.rules.coverage import Coverage, Sweep, has_read
from src.rules.intervals import seconds_in, subtract, union
from src.settings import Settings
from src.store.sync_state import SyncStates

pytestmark = pytest.mark.anyio

KEY = ("customers", "100")


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    async with open_database(settings.mongo) as opened:
        yield opened


async def read(states: SyncStates, low: int, high: int) -> Coverage:
    def change(state: Coverage) -> Coverage:
        return has_read(state, "incremental", (low, high), 10_000, settle_s=5, overlap_s=300)

    return await states.change(*KEY, change)


async def test_a_page_nobody_read_has_an_empty_state(database: Database) -> None:
    """Loading creates nothing."""
    assert await SyncStates(database).load(*KEY) == Coverage()
    assert await database["sync_state"].count_documents({}) == 0


@pytest.mark.parametrize(
    "state",
    [
        Coverage(),
        Coverage(settled=((0, 9), (20, 29)), recent=((40, 41),), initial_from=15, swept_at=12.5),
        Coverage(settled=((0, 9),), sweep=Sweep(12.25, 90, ((3, 4), (8, 9)), finished_at=99.75)),
        Coverage(sweep=Sweep(0.0, 0)),
    ],
    ids=["empty", "full", "sweep", "sweep just begun"],
)
async def test_what_was_stored_is_loaded(state: Coverage, database: Database) -> None:
    """Round trip, through another process's eyes, onto an old state as well as onto none."""
    for _ in range(2):
        assert await SyncStates(database).change(*KEY, lambda _: state) == state
        assert await SyncStates(database).load(*KEY) == state


async def test_twenty_writers_at_once_lose_nothing(database: Database) -> None:
    """Each adds its own seconds to a page nobody read before; all are there in the end."""
    spans = [(100 * number, 100 * number + 49) for number in range(20)]
    await asyncio.gather(*(read(SyncStates(database), low, high) for low, high in spans))
    state = await SyncStates(database).load(*KEY)
    assert state.settled == union(spans)


async def test_writers_of_different_fields_do_not_undo_each_other(database: Database) -> None:
    """A sweep begins while passes save what they read."""
    states, sweep = SyncStates(database), Sweep(1.0, 50)
    await asyncio.gather(
        *(read(states, 10 * number, 10 * number + 9) for number in range(10)),
        states.change(*KEY, lambda state: replace(state, sweep=sweep)),
        states.change(*KEY, lambda state: replace(state, initial_from=7)),
    )
    assert await states.load(*KEY) == Coverage(settled=((0, 99),), initial_from=7, sweep=sweep)


async def test_a_writer_that_dies_anywhere_leaves_a_whole_state(database: Database) -> None:
    """Killed before, during or after its write: what was reported as saved is there, and nothing nobody read."""
    rng = random.Random(3)
    spans = [(10 * number, 10 * number + 4) for number in range(60)]
    tasks = [asyncio.create_task(read(SyncStates(database), low, high)) for low, high in spans]

    async def kill(task: "asyncio.Task[Coverage]", turns: int) -> None:
        for _ in range(turns):  # each turn of the loop brings the writers a step further
            await asyncio.sleep(0)
        task.cancel()

    await asyncio.gather(*(kill(task, rng.randrange(400)) for task in tasks[::2]))
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    state = await SyncStates(database).load(*KEY)
    saved = [span for span, end in zip(spans, ends, strict=True) if isinstance(end, Coverage)]
    assert len(saved) >= 30
    assert not subtract(saved, state.settled)
    assert not subtract(state.settled, spans)
    await read(SyncStates(database), 0, 999)
    assert seconds_in((await SyncStates(database).load(*KEY)).settled) == 1000


async def test_people_see_what_is_read_and_what_is_missing(database: Database) -> None:
    """The stored document shows covered seconds, the gaps below the mark, and where reading goes on."""
    states = SyncStates(database)
    await states.change(*KEY, lambda _: Coverage(settled=((10, 19), (30, 39)), recent=((40, 44),)))
    found = await database["sync_state"].find_one({"_id": "customers:100"})
    assert found is not None
    assert found["covered"] == [[10, 19], [30, 44]]
    assert found["gaps"] == [[0, 9], [20, 29]]
    assert found["cursor"] == 29
    assert (found["stream"], found["pageId"]) == KEY


async def test_marks_are_those_of_the_pages_that_were_read(database: Database) -> None:
    """Pages without a mark, and other streams, are left out."""
    states = SyncStates(database)
    for stream, page_id, end in (("customers", "1", 9), ("customers", "2", 99), ("posts", "1", 50)):
        await states.change(stream, page_id, partial(replace, settled=((0, end),)))
    await states.change("customers", "3", lambda state: replace(state, initial_from=5))
    assert await states.marks("customers") == {"1": 9, "2": 99}
