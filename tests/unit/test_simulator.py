"""What other tests rely on in the simulated Pancake. A simulator that is wrong makes right code look wrong."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.simulators.pancake import Rates, Simulator, Switches, VirtualClock, World, running, state
from tests.simulators.pancake.huge import HugeCustomers

pytestmark = pytest.mark.anyio

START_S = 1_780_000_000
END_S = START_S + 10_000_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Client:
    """Calls a world's first page without sockets."""

    def __init__(self, world: World, http: httpx.AsyncClient) -> None:
        self.world, self.http = world, http
        self.page = next(iter(world.pages.values()))

    async def get(self, path: str, *, version: str = "v1", **params: Any) -> httpx.Response:
        params = {"page_access_token": self.page.token} | params
        return await self.http.get(f"/api/public_api/{version}/pages/{self.page.page_id}/{path}", params=params)

    async def customers(self, **params: Any) -> dict[str, Any]:
        asked: dict[str, Any] = {"since": 0, "until": END_S, "order_by": "updated_at", "page_size": 100} | params
        result: dict[str, Any] = orjson.loads((await self.get("page_customers", **asked)).content)
        return result

    async def all_customers(self, **params: Any) -> list[Any]:
        rows: list[Any] = []
        while True:
            found = (await self.customers(page_number=len(rows) // 100 + 1, **params))["customers"]
            rows += found
            if len(found) < 100:
                return rows


@asynccontextmanager
async def client(world: World) -> AsyncIterator[Client]:
    transport = httpx.ASGITransport(Simulator(world))
    async with httpx.AsyncClient(transport=transport, base_url="http://pancake.test") as http:
        yield Client(world, http)


def still_world(**switches: Any) -> World:
    """A world at rest on a standing clock, without a rate limit."""
    quiet = Switches(rate_limit=0, advance_s_per_call=0.0)
    quiet.update(switches)
    return World(pages=2, customers=350, clock=VirtualClock(START_S), switches=quiet)


def stamps(rows: list[Any], name: str = "updated_at") -> list[str]:
    return [row[name] for row in rows]


async def test_full_listing_is_the_truth_newest_first() -> None:
    """Walking all pages of a world at rest gives each row of the truth once."""
    async with client(still_world()) as c:
        rows = await c.all_customers()
        truth = c.world.truth(c.page.page_id)["rows"]
        assert {(r["psid"], r["name"], r["updated_at"], r["sim_version"]) for r in rows} == {
            (t["psid"], t["name"], t["updated_raw"], t["version"]) for t in truth
        }
        assert len(rows) == len(truth) == 350
        assert stamps(rows) == sorted(stamps(rows), reverse=True)


async def test_paging_counts_the_window_and_caps_the_size() -> None:
    """Default 20 rows, at most 100, `total` counts the window, a page past the end is empty."""
    async with client(still_world()) as c:
        default = await c.get("page_customers", since=0, until=END_S)
        assert len(default.json()["customers"]) == 20
        assert stamps(default.json()["customers"], "inserted_at") == sorted(
            stamps(default.json()["customers"], "inserted_at"), reverse=True
        )
        big = await c.customers(page_size=1000)
        assert (len(big["customers"]), big["total"]) == (100, 350)
        assert len((await c.customers(page_number=4))["customers"]) == 50
        assert (await c.customers(page_number=5)) == {"success": True, "total": 350, "customers": []}
        assert (await c.get("page_customers", since=0)).json()["success"] is False


async def test_bounds_switch_decides_on_the_edges() -> None:
    """A row stamped exactly at since or until is in the window, or not when the bounds are exclusive."""
    async with client(still_world()) as c:
        rows = c.world.truth(c.page.page_id)["rows"]
        at_s = rows[7]["updated_at"]
        here = sum(r["updated_at"] == at_s for r in rows)
        assert (await c.customers(since=at_s, until=at_s))["total"] == here
        c.world.switches.bounds = "exclusive"
        assert (await c.customers(since=at_s, until=at_s + 1))["total"] == 0
        assert (await c.customers(since=at_s - 1, until=at_s + 1))["total"] == here


async def test_tie_burst_shares_one_second() -> None:
    """A bulk action leaves more rows in one second than a page holds, each with a new version."""
    async with client(still_world()) as c:
        c.world.step(5)
        touched = c.world.tie(c.page.page_id, 220)
        rows = await c.all_customers(since=START_S + 5, until=START_S + 5)
        assert {r["psid"] for r in rows} == set(touched)
        assert {r["sim_version"] for r in rows} == {2}


async def test_lag_shows_the_old_row_until_its_time() -> None:
    """A lagging change is true at once and seen later; until then lists show the old row at its old place."""
    async with client(still_world(visibility_lag_s=20)) as c:
        before = {r["psid"]: r for r in await c.all_customers()}
        (psid,) = c.world.change(c.page.page_id, 1)
        truth = {t["psid"]: t for t in c.world.truth(c.page.page_id)["rows"]}[psid]
        assert truth["version"] == 2
        assert before[psid] in await c.all_customers()
        c.world.step(21)
        seen = {r["psid"]: r for r in await c.all_customers()}[psid]
        assert (seen["sim_version"], seen["updated_at"]) == (2, truth["updated_raw"])


async def test_delete_is_seen_at_once() -> None:
    """A deleted row is gone from lists and truth and named as deleted, even while a change of it was hidden."""
    async with client(still_world(visibility_lag_s=20)) as c:
        psid = c.world.birth(c.page.page_id)[0]
        c.world.delete_psid(c.page.page_id, psid)
        c.world.freeze()
        assert psid not in {r["psid"] for r in await c.all_customers()}
        assert c.world.truth(c.page.page_id)["deleted"] == [psid]


async def test_second_change_in_a_second_keeps_the_stamp() -> None:
    """Two changes within a second: other version, same stamp."""
    async with client(still_world()) as c:
        c.world.rates = Rates(twice=3.0)
        c.world.thaw()
        c.world.step(30)
        rows = c.world.truth(c.page.page_id)["rows"]
        assert any(r["version"] == 3 and r["updated_at"] >= START_S for r in rows)
        assert all(r["updated_at"] <= START_S + 30 for r in rows)


async def test_tokens_fail_by_kind_and_mint_supersedes() -> None:
    """Wrong kind or unknown is 102, superseded is 105, a minted token works; all with HTTP 200."""
    async with client(still_world()) as c:
        old = c.page.token
        mint = f"/api/v1/pages/{c.page.page_id}/generate_page_access_token"
        new = (await c.http.post(mint, params={"access_token": c.world.user_token})).json()["page_access_token"]

        async def code(token: str) -> tuple[int, Any]:
            reply = await c.get("tags", page_access_token=token)
            return reply.status_code, reply.json().get("error_code")

        assert await code(old) == (200, 105)
        assert await code("nobody") == await code(c.world.user_token) == (200, 102)
        assert await code(new) == (200, None)
        assert (await c.http.get("/api/v1/pages", params={"access_token": new})).json()["error_code"] == 102
        c.world.switches.auth_as_401 = True
        assert await code(old) == (401, 105)


@pytest.mark.parametrize(
    ("form", "status", "body"),
    [("empty", 429, b""), ("body_code", 200, b'"error_code":429'), ("json", 429, b"429"), ("html", 429, b"<html>")],
)
async def test_sixth_call_in_a_second_is_refused(form: str, status: int, body: bytes) -> None:
    """Five calls per page and second pass, the next does not, another page is counted apart."""
    async with client(still_world(rate_limit=5, rate_limit_form=form, retry_after=2)) as c:
        first = [(await c.get("tags")).json()["success"] for _ in range(5)]
        refused = await c.get("tags")
        assert first == [True] * 5
        assert (refused.status_code, refused.headers["retry-after"]) == (status, "2")
        assert body in refused.content
        stats = (await c.http.get("/_sim/stats")).json()["pages"]
        assert (len(stats[c.page.page_id]["accepted"]), len(stats[c.page.page_id]["rejected"])) == (5, 1)
        c.page = list(c.world.pages.values())[1]
        assert (await c.get("tags")).json()["success"] is True


async def test_malformed_rows_are_in_the_body_and_apart_in_the_truth() -> None:
    """Each kind of fault reaches the wire at the place of its true stamp, and the truth lists it apart."""
    async with client(still_world(malformed_pct=40)) as c:
        pages = [(await c.get("page_customers", since=0, until=END_S, page_size=100, page_number=n)) for n in (1, 2, 3)]
        raw = b"".join(page.content for page in pages)
        for sign in (b'"psid":null', b"not-a-date", b'"row ', b",null,", b'"0":"09000', b"\\ud800", b"36893488147"):
            assert sign in raw
        truth = c.world.truth(c.page.page_id)
        assert len(truth["malformed"]) + len(truth["rows"]) == 350
        assert len({m["kind"] for m in truth["malformed"]}) == 9


async def test_conversations_walk_by_cursor_and_keep_their_quirks() -> None:
    """60 a call, cursor goes on below, unknown cursor is empty, and `type` behaves as measured."""
    async with client(still_world()) as c:
        seen: list[dict[str, Any]] = []
        while found := (
            await c.get("conversations", version="v2", last_conversation_id=seen[-1]["id"] if seen else "")
        ).json()["conversations"]:
            assert len(found) <= 60
            seen += found
        assert {row["id"] for row in seen} == {t["id"] for t in c.world.truth(c.page.page_id)["conversations"]}
        assert stamps(seen) == sorted(stamps(seen), reverse=True)

        async def some(**params: Any) -> Any:
            return (await c.get("conversations", version="v2", **params)).json()["conversations"]

        assert await some(last_conversation_id="nobody") == await some(type=["INBOX", "COMMENT"]) == []
        assert {row["type"] for row in await some(type="COMMENT")} == {"COMMENT"}
        both = await some(tags="0,1")
        assert both
        assert all({0, 1} <= {tag["id"] for tag in row["tags"]} for row in both)
        assert (await c.get("conversations", version="v2", **{"type[]": "INBOX"})).status_code == 500
        assert await some(before_id=seen[5]["id"]) == seen[:60]


async def test_messages_go_back_in_ascending_batches() -> None:
    """30 messages, oldest first inside a batch, each batch before the one read already; or newest first by switch."""
    async with client(still_world()) as c:
        thread = max(c.page.threads.latest.values(), key=lambda t: t.message_count)

        async def batch(skip: int) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (
                await c.get(f"conversations/{thread.rid}/messages", current_count=skip)
            ).json()["messages"]
            return found

        newest, older = await batch(0), await batch(30)
        assert len(newest) == 30
        assert stamps(older + newest, "inserted_at") == sorted(stamps(older + newest, "inserted_at"))
        assert not {m["id"] for m in newest} & {m["id"] for m in older}
        assert await batch(thread.message_count) == []
        c.world.switches.message_order = "desc"
        assert await batch(0) == newest[::-1]


async def test_pages_list_has_two_shapes_and_some_tokens() -> None:
    """The measured shape may carry page tokens, the documented one never does."""
    async with client(still_world(token_in_list_pct=100)) as c:
        params = {"access_token": c.world.user_token}
        measured = (await c.http.get("/api/v1/pages", params=params)).json()["categorized"]
        assert [p["settings"]["page_access_token"] for p in measured["activated"]] == [
            p.token for p in c.world.pages.values()
        ]
        c.world.switches.pages_shape = "flat"
        flat = (await c.http.get("/api/v1/pages", params=params)).json()["pages"]
        assert [set(p) for p in flat] == [{"id", "platform", "name", "avatar_url"}] * 2


async def test_unknown_path_is_the_html_shell_and_headers_are_the_worlds() -> None:
    """HTTP 200 and HTML where JSON was hoped for; `Date` is the world's clock plus the skew."""
    async with client(still_world(clock_skew_s=60)) as c:
        reply = await c.get("conversations/one")
        assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert reply.headers["date"] == "Thu, 28 May 2026 20:27:40 GMT"
        assert reply.headers["x-request-id"]


async def test_same_seed_same_world() -> None:
    """Ids, tokens and the course of a live world follow from the seed."""
    rates = Rates.live(5.0)
    worlds = [World(7, pages=2, customers=50, clock=VirtualClock(START_S), rates=rates) for _ in range(2)]
    for world in worlds:
        world.step(60)
    first, second = ([w.truth(p) for p in w.pages] for w in worlds)
    assert first == second
    assert worlds[0].user_token == worlds[1].user_token
    assert any(row["version"] > 1 for row in first[0]["rows"])


async def test_saved_world_comes_back(tmp_path: Path) -> None:
    """A demo shop has the same rows, messages and tokens after a restart, and goes on being born."""
    world = World(customers=60, clock=VirtualClock(START_S), rates=Rates.live(5.0))
    world.step(60)
    world.rotate()
    state.save(world, tmp_path / "world.json")
    again = World(customers=0, clock=VirtualClock(START_S + 100))
    assert state.load(again, tmp_path / "world.json")
    page_id = next(iter(world.pages))
    assert again.truth(page_id) == world.truth(page_id)
    assert again.page(page_id).token == world.page(page_id).token
    assert again.birth(page_id)[0] not in {r["psid"] for r in world.truth(page_id)["rows"]}


async def test_huge_page_answers_as_a_listed_one_would() -> None:
    """Computed rows: own ids, window and total agree with their stamps, ties included."""
    huge = HugeCustomers(1000, START_S, 0.3)
    total, rows = huge.page(START_S - 100, START_S - 10, exclusive=False, number=2, size=100)
    expected = [i for i in range(1000) if START_S - 100 <= huge.stamp_s(i) <= START_S - 10]
    assert (total, list(rows)) == (len(expected), expected[100:200])
    read = [orjson.loads(body) for body in huge.bodies(rows)]
    assert [row["psid"] for row in read] == [huge.psid(i) for i in rows]
    assert len({row["id"] for row in read}) == 100


@pytest.mark.skipif(sys.platform == "win32", reason="the simulator's server needs httptools")
async def test_served_simulator_cuts_connections_and_takes_control_calls() -> None:
    """Over a real socket: a cut body is a protocol error, a bad switch is refused, page_failures are 500."""
    world = still_world()
    async with running(world) as sim, httpx.AsyncClient() as http:
        page = next(iter(world.pages.values()))
        url = f"{sim.base_url}/public_api/v1/pages/{page.page_id}/tags?page_access_token={page.token}"
        sim.switches.cut_connection_pct = 100
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(url)
        off = {"cut_connection_pct": 0, "page_failures": [page.page_id]}
        assert (await http.post(f"{sim.control_url}/switches", json=off)).status_code == 200
        assert (await http.get(url)).status_code == 500
        assert (await http.post(f"{sim.control_url}/switches", json={"page_sice": 1})).status_code == 400


async def test_conversations_are_tagged_together_deleted_and_changed_in_silence() -> None:
    """A bulk tag leaves one second for many; a silent change leaves the stamp; the truth tells who is gone."""
    async with client(still_world()) as c:
        page_id, before = c.page.page_id, dict(c.page.threads.latest)
        c.world.step(0.5)
        tied = c.world.act(page_id, "tie_threads", 65)
        gone = [*c.world.act(page_id, "delete_threads", 2), tied[0]]
        if tied[0] in c.page.threads.latest:
            c.world.delete_conversation(page_id, tied[0])
        [silent] = c.world.act(page_id, "silent_threads")
        truth = c.world.truth(page_id)
        assert set(gone) == set(truth["deleted_conversations"])
        alive = {each["id"]: each for each in truth["conversations"]}
        assert set(alive) == set(before) - set(gone)
        touched = [alive[rid] for rid in tied if rid in alive]
        assert len({each["updated_us"] // 1_000_000 for each in touched}) == 1
        assert all(each["version"] > 1 for each in touched)
        second = touched[0]["updated_us"] // 1_000_000
        window = {"since": second, "until": second + 1}
        first = (await c.get("conversations", version="v2", **window)).json()["conversations"]
        last = first[-1]["id"]
        rest = (await c.get("conversations", version="v2", last_conversation_id=last, **window)).json()["conversations"]
        assert {row["id"] for row in first + rest} == {each["id"] for each in touched}
        assert c.page.threads.latest[silent].version > before[silent].version


async def test_a_removed_message_is_shown_as_removed_and_touches_its_conversation() -> None:
    """It stays in the list, as the vendor's `is_removed` says."""
    async with client(still_world()) as c:
        rid = c.world.open_conversation(c.page.page_id)
        mid = c.world.say(c.page.page_id, rid, "customer", "oops")
        before = c.page.threads.latest[rid].updated_us
        c.world.remove_message(c.page.page_id, rid, mid)
        [row] = (await c.get(f"conversations/{rid}/messages")).json()["messages"]
        assert (row["id"], row["is_removed"]) == (mid, True)
        assert c.page.threads.latest[rid].updated_us > before


async def test_notes_of_the_system_name_nobody_and_automats_sign() -> None:
    """What the reference says of both."""
    async with client(still_world()) as c:
        rid = c.world.open_conversation(c.page.page_id)
        for sender in ("system", "auto"):
            c.world.say(c.page.page_id, rid, sender, "hello")
        system, auto = (await c.get(f"conversations/{rid}/messages")).json()["messages"]
        assert (system["from"], system["attachments"][0]["type"]) == ({}, "system_message")
        assert auto["original_message"] == "[Botcake Reply] hello"


async def test_posts_share_seconds_vanish_and_have_faults() -> None:
    """Each kind of fault reaches the wire; what was deleted does not."""
    async with client(still_world(malformed_posts_pct=50)) as c:
        page_id = c.page.page_id
        tied = c.world.act(page_id, "tie_posts", 60)
        gone = c.world.act(page_id, "delete_posts", 5)
        assert c.world.truth(page_id)["deleted_posts"] == gone
        rows = b"".join(
            [
                (await c.get("posts", since=0, until=END_S, page_size=30, page_number=number)).content
                for number in (1, 2, 3, 4)
            ]
        )
        assert not any(rid.encode() in rows for rid in gone)
        alive = [c.page.posts.latest[rid] for rid in tied if rid not in gone]
        assert all(post.rid.encode() in rows for post in alive if post.fault != "null_row")
        for sign in (b'"id":null', b"not-a-date", b'"row ', b"null,", b"\\ud800", b"36893488147"):
            assert sign in rows


async def test_conversations_and_messages_have_faults() -> None:
    """Each kind reaches the wire, and the truth names those of conversations."""
    async with client(still_world(malformed_threads_pct=60, malformed_messages_pct=70)) as c:
        page_id = c.page.page_id
        rows = b""
        for days in range(0, 100, 10):
            window = {"since": START_S - (days + 10) * 86_400, "until": START_S - days * 86_400}
            rows += (await c.get("conversations", version="v2", **window)).content
        for sign in (b"not-a-date", b'"row ', b"null", b"\\ud800", b"36893488147", b'["INBOX"]'):
            assert sign in rows
        assert len({each["fault"] for each in c.world.truth(page_id)["conversations"]}) >= 8
        rid = c.world.open_conversation(page_id)
        for _ in range(30):
            c.world.lives[page_id].message(rid, c.world.now_us(), c.world.now_us())
        found = (await c.get(f"conversations/{rid}/messages")).content
        for sign in (b"not-a-date", b'"row ', b"null,", b"\\ud800", b"36893488147"):
            assert sign in found
