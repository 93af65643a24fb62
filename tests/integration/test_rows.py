"""Rows in a real MongoDB: newer wins whatever the order, one bad row harms no other, deletions only by two sweeps."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pymongo.errors import BulkWriteError

from src.clients.mongo import Database, Document, open_database
from src.errors import Transient
from src.settings import Settings
from src.store.customers import customers
from src.store.rows import RowStore

pytestmark = pytest.mark.anyio

PAGE = "100"
START = datetime(2026, 5, 14, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def row(psid: str, updated_at: int, name: str = "", raw: dict[str, Any] | None = None) -> Document:
    return {
        "psid": psid,
        "pageId": PAGE,
        "name": name or f"version of {updated_at}",
        "updatedAt": updated_at,
        "panCakeData": {"id": psid, **(raw or {})},
    }


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    async with open_database(settings.mongo) as opened:
        yield opened


@pytest.fixture
async def store(database: Database) -> RowStore:
    rows = customers(database)
    await rows.ensure_indexes()
    return rows


async def names(database: Database) -> dict[str, str]:
    return {found["psid"]: found["name"] async for found in database["customers"].find()}


async def marks(database: Database, psid: str) -> tuple[object, object]:
    found = await database["customers"].find_one({"psid": psid})
    assert found is not None
    return found.get("missingSince"), found.get("deletedAt")


async def test_the_newest_version_stays_in_every_order_of_arrival(store: RowStore, database: Database) -> None:
    """Backfill, incremental pass and retry may bring versions in any order; the end is the same."""
    versions = [(10, at(0), "oldest"), (20, at(1), "middle"), (20, at(2), "middle, asked later"), (30, at(0), "newest")]
    orders = list(itertools.permutations(versions))

    async def arrive(number: int) -> None:
        for updated_at, asked_at, name in orders[number]:
            await store.upsert([row(str(number), updated_at, name)], asked_at)

    await asyncio.gather(*(arrive(number) for number in range(len(orders))))
    assert await names(database) == {str(number): "newest" for number in range(len(orders))}


@pytest.mark.parametrize("first_arrives", [1, 2], ids=["in order", "out of order"])
async def test_of_one_second_the_later_asked_wins(first_arrives: int, store: RowStore, database: Database) -> None:
    """A stamp's grain is a second, and two changes within one are normal: what was asked later knows more."""
    answers = {1: (row("1", 10, "asked first"), at(1)), 2: (row("1", 10, "asked second"), at(2))}
    for number in (first_arrives, 3 - first_arrives):
        found, asked_at = answers[number]
        await store.upsert([found], asked_at)
    assert await names(database) == {"1": "asked second"}


async def test_an_older_version_is_counted_and_marks_the_row_as_seen(store: RowStore, database: Database) -> None:
    """The caller learns how many rows were new, and a sweep that meets the old version knows that the row lives."""
    assert (await store.upsert([row("1", 20), row("2", 10)], at(0))).written == 2
    stored = await store.upsert([row("1", 10), row("2", 20), row("3", 5)], at(9))
    assert (stored.written, stored.already_newer, stored.refused) == (2, 1, [])
    assert await names(database) == {"1": "version of 20", "2": "version of 20", "3": "version of 5"}
    found = await database["customers"].find_one({"psid": "1"})
    assert found is not None
    assert (found["seenAt"], found["syncedAt"]) == (at(9), at(0))


async def test_storing_twice_is_storing_once(store: RowStore, database: Database) -> None:
    """A pass that died after the write does it again."""
    for _ in range(2):
        assert (await store.upsert([row("1", 10), row("2", 10)], at(0))).refused == []
    before = await database["customers"].find().to_list(None)
    await store.upsert([row("1", 10), row("2", 10)], at(0))
    assert await database["customers"].find().to_list(None) == before
    assert await store.count(PAGE) == 2


async def test_a_race_for_a_new_row_is_won_by_the_newest_version(store: RowStore, database: Database) -> None:
    """Of many writers that all find the row missing one inserts; an older insert never beats a newer version."""
    rng = random.Random(1)
    psids = [str(number) for number in range(20)]
    writes = [(psid, version) for psid in psids for version in range(1, 16)]
    rng.shuffle(writes)
    stored = await asyncio.gather(*(store.upsert([row(psid, version)], at(version)) for psid, version in writes))
    assert await names(database) == dict.fromkeys(psids, "version of 15")
    assert all(one.written + one.already_newer == 1 for one in stored)


async def test_a_race_of_whole_batches_ends_in_the_newest_versions(store: RowStore, database: Database) -> None:
    """The same with batches of a page each, as passes that overlap write them."""
    rng = random.Random(2)
    psids = [str(number) for number in range(60)]
    newest = dict.fromkeys(psids, 0)

    def batch() -> list[Document]:
        picked = rng.sample(psids, 40)
        versions = {psid: rng.randrange(1, 1000) for psid in picked}
        for psid, version in versions.items():
            newest[psid] = max(newest[psid], version)
        return [row(psid, version) for psid, version in versions.items()]

    await asyncio.gather(*(store.upsert(batch(), at(0)) for _ in range(25)))
    assert await names(database) == {psid: f"version of {version}" for psid, version in newest.items() if version}


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(levels):
        inner = {"in": inner}
    return inner


@pytest.mark.parametrize(
    "bad",
    [
        row("bad", 10, raw={"global_id": 2**70}),
        row("bad", 10, "half \ud800 pair"),
        row("bad", 10, raw={"nul\x00": 1}),
        row("bad", 10, raw=nested(200)),
        row("bad", 10, "x" * 17_000_000),
    ],
    ids=["big integer", "lone surrogate", "NUL in a key", "nested too deep", "larger than a document may be"],
)
async def test_a_row_mongodb_cannot_hold_is_refused_alone(bad: Document, store: RowStore, database: Database) -> None:
    """The refusal names its place in the batch; the rows around it are stored."""
    stored = await store.upsert([row("1", 10), bad, row("2", 10)], at(0))
    assert [place for place, _ in stored.refused] == [1]
    assert stored.refused[0][1]
    assert stored.written == 2
    assert set(await names(database)) == {"1", "2"}


@pytest.mark.parametrize("key", ["$where", "a.b", "", "$set"])
async def test_a_strange_field_name_costs_no_row(key: str, store: RowStore, database: Database) -> None:
    """Raw rows come as the vendor writes them; a name with a meaning of its own in queries is a name here."""
    stored = await store.upsert([row("1", 10), row("odd", 10, raw={key: 1}), row("2", 10)], at(0))
    assert stored.written + len(stored.refused) == 3
    assert {"1", "2"} <= set(await names(database))


class Collection:
    """A collection whose server refuses every write in a given way."""

    def __init__(self, write_errors: list[dict[str, Any]], concern_errors: list[dict[str, Any]]) -> None:
        self._details = {"writeErrors": write_errors, "writeConcernErrors": concern_errors}

    async def bulk_write(self, writes: list[object], *, ordered: bool) -> None:
        raise BulkWriteError(self._details)


@pytest.mark.parametrize(
    ("write_errors", "concern_errors"),
    [
        ([{"index": 0, "code": 50}], []),
        ([{"index": 0, "code": 2}, {"index": 1, "code": 13}], []),
        ([{"index": 0, "code": 2}], [{"code": 64}]),
    ],
    ids=["timeout", "not allowed, beside a bad row", "not written to enough servers"],
)
async def test_a_fault_of_the_server_is_no_rows_fault(
    write_errors: list[dict[str, Any]], concern_errors: list[dict[str, Any]]
) -> None:
    """Nothing may be taken as stored then, so the pass fails and reads it again."""
    rows = RowStore(
        cast("Any", Collection(write_errors, concern_errors)), identity=("psid", "pageId"), order="updatedAt"
    )
    with pytest.raises(Transient) as caught:
        await rows.upsert([row("1", 10), row("2", 10)], at(0))
    assert caught.value.__cause__ is None  # the driver's error holds the rows


async def test_a_row_is_given_up_only_after_two_sweeps(store: RowStore, database: Database) -> None:
    """The first sweep that misses it suspects, the second deletes; the document stays."""
    await store.upsert([row("gone", 10), row("here", 10)], at(0))
    await store.upsert([row("here", 10)], at(101))
    assert await store.forget_missing(PAGE, at(100), at(150)) == (1, 0)
    assert await marks(database, "gone") == (at(100), None)
    assert await store.count(PAGE) == 2
    await store.upsert([row("here", 10)], at(201))
    assert await store.forget_missing(PAGE, at(200), at(250)) == (0, 1)
    assert await marks(database, "gone") == (at(100), at(250))
    assert await marks(database, "here") == (None, None)
    assert await store.count(PAGE) == 1
    assert await store.forget_missing(PAGE, at(300), at(350)) == (1, 0)  # `here`: this one met nothing


async def test_evaluating_one_sweep_twice_is_evaluating_it_once(store: RowStore, database: Database) -> None:
    """A pass that died after the marks were set does not turn a suspicion into a deletion."""
    await store.upsert([row("gone", 10)], at(0))
    assert [await store.forget_missing(PAGE, at(100), at(150 + again)) for again in range(3)] == [
        (1, 0),
        (0, 0),
        (0, 0),
    ]
    assert await marks(database, "gone") == (at(100), None)


@pytest.mark.parametrize("version", [5, 10, 20], ids=["older", "same", "newer"])
@pytest.mark.parametrize("sweeps", [1, 2], ids=["suspected", "deleted"])
async def test_meeting_a_row_again_clears_its_marks(
    version: int, sweeps: int, store: RowStore, database: Database
) -> None:
    """In whatever version it comes back, it lives."""
    await store.upsert([row("back", 10)], at(0))
    for number in range(1, sweeps + 1):
        await store.forget_missing(PAGE, at(100 * number), at(100 * number + 50))
    assert (await marks(database, "back"))[sweeps - 1] is not None
    await store.upsert([row("back", version)], at(500))
    assert await marks(database, "back") == (None, None)
    assert await store.count(PAGE) == 1


async def test_a_sweep_concerns_its_own_page_and_rows_not_seen_since(store: RowStore, database: Database) -> None:
    """Rows of other pages, and rows met after the sweep began, are left alone."""
    other = {**row("1", 10), "pageId": "200"}
    await store.upsert([row("1", 10), row("2", 10), other], at(0))
    await store.upsert([row("2", 10)], at(100))  # the very moment the sweep began
    assert await store.forget_missing(PAGE, at(100), at(150)) == (1, 0)
    assert await store.count("200") == 1
    assert await database["customers"].count_documents({"missingSince": {"$ne": None}}) == 1
