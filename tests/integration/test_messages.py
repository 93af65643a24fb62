"""Messages of conversations that changed, and what they say of who waits: against a simulated page, killed anywhere."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from src.clients.pancake import client as pancake_client
from src.errors import TokenRejected, Transient
from src.settings import Settings
from src.store.conversations import Conversations
from src.store.messages import Messages
from src.sync import messages as messages_module
from src.sync.standing import learn
from tests.integration.test_conversations import list_pass
from tests.integration.threads import START_S, Body, Shop, shop, stands_of, told_by
from tests.simulators.pancake.clock import SECOND_US
from tests.simulators.pancake.threads import SENDERS, Message

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class Killed(BaseException):
    """The process ends here."""


def fill(page: Shop, rid: str, messages: int, *, end_s: int = START_S) -> None:
    """Give a conversation a long history that ends at `end_s`."""
    rng = random.Random(rid)
    page.page.set_messages(
        rid,
        [
            Message(f"m_{rid}_{number}", (end_s - 60 * (messages - number)) * SECOND_US, rng.choice(SENDERS), "…")
            for number in range(messages)
        ],
    )
    page.touch([rid], end_s)


def conversation_of(request: httpx.Request) -> str | None:
    """Whose messages are asked for."""
    parts = request.url.path.split("/")
    return parts[-2] if parts[-1] == "messages" else None


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_every_message_arrives_and_says_how_its_conversation_stands(order: str, settings: Settings) -> None:
    """In either order inside an answer; then only what is new is asked for."""
    async with shop(settings, customers=60, days=20, message_order=order, strip_channel_prefix=True) as page:
        fill(page, next(iter(page.page.threads.latest)), 100)
        await page.run_all()
        assert await page.wrong() == []
        await page.later(600)
        page.world.say(page.page_id, next(iter(page.page.threads.latest)), "customer")
        told = page.world.message(page.page_id, 8)
        await page.later(20)
        page.wire.paths.clear()
        await page.run()
        assert await page.wrong() == []
        assert len(told) <= page.wire.calls("/messages") <= 2 * (len(told) + 1)


async def test_more_messages_than_an_answer_come_between_two_passes(settings: Settings) -> None:
    """It is read back to what the last complete reading had, and not to the beginning."""
    async with shop(settings, customers=0) as page:
        rid = page.world.open_conversation(page.page_id)
        fill(page, rid, 400)
        await page.run_all()
        await page.later(600)
        for _ in range(95):
            page.world.say(page.page_id, rid, "customer")
            page.world.step(1)
        await page.later(20)
        page.wire.paths.clear()
        await page.run()
        assert await page.wrong() == []
        assert page.wire.calls("/messages") <= 6


async def test_killed_at_any_call_it_goes_on(settings: Settings) -> None:
    """List, messages and marks: each call in turn is the last one of a worker."""
    async with shop(settings, customers=20) as page:
        fill(page, next(iter(page.page.threads.latest)), 150)
        deaths, left = 0, 0

        def before(_: httpx.Request) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        page.wire.before = before
        for left in range(0, 400, 3):  # noqa: B007 - counted down by `before`
            try:
                await list_pass(page, "backfill")
                await page.drain()
                break
            except Killed:
                deaths += 1
            except BaseExceptionGroup:
                deaths += 1
        page.wire.before = lambda _: None
        await page.run_all()
        assert await page.wrong() == []
        assert deaths >= 3


async def test_a_long_conversation_goes_on_where_its_reading_was_stopped(settings: Settings) -> None:
    """However short the time it is given; what is new meanwhile is read first, what was deleted shifts nothing."""
    async with shop(settings, customers=0) as page:
        rid = page.world.open_conversation(page.page_id)
        fill(page, rid, 450)
        await list_pass(page, "incremental")
        rounds = 0
        while True:
            started = len(page.wire.paths)
            drained = await page.drain(stop=lambda at=started: len(page.wire.paths) - at >= 5)
            if drained.is_complete:
                break
            rounds += 1
            assert (await page.rows())[rid]["messagesDue"]
            assert rounds < 20, "it never ends"
            if rounds == 2:
                await page.later(60)
                for _ in range(70):
                    page.world.say(page.page_id, rid, "customer")
                    page.world.step(2)
                del page.page.messages(rid)[370:380]
                await page.later(20)
                await list_pass(page, "incremental")
        assert await page.wrong() == []
        assert rounds >= 4
        assert "messagesRest" not in (await page.rows())[rid]


async def test_how_far_a_long_reading_came_outlives_the_process(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one that is longer than a worker's life would never be read."""
    monkeypatch.setattr(messages_module, "KEEP_EVERY", 4)
    async with shop(settings, customers=0) as page:
        rid = page.world.open_conversation(page.page_id)
        fill(page, rid, 500)
        await list_pass(page, "incremental")
        for _ in range(8):
            started = len(page.wire.paths)

            def before(_: httpx.Request, at: int = started) -> None:
                if len(page.wire.paths) - at > 8:
                    raise Killed

            page.wire.before = before
            try:
                drained = await page.drain()
            except BaseExceptionGroup:
                continue
            except Killed:
                continue
            assert drained.is_complete
            break
        assert await page.wrong() == []


async def test_a_conversation_that_cannot_be_read_stops_no_other(settings: Settings) -> None:
    """It is set aside by name and tried again later; so is a message that cannot be read."""
    async with shop(settings, customers=0) as page:
        refused, odd, *good = (page.world.open_conversation(page.page_id) for _ in range(6))
        for rid in (refused, odd, *good):
            page.world.say(page.page_id, rid, "customer")
            bad = page.world.say(page.page_id, rid, "agent")

        def change(request: httpx.Request, body: Body) -> Body:
            if conversation_of(request) == refused:
                return {"success": False, "error_code": 999, "message": "no"}
            if conversation_of(request) == odd:
                body["messages"] = [*body["messages"], {"id": bad + "_odd", "inserted_at": None}, None]
            return body

        page.wire.change = change
        ran = await page.run()
        assert ran.is_ok
        report = ran.report()
        assert (report["conversations"], report["failed"], report["set_aside"]) == (5, 1, 2)
        letters = await page.deps.database["dead_letters"].find({"kind": "row"}).to_list(None)
        names = sorted(each["rowId"] for each in letters)
        assert set(names[:2]) == {f"all of {refused}", f"{bad}_odd"}
        assert names[2].startswith("unnamed")
        assert names[2].endswith(odd)
        assert refused in (await page.wrong())[0]
        page.wire.change = lambda _, body: body
        page.wire.paths.clear()
        await page.drain()
        assert page.wire.calls("/messages") == 0, "it is left alone for a while"
        await page.later(120)
        await page.drain()
        assert await page.wrong() == []


async def test_one_that_fails_is_left_and_a_page_that_fails_is_told_of(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several in a row may be deleted ones, so the page is asked whose fault it is; a token that is refused is its."""
    monkeypatch.setattr(pancake_client, "wait_s", lambda *_, **__: 0.0)
    async with shop(settings, customers=0) as page:
        ids = [page.world.open_conversation(page.page_id) for _ in range(8)]
        for rid in ids:
            page.world.say(page.page_id, rid, "customer")
        await list_pass(page, "incremental")

        def change(request: httpx.Request, body: Body) -> Body:
            return {"success": False} if {conversation_of(request), request.url.path[-5:]} & failing else body

        failing = set(ids[:5])
        page.wire.change = change
        drained = await page.drain()
        assert (drained.conversations, drained.failed, drained.is_complete) == (3, 5, True)
        await page.later(120)
        page.touch(ids, START_S + 100)
        await list_pass(page, "incremental")
        failing = {*ids, "/tags"}
        with pytest.raises(Transient):
            await page.drain()
        page.wire.change = lambda request, body: (
            {"success": False, "error_code": 102} if conversation_of(request) else body
        )
        await page.later(600)
        with pytest.raises(TokenRejected):
            await page.drain()
        page.wire.change = lambda _, body: body
        await page.drain()
        assert await page.wrong() == []


async def test_what_changes_while_it_is_read_is_read_once_more(settings: Settings) -> None:
    """By the next pass: the mark is that of the version whose messages were asked for."""
    async with shop(settings, customers=0) as page:
        rid = page.world.open_conversation(page.page_id)
        page.world.say(page.page_id, rid, "customer")
        await list_pass(page, "incremental")
        conversations = page.deps.conversations
        (unread,) = await conversations.unread(page.page_id, START_S, 10)
        await page.later(10)
        page.world.say(page.page_id, rid, "agent")
        await page.later(20)
        await list_pass(page, "incremental")
        await conversations.have_read(unread, unread.stamp, 0.0)
        assert (await page.rows())[rid]["messagesDue"]
        await asyncio.gather(page.drain(), page.drain())
        assert not (await page.rows())[rid]["messagesDue"]
        await conversations.have_read(unread, unread.stamp, 0.0)  # a slow one that began before
        await list_pass(page, "incremental")
        assert not (await page.rows())[rid]["messagesDue"]
        assert await page.wrong() == []


async def test_the_recent_ones_come_first_and_the_rest_with_the_backfill(settings: Settings) -> None:
    """Whoever wrote a minute ago must not wait behind the history."""
    async with shop(settings, customers=0) as page:
        old, *new = (page.world.open_conversation(page.page_id) for _ in range(4))
        fill(page, old, 60, end_s=START_S - 3 * 86_400)
        for place, rid in enumerate(new):
            fill(page, rid, 3, end_s=START_S - 1_000 * (3 - place))
        await page.run()
        asked = [path.split("/")[-2] for path in page.wire.paths if path.endswith("/messages")]
        assert set(asked) == set(new)
        rows = await page.rows()
        assert (rows[old]["messagesDue"], rows[old].get("lastSender")) == (True, None)
        await page.run("backfill")
        assert await page.wrong() == []


async def test_removed_messages_neither_wait_nor_answer(settings: Settings) -> None:
    """A customer takes back what they wrote, staff an answer."""
    async with shop(settings, customers=0) as page:
        rid = page.world.open_conversation(page.page_id)
        first = page.world.say(page.page_id, rid, "customer", at=START_S)
        answer = page.world.say(page.page_id, rid, "agent", at=START_S + 1)
        removed: set[str] = set()

        def change(request: httpx.Request, body: Body) -> Body:
            for row in body.get("messages", []):
                row["is_removed"] = row["id"] in removed
            return body

        page.wire.change = change
        for removed, waits in (({answer}, START_S), ({first}, None), ({first, answer}, None)):
            await page.deps.database["conversations"].update_many({}, {"$set": {"messagesDue": True}})
            await page.run()
            assert (await page.rows())[rid]["awaitingReplySince"] == waits, removed
        assert (await page.rows())[rid]["lastSender"] is None


Write = Callable[[], Awaitable[None]]


def raw(number: int, sender: str, at_s: int, page_id: str) -> Body:
    """A message as lists and webhooks bring it."""
    who: dict[str, Any] = {"id": "777"} if sender == "customer" else {"id": page_id}
    if sender == "bot":
        who |= {"is_automated": True, "admin_name": "Botcake"}
    return {"id": f"m{number}", "inserted_at": datetime.fromtimestamp(at_s, UTC).isoformat(), "from": who}


class Slow(Messages):
    """Whose first look at the messages takes until something else has happened."""

    meanwhile: Write | None = None

    async def deciding(self, conversation_id: str) -> Any:
        """As theirs."""
        said = await super().deciding(conversation_id)
        if self.meanwhile:
            write, self.meanwhile = self.meanwhile, None
            await write()
        return said


class Unversioned(Conversations):
    """As if no version were there: what is written last stays."""

    async def stand(self, conversation_id: str, version: int, standing: Any) -> int | None:
        """Whatever the version."""
        found = await self.get(conversation_id)
        return await super().stand(conversation_id, (found or {})["messageVersion"], standing)


@pytest.mark.parametrize(("kind", "waits_in_the_end"), [(Conversations, False), (Unversioned, True)])
async def test_two_writers_at_once_never_leave_a_stale_standing(
    kind: type[Conversations], waits_in_the_end: bool, settings: Settings
) -> None:
    """One reads that the customer waits, the other stores the answer, and the first one writes last.

    Without the version the customer would wait for ever.
    """
    async with shop(settings, customers=0) as page:
        database, page_id = page.deps.database, page.page_id
        conversations, slow = kind(database), Slow(database)
        await database["conversations"].insert_one({"conversationId": "c", "pageId": page_id, "updatedAt": 1})

        async def answered() -> None:
            answer = raw(2, "agent", 1_001, page_id)
            await learn(conversations, page.deps.messages, page_id, "c", [answer], NOW)

        slow.meanwhile = answered
        await learn(conversations, slow, page_id, "c", [raw(1, "customer", 1_000, page_id)], NOW)
        stored = (await page.rows())["c"]
        assert (stored["awaitingReplySince"] is not None) == waits_in_the_end


async def test_in_whatever_order_messages_are_learnt_they_say_the_same(settings: Settings) -> None:
    """Side by side, in parts, some of them twice."""
    async with shop(settings, customers=0) as page:
        deps, page_id = page.deps, page.page_id
        for seed in range(4):
            rng, rid = random.Random(seed), f"c{seed}"
            await deps.database["conversations"].insert_one({"conversationId": rid, "pageId": page_id, "updatedAt": 1})
            senders = [rng.choice(("customer", "customer", "agent", "bot")) for _ in range(20)]
            times = [1_000 + rng.randrange(40) for _ in senders]
            raws = [raw(seed * 100 + place, who, times[place], page_id) for place, who in enumerate(senders)]
            parts = [rng.sample(raws, rng.randint(1, 5)) for _ in range(8)] + [[each] for each in raws]
            rng.shuffle(parts)
            await asyncio.gather(*(learn(deps.conversations, deps.messages, page_id, rid, part, NOW) for part in parts))
            said = [
                Message(row["id"], at * SECOND_US, who, "") for row, at, who in zip(raws, times, senders, strict=True)
            ]
            assert stands_of((await page.rows())[rid]) == told_by(said)
