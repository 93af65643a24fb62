"""Passes against a simulated Pancake and a real MongoDB: whatever the list does, every row of it arrives."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import httpx
import pytest
from pydantic import SecretStr

from src.clients.mongo import Document
from src.clients.pancake.client import Listing
from src.deps import Deps, open_deps
from src.errors import Malformed, Transient
from src.rules.coverage import Coverage, Mode
from src.rules.intervals import clip, subtract
from src.settings import PancakeSettings, Settings
from src.sync.customers import customer_stream
from src.sync.filler import Filled, Filler
from src.sync.passes import PagePass, PassResult
from src.sync.stream import Stream
from tests.simulators.pancake import Simulator, VirtualClock, World
from tests.simulators.pancake.page import Page
from tests.simulators.pancake.switches import Switches

pytestmark = pytest.mark.anyio

START_S = 1_780_000_000
Read = Callable[..., Coroutine[Any, Any, Listing]]


@dataclass
class Bench:
    """A simulated page, everything a pass needs to read it, and each call the pass made."""

    world: World
    deps: Deps
    stream: Stream
    calls: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def page(self) -> Page:
        return next(iter(self.world.pages.values()))

    def through(self, change: Callable[[Listing], Listing]) -> None:
        """Change each answer from now on."""
        read = self.stream.read

        async def changed(page_id: str, **asked: Any) -> Listing:
            return change(await read(page_id, **asked))

        self.stream = replace(self.stream, read=changed)

    async def run(self, mode: Mode, *, stop: Callable[[], bool] = lambda: False, slices: int = 4) -> PassResult:
        """One pass, as the job makes it."""
        return await PagePass(
            self.stream,
            self.page.page_id,
            self.deps.sync_states,
            self.deps.dead_letters,
            self.deps.settings.sync.model_copy(update={"slices": slices}),
            server_now=self.deps.pancake.server_now,
            stop=stop,
        ).run(mode)

    async def run_all(self) -> list[PassResult]:
        """What is new, then the history."""
        return [await self.run("incremental"), await self.run("backfill")]

    async def later(self, seconds: float) -> None:
        """Let time pass, and a call tell the client of it: Pancake's real clock does not jump between two calls."""
        self.world.step(seconds)
        await self.deps.pancake.tags(self.page.page_id)

    async def state(self) -> Coverage:
        return await self.deps.sync_states.load("customers", self.page.page_id)

    async def documents(self) -> dict[str, Document]:
        found = await self.deps.database["customers"].find({}, {"_id": 0}).to_list(None)
        return {document["psid"]: document for document in found}

    async def missing(self) -> list[str]:
        """psids whose present version is not stored."""
        stored = {
            psid: (document["updatedAt"], document["panCakeData"]["sim_version"])
            for psid, document in (await self.documents()).items()
        }
        truth = self.world.truth(self.page.page_id)["rows"]
        return [row["psid"] for row in truth if stored.get(row["psid"]) != (row["updated_at"], row["version"])]


@asynccontextmanager
async def bench(
    settings: Settings, *, customers: int = 330, tie_rows: int = 0, **switches: Any
) -> AsyncIterator[Bench]:
    """A world at rest whose clock stands still unless a test moves it."""
    quiet = Switches(rate_limit=0, advance_s_per_call=0.0)
    quiet.update(switches)
    world = World(pages=1, customers=customers, days=90, tie_rows=tie_rows, clock=VirtualClock(START_S), switches=quiet)
    page = next(iter(world.pages.values()))
    pancake = PancakeSettings(
        base_url="http://pancake.test/api", page_tokens={page.page_id: SecretStr(page.token)}, max_calls_per_second=0
    )
    transport = httpx.ASGITransport(Simulator(world))
    async with open_deps(settings.replace(pancake=pancake), transport=transport) as deps:
        stream = customer_stream(deps.pancake, deps.customers)
        made = Bench(world, deps, stream)

        async def counted(page_id: str, *, since: int, until: int, page_number: int = 1) -> Listing:
            made.calls.append((since, until, page_number))
            return await stream.read(page_id, since=since, until=until, page_number=page_number)

        made.stream = replace(stream, read=counted)
        await deps.pancake.tags(page.page_id)  # learns Pancake's clock, as the first call of a worker does
        yield made


def all_of_time(answer: Listing) -> Listing:
    """A total that counts all rows of the page, whatever window was asked for."""
    return replace(answer, total=3_000)


async def test_a_quiet_incremental_pass_is_one_call(settings: Settings) -> None:
    """Twelve times an hour for every page: where nothing happened it must cost next to nothing."""
    async with bench(settings) as b:
        await b.run_all()
        await b.later(600)
        b.calls.clear()
        done = await b.run("incremental")
        assert (done.calls, len(b.calls), done.is_complete) == (1, 1, True)
        assert done.mark is not None
        assert START_S + 590 <= done.mark <= START_S + 596


async def test_what_changed_is_read_by_the_next_pass(settings: Settings) -> None:
    """New and changed rows arrive, in hardly more calls than they fill pages."""
    async with bench(settings) as b:
        await b.run_all()
        await b.later(600)
        for _ in range(12):
            b.world.birth(b.page.page_id, 10)
            b.world.change(b.page.page_id, 5)
            b.world.step(1)
        await b.later(30)
        done = await b.run("incremental")
        assert await b.missing() == []
        assert done.calls <= 3


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ({}, None),
        ({"tie_rows": 230}, None),
        ({"page_size_cap": 40}, None),
        ({"page_size_cap": 40, "tie_rows": 100}, None),
        ({"drop_total": True}, None),
        ({"drop_total": True, "tie_rows": 230}, None),
        ({"bounds": "exclusive"}, None),
        ({"bounds": "exclusive", "tie_rows": 230}, None),
        ({"stamp_fraction": True, "tie_rows": 150}, None),
        ({"clock_skew_s": 40.0}, None),
        ({"clock_skew_s": -40.0}, None),
        ({}, all_of_time),
        ({"customers": 0}, None),
        ({"customers": 0}, all_of_time),
        ({"customers": 100}, None),
    ],
    ids=[
        *("plain", "a second above a page", "smaller pages", "smaller pages and a full second"),
        *("no total", "no total and a full second", "exclusive bounds", "exclusive bounds and a full second"),
        *("fractions", "their clock ahead", "their clock behind", "total of all time"),
        *("empty page", "empty page with a total", "exactly one page"),
    ],
)
async def test_every_row_arrives(
    shape: dict[str, Any], change: Callable[[Listing], Listing] | None, settings: Settings
) -> None:
    """Whatever is undocumented about windows, totals and page sizes, the copy is complete, and known to be."""
    async with bench(settings, **shape) as b:
        if change:
            b.through(change)
        results = await b.run_all()
        assert await b.missing() == []
        assert all(done.is_complete for done in results)
        assert subtract([(0, START_S - 400)], (await b.state()).settled) == ()


@pytest.mark.parametrize("tie_rows", [0, 230], ids=["plain", "a second above a page"])
async def test_a_total_that_counts_something_else_costs_little(tie_rows: int, settings: Settings) -> None:
    """It is noticed by an empty page and believed no more: of a page's quota hardly a call is lost to it."""
    async with bench(settings, tie_rows=tie_rows) as b:
        honest = sum(done.calls for done in await b.run_all())
        await b.deps.database["sync_state"].delete_many({})
        b.through(all_of_time)
        assert sum(done.calls for done in await b.run_all()) <= 2 * honest + 10


async def test_rows_out_of_order_are_an_error_and_nothing_counts_as_read(settings: Settings) -> None:
    """A vendor that ignored `order_by` would make every window a lie; then no second may be taken as read."""
    async with bench(settings) as b:

        async def by_birth(page_id: str, *, since: int, until: int, page_number: int = 1) -> Listing:
            answer = await b.deps.pancake.page_customers(page_id, since=since, until=until, page_number=page_number)
            return replace(answer, rows=sorted(answer.rows, key=lambda row: row["inserted_at"], reverse=True))

        b.stream = replace(b.stream, read=by_birth)
        with pytest.raises(Malformed, match="newest first"):
            await b.run("backfill")
        assert (await b.state()).covered == ()
        assert await b.documents() != {}


async def test_rows_from_the_future_of_the_window_are_an_error(settings: Settings) -> None:
    """Times written in another zone show as rows newer than what was asked for: rather no copy than a wrong one."""
    async with bench(settings, tz_offset_hours=7.0) as b:
        b.world.birth(b.page.page_id, 150)
        with pytest.raises(Malformed, match="in UTC"):
            await b.run("incremental")
        assert (await b.state()).covered == ()


@pytest.mark.parametrize("slices", [1, 4])
async def test_a_pass_told_to_stop_goes_on_where_it_was(slices: int, settings: Settings) -> None:
    """It ends at the next safe place; the next pass reads the rest, and asks for no settled second again."""
    async with bench(settings, customers=1200) as b:
        await b.run("incremental")
        done = await b.run("backfill", stop=lambda: len(b.calls) >= 8, slices=slices)
        assert not done.is_complete
        settled = (await b.state()).settled
        b.calls.clear()
        done = await b.run("backfill", slices=slices)
        assert done.is_complete
        # each call asks for a second more on both sides than it needs
        asked = [(since + 1, until - 1) for since, until, _ in b.calls if since]
        assert [clip(settled, low, high) for low, high in asked] == [()] * len(asked)
        assert await b.missing() == []


async def test_a_stop_before_the_first_call_reads_nothing(settings: Settings) -> None:
    """A worker that is asked to end begins no new work."""
    async with bench(settings) as b:
        done = await b.run("incremental", stop=lambda: True)
        assert (done.calls, done.is_complete) == (0, False)


@pytest.mark.parametrize("slices", [1, 4])
@pytest.mark.parametrize("end", [Transient, asyncio.CancelledError], ids=["error", "cancelled"])
async def test_a_pass_that_dies_in_the_middle_keeps_what_was_read(
    end: type[BaseException], slices: int, settings: Settings
) -> None:
    """What was stored stays read, and the next pass reads only the rest."""
    async with bench(settings, customers=1500) as b:
        await b.run("incremental")
        whole, before = b.stream, (await b.state()).settled
        b.calls.clear()

        def dying(answer: Listing) -> Listing:
            if len(b.calls) > 5 and end is Transient:
                raise Transient("GET /x: Pancake failed (500)")
            if len(b.calls) > 5:
                task.cancel()
            return answer

        b.through(dying)
        task = asyncio.create_task(b.run("backfill", slices=slices))
        with pytest.raises(end):
            await task
        settled = (await b.state()).settled
        assert subtract(settled, before)
        b.stream = whole
        b.calls.clear()
        assert (await b.run("backfill", slices=slices)).is_complete
        asked = [(since + 1, until - 1) for since, until, _ in b.calls if since]
        assert [clip(settled, low, high) for low, high in asked] == [()] * len(asked)
        assert await b.missing() == []


async def test_rows_nobody_can_read_are_named_and_their_neighbours_stored(settings: Settings) -> None:
    """Each is set aside with what is wrong and what it said; the rest of its page is complete."""
    async with bench(settings, customers=600, malformed_pct=6.0) as b:
        results = await b.run_all()
        bad = b.world.truth(b.page.page_id)["malformed"]
        assert {row["kind"] for row in bad} >= {"null_psid", "bad_updated_at", "string_row", "null_row", "phone_dict"}
        assert await b.missing() == []
        assert all(done.is_complete for done in results)
        letters = {letter["rowId"]: letter for letter in await b.deps.dead_letters.rows("customers", b.page.page_id)}
        assert all(letter["error"] and letter["raw"] for letter in letters.values())
        stored = await b.documents()
        for row in bad:
            if row["kind"] == "string_row":
                assert any(row["id"] in letter["raw"] for letter in letters.values())
            elif row["kind"] == "null_row":
                assert any(letter["raw"] == "null" for letter in letters.values())
            else:  # a number too big may have become one MongoDB can hold; it must be in one of the two places
                assert (row["id"] in letters) or (row["kind"] == "big_integer" and row["psid"] in stored), row
        assert "psid" in next(letters[row["id"]]["error"] for row in bad if row["kind"] == "null_psid")


async def test_a_page_of_nothing_but_unreadable_rows_ends(settings: Settings) -> None:
    """Without one readable stamp there is no place to go on from; the page is walked by number instead."""
    async with bench(settings, customers=250, malformed_pct=100.0) as b:
        assert all(done.is_complete for done in await b.run_all())
        assert await b.missing() == []
        assert len(b.calls) < 60


async def filled(b: Bench, slices: int) -> Filled:
    """All of time, read by the filler alone."""

    async def forget(span: tuple[int, int], as_of: int) -> None:
        return None

    filler = Filler(b.stream, b.page.page_id, b.deps.dead_letters, slices=slices, on_read=forget, stop=lambda: False)
    return await filler.fill([(0, START_S + 10)])


async def test_reading_again_changes_nothing(settings: Settings) -> None:
    """A second fetch leaves every document as it was, but for when it was last met."""

    def lasting(documents: dict[str, Document]) -> dict[str, Document]:
        moving = ("syncedAt", "seenAt")
        return {psid: {k: v for k, v in one.items() if k not in moving} for psid, one in documents.items()}

    async with bench(settings, customers=300, malformed_pct=5.0) as b:
        first = await filled(b, 1)
        before = await b.documents()
        letters = await b.deps.dead_letters.count()
        second = await filled(b, 3)
        after = await b.documents()
        assert lasting(after) == lasting(before)
        assert all(after[psid]["seenAt"] >= before[psid]["seenAt"] for psid in before)
        assert (second.rows, second.set_aside) == (first.rows, first.set_aside)
        assert await b.deps.dead_letters.count() == letters


@pytest.mark.parametrize("slices", [1, 2, 8])
async def test_seconds_counted_as_read_were_read(slices: int, settings: Settings) -> None:
    """What the filler reports is disjoint, lies in what was asked for and, without a stop, is all of it."""
    reported: list[tuple[int, int]] = []

    async def note(span: tuple[int, int], as_of: int) -> None:
        assert as_of <= START_S
        reported.append(span)

    async with bench(settings, customers=1500, tie_rows=150) as b:
        gaps = [(0, START_S - 50 * 86_400), (START_S - 40 * 86_400, START_S)]
        filler = Filler(b.stream, b.page.page_id, b.deps.dead_letters, slices=slices, on_read=note, stop=lambda: False)
        assert (await filler.fill(gaps)).is_complete
        assert sum(end - start + 1 for start, end in reported) == sum(end - start + 1 for start, end in gaps)
        assert subtract(gaps, reported) == ()
        between = clip([(START_S - 50 * 86_400 + 2, START_S - 40 * 86_400 - 2)], 0, START_S)[0]
        stored = await b.documents()
        wanted = [
            row for row in b.world.truth(b.page.page_id)["rows"] if not between[0] <= row["updated_at"] <= between[1]
        ]
        assert all(row["psid"] in stored for row in wanted)


@pytest.mark.parametrize("what", ["changed", "deleted"])
async def test_rows_that_leave_while_they_are_read_hide_no_other(
    what: Literal["changed", "deleted"], settings: Settings
) -> None:
    """Rows above and within the window move to the top or vanish before every call; none of the others is skipped."""
    async with bench(settings, customers=600, tie_rows=250) as b:
        await b.run("incremental")

        def meanwhile(answer: Listing) -> Listing:
            act = b.world.change if what == "changed" else b.world.delete
            act(b.page.page_id, 7)
            return answer

        whole = b.stream
        b.through(meanwhile)
        await b.run("backfill")
        b.stream = whole
        await b.later(400)
        await b.run("incremental")
        assert await b.missing() == []
