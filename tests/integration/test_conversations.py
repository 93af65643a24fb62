"""The stream of conversations against a simulated page: every row arrives, and whoever is gone waits for nobody."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from src.settings import Settings
from src.sync import passes
from src.sync.conversations import conversation_stream
from src.sync.standing import keep, settle
from tests.integration.threads import START_S, Body, Shop, shop

pytestmark = pytest.mark.anyio

DAY_S = 86_400


async def missing(page: Shop) -> list[str]:
    """Conversations whose present version is not stored."""
    rows = await page.rows()
    versions = {rid: row["panCakeData"]["sim_version"] for rid, row in rows.items() if not row.get("deletedAt")}
    return [rid for rid, thread in page.page.threads.latest.items() if versions.get(rid) != thread.version]


async def list_pass(page: Shop, mode: Any) -> None:
    """A pass over the list alone, without the messages."""
    deps = page.deps
    done = await passes.PagePass(
        conversation_stream(deps.pancake, deps.conversations),
        page.page_id,
        deps.sync_states,
        deps.dead_letters,
        deps.settings.sync,
        server_now=deps.pancake.server_now,
        stop=lambda: False,
    ).run(mode)
    assert done.is_complete


@pytest.mark.parametrize(
    "switches", [{"null_tags": True}, {"v2_cursor_broken": True}], ids=["cursor works", "cursor ignored"]
)
async def test_a_second_fuller_than_an_answer_is_read_to_its_end(switches: dict[str, Any], settings: Settings) -> None:
    """A tag given to hundreds of conversations at once, among new ones and among old ones."""
    async with shop(settings, customers=1_100, **switches) as page:
        ids = list(page.page.threads.latest)
        page.touch(ids[:130], START_S - 50 * DAY_S)
        page.touch(ids[130:200], START_S - 5 * DAY_S)
        await list_pass(page, "incremental")
        await list_pass(page, "backfill")
        assert len(ids) == 220
        assert await missing(page) == []
        assert await page.deps.conversations.count_unread(page.page_id) == 220
        await page.later(600)
        page.touch(ids[100:], START_S + 300)
        await list_pass(page, "incremental")
        assert await missing(page) == []


async def test_a_quiet_pass_is_one_call(settings: Settings) -> None:
    """It comes each minute for every page."""
    async with shop(settings, customers=20) as page:
        await page.run_all()
        await page.later(600)
        page.wire.paths.clear()
        assert (await page.run()).end.outcome == "unchanged"
        assert len(page.wire.paths) == 1


async def test_rows_that_cannot_be_read_are_set_aside_and_hurt_no_other(settings: Settings) -> None:
    """By name, so that somebody can look at them; later they may be readable again."""
    async with shop(settings, customers=150) as page:
        bad, *_ = page.page.threads.latest

        def change(request: httpx.Request, body: Body) -> Body:
            for row in body.get("conversations", []):
                if row["id"] == bad:
                    row["updated_at"] = "lately"
            return body

        page.wire.change = change
        await list_pass(page, "backfill")
        assert await missing(page) == [bad]
        letters = await page.deps.database["dead_letters"].find({"kind": "row"}).to_list(None)
        assert {(each["stream"], each["rowId"]) for each in letters} == {("conversations", bad)}
        assert all("updated_at" in each["error"] and "lately" not in each["error"] for each in letters)


async def test_who_is_gone_waits_for_nobody_until_they_are_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sweeps have to miss a conversation; met again, its messages are read anew."""
    monkeypatch.setattr(passes, "CLOCKS_S", 0)  # here is one clock
    async with shop(settings, customers=0) as page:
        gone, stays = page.world.open_conversation(page.page_id), page.world.open_conversation(page.page_id)
        for rid in (gone, stays):
            page.world.say(page.page_id, rid, "customer")
        await page.run_all()
        await page.later(2_000)
        waiting = page.deps.database["conversations"]
        await waiting.update_many({}, {"$set": {"nextStepAt": 1, "policyVersion": "v"}})
        shelf, thread = page.page.threads, page.page.threads.latest[gone]
        shelf.delete(gone)
        for _ in range(2):
            await list_pass(page, "sweep")
            await page.later(2_000)
            await list_pass(page, "incremental")
        rows = await page.rows()
        assert rows[gone]["deletedAt"] is not None
        assert (rows[gone]["awaitingReplySince"], rows[stays]["awaitingReplySince"]) == (None, START_S)
        assert ("nextStepAt" in rows[gone], "nextStepAt" in rows[stays]) == (False, True)
        await page.drain()
        assert (await page.rows())[gone]["awaitingReplySince"] is None
        shelf.put(thread, page.world.now_us(), page.world.now_us())
        page.touch([gone], START_S + 5_990)
        await page.run()
        assert await page.wrong() == []


async def test_a_plan_ends_with_the_wait_it_is_about(settings: Settings) -> None:
    """Whoever writes that another message waits takes the plan of the one before away, and no other."""
    async with shop(settings, customers=0) as page:
        rid = page.world.open_conversation(page.page_id)
        page.world.say(page.page_id, rid, "customer")
        await page.run_all()
        waiting = page.deps.database["conversations"]
        await waiting.update_many({}, {"$set": {"nextStepAt": 1, "policyVersion": "v"}})
        for sender, is_planned in (("customer", True), ("bot", True), ("agent", False)):
            await page.later(60)
            page.world.say(page.page_id, rid, sender)
            await page.later(20)
            await page.run()
            assert ("nextStepAt" in (await page.rows())[rid]) == is_planned, sender
        assert await page.wrong() == []


async def test_what_was_stored_by_a_pass_that_died_is_marked_by_the_next(settings: Settings) -> None:
    """Between the row and its mark: the second does not count as read, so the row comes once more."""
    async with shop(settings, customers=0) as page:
        rid = page.world.open_conversation(page.page_id)
        page.world.say(page.page_id, rid, "customer")
        stream = conversation_stream(page.deps.pancake, page.deps.conversations)
        answer = await stream.read(page.page_id, since=0, until=START_S)
        documents = [stream.map_row(page.page_id, raw)[1] for raw in answer.rows]
        await page.deps.conversations.rows.upsert(documents, answer.asked_at)
        assert (await page.drain()).conversations == 0
        await page.run_all()
        assert await page.wrong() == []


async def test_a_conversation_that_goes_while_its_messages_are_read_stays_to_be_read(settings: Settings) -> None:
    """Whatever the reader writes last, it waits for nobody; should it come back nothing of it is taken as read."""
    async with shop(settings, customers=0) as page:
        rid = page.world.open_conversation(page.page_id)
        page.world.say(page.page_id, rid, "customer")
        await list_pass(page, "incremental")
        conversations = page.deps.conversations
        (unread,) = await conversations.unread(page.page_id, START_S, 10)
        answer = await page.deps.pancake.messages(page.page_id, rid)
        await keep(page.deps.messages, page.page_id, rid, answer.rows, answer.asked_at)
        await conversations.remove(rid, datetime.now(UTC) - timedelta(days=1))
        await settle(conversations, page.deps.messages, rid)
        await conversations.have_read(unread, unread.stamp, 0.0)
        stored = (await page.rows())[rid]
        assert (stored.get("awaitingReplySince"), stored.get("messagesStamp"), stored["messagesDue"]) == (
            None,
            None,
            True,
        )
        page.touch([rid], START_S + 5)
        await page.later(30)
        await page.run()
        assert await page.wrong() == []


async def test_the_monitors_questions_are_answered_from_indexes(settings: Settings) -> None:
    """They are asked each few minutes, of hundreds of thousands of conversations."""
    questions = {
        "due": {"pageId": "1", "nextStepAt": {"$gt": 0, "$lte": 9}},
        "waiting": {"pageId": "1", "awaitingReplySince": {"$gt": 0}, "policyVersion": {"$ne": "a"}},
        "conversationId_1": {"conversationId": {"$in": ["a", "b"]}, "openAlertId": {"$in": ["c"]}},
    }
    async with shop(settings, customers=0) as page:
        collection = page.deps.database["conversations"]
        for index, query in questions.items():
            plan = str((await collection.find(query).explain())["queryPlanner"]["winningPlan"])
            assert f"'indexName': '{index}'" in plan, (query, plan)
