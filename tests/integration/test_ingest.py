"""Events of Pancake's webhooks in the store: how conversations stand, whatever came first, twice, or at once."""

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo.errors import AutoReconnect

from src import catalog
from src.clients.mongo import Document
from src.deps import Deps, NoHands, open_deps
from src.engine.job import Job
from src.errors import Malformed, Snooze
from src.jobs.events import JOBS, ingest_pancake_event
from src.rules.times import unix_micros
from src.rules.waiting import Said, standing
from src.settings import MongoSettings, RedisSettings, Settings, load_settings
from src.sync.conversations import conversation_document
from src.sync.ingest import SEEN, Ingest
from tests.conftest import Servers
from tests.harness.hooks import CUSTOMER, PAGE, messaging, open_door, posted, staff, with_hooks
from tests.harness.lanes import serving, until
from tests.simulators.pancake import RealClock, World, running

pytestmark = pytest.mark.anyio

CONVERSATION = f"{PAGE}_{CUSTOMER}"
BOT = {"id": PAGE, "name": "Demo Shop", "admin_name": "Botcake", "is_automated": True}


def at(second: int) -> str:
    """A moment as Pancake writes it."""
    return f"2026-05-14T15:00:{second:02d}.250000"


def unix(second: int) -> int:
    """The same in Unix seconds."""
    return int(datetime(2026, 5, 14, 15, 0, second, tzinfo=UTC).timestamp())


@dataclass
class Hands(NoHands):
    """Remembers what was spawned."""

    spawned: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def spawn(self, name: str, arguments: dict[str, Any], *, job_id: str | None = None, group: str = "") -> bool:
        self.spawned.append((name, arguments))
        return True


@dataclass
class Shop:
    """What the tests ask. `deps` are of a shop with one page."""

    deps: Deps

    async def hear(self, event: dict[str, Any], received_at: float = 0.0) -> str:
        """One event, as the job takes it in."""
        return await ingest_pancake_event(self.deps, event, received_at)

    async def conversation(self, conversation_id: str = CONVERSATION) -> Document:
        """As stored."""
        found = await self.deps.database["conversations"].find_one({"conversationId": conversation_id})
        assert found is not None
        return found

    async def message(self, message_id: str) -> Document:
        """As stored."""
        found = await self.deps.database["messages"].find_one({"messageId": message_id})
        assert found is not None
        return found

    async def stands(self) -> tuple[Any, ...]:
        """How the conversation stands."""
        found = await self.conversation()
        names = ("lastSender", "lastMessageAt", "awaitingReplySince", "awaitingMessageId", "repliedAt", "repliedBy")
        return tuple(found.get(name) for name in names)

    def beside(self, database: Any) -> "Shop":
        """Another process of the same shop."""
        return Shop(replace(self.deps, ingest=Ingest(database, self.deps.redis, self.deps.ingest.pages)))

    async def forget(self) -> None:
        """Begin anew."""
        for name in ("conversations", "messages", "posts"):
            await self.deps.database[name].delete_many({})
        await self.deps.redis.flushdb()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all tests here, because they share a database whose indexes take a while."""
    return "asyncio"


@pytest.fixture(scope="module")
async def opened(servers: Servers) -> AsyncIterator[Deps]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    settings = load_settings(None).replace(
        redis=RedisSettings(url=SecretStr(servers.redis_url)),
        mongo=MongoSettings(uri=SecretStr(servers.mongodb_uri), database=name),
    )
    async with open_deps(with_hooks(settings, PAGE)) as deps:
        yield deps
        await deps.database.client.drop_database(name)


@pytest.fixture
async def shop(opened: Deps) -> Shop:
    shop = Shop(replace(opened, hands=Hands()))
    await shop.forget()
    return shop


async def test_a_customer_who_writes_waits(shop: Shop) -> None:
    """Known from the event alone, before any list was read; and the list is to be read."""
    assert await shop.hear(messaging("m_1", at=at(1))) == "stored"
    assert await shop.stands() == ("customer", unix(1), unix(1), "m_1", None, None)
    found = await shop.conversation()
    assert (found["pageId"], found["type"], found["psid"]) == (PAGE, "INBOX", CUSTOMER)
    assert (found["customerName"], found["tags"], found["assigneeIds"]) == ("Customer One", ["57"], [])
    assert (found["seen"], found["messagesDue"]) == (False, True)
    message = await shop.message("m_1")
    assert (message["conversationId"], message["pageId"], message["sender"]) == (CONVERSATION, PAGE, "customer")


async def test_an_answer_of_the_page_ends_the_wait_and_a_bots_does_not(shop: Shop) -> None:
    """What the page writes comes back as an event, too."""
    await shop.hear(messaging("m_1", at=at(1)))
    await shop.hear(messaging("m_2", at=at(2), sender=BOT))
    assert await shop.stands() == ("bot", unix(2), unix(1), "m_1", None, None)
    await shop.hear(messaging("m_3", at=at(3), sender=staff()))
    assert await shop.stands() == ("agent", unix(3), None, None, unix(3), "u1")


async def test_events_may_come_in_any_order_and_twice(shop: Shop) -> None:
    """There is no time of sending in them, so the messages' own times decide."""
    events = [
        messaging("m_1", at=at(1)),
        messaging("m_2", at=at(2), sender=staff()),
        messaging("m_3", at=at(3)),
        messaging("m_4", at=at(4), sender=BOT),
    ]
    for order in itertools.permutations(events):
        await shop.forget()
        for event in (*order, order[0]):
            await shop.hear(event)
        assert await shop.stands() == ("bot", unix(4), unix(3), "m_3", unix(2), "u1")


@pytest.mark.parametrize("seed", range(3))
async def test_two_workers_at_once_never_leave_a_stale_standing(seed: int, shop: Shop) -> None:
    """Messages of a few conversations in a wild order, through two processes' worth of batches."""
    rng = random.Random(seed)
    senders: list[dict[str, Any] | None] = [None, None, staff(), BOT]
    kinds = {0: "customer", 2: "agent", 3: "bot"}
    heard: dict[str, list[Said]] = {}
    events = []
    for number in range(120):
        customer, place = str(rng.randrange(4)), rng.choice((0, 0, 2, 3))
        moment = f"2026-05-14T15:{rng.randrange(60):02d}:{rng.randrange(60):02d}.{rng.randrange(10**6):06d}"
        events.append(messaging(f"m_{number}", customer=customer, at=moment, sender=senders[place]))
        stamp = unix_micros(datetime.fromisoformat(moment).replace(tzinfo=UTC))
        said = Said(f"m_{number}", stamp, kinds[place], "u1" if place == 2 else None)  # type: ignore[arg-type]
        heard.setdefault(f"{PAGE}_{customer}", []).append(said)
    shops = (shop, shop.beside(shop.deps.database))
    await asyncio.gather(*(rng.choice(shops).hear(event) for event in events))
    for conversation_id, said_all in heard.items():
        found, stands = await shop.conversation(conversation_id), standing(said_all)
        assert found["awaitingMessageId"] == (stands.waiting.message_id if stands.waiting else None)
        assert found["lastSender"] == (stands.last.sender if stands.last else None)
        assert found["repliedAt"] == (stands.replied_us // 1_000_000 if stands.replied_us else None)


class Held:
    """A database whose `conversations` let a bulk write wait: the `number`th of them, until `go` is set."""

    def __init__(self, database: Any, number: int) -> None:
        self._database, self._left = database, number
        self.waits, self.go = asyncio.Event(), asyncio.Event()

    def __getitem__(self, name: str) -> Any:
        return self if name == "conversations" else self._database[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database["conversations"], name)

    async def bulk_write(self, writes: Any, **options: Any) -> Any:
        """As the collection's."""
        self._left -= 1
        if self._left == 0:
            self.waits.set()
            await self.go.wait()
        return await self._database["conversations"].bulk_write(writes, **options)


async def test_who_worked_out_a_standing_while_another_message_came_works_it_out_again(shop: Shop) -> None:
    """Read before the answer and written after it, the customer would wait for ever."""
    database = Held(shop.deps.database, 2)  # the first is what was told of the conversation
    slow = shop.beside(database)
    hearing = asyncio.create_task(slow.hear(messaging("m_1", at=at(1))))
    await database.waits.wait()
    await shop.hear(messaging("m_2", at=at(2), sender=staff()))
    database.go.set()
    await hearing
    assert await shop.stands() == ("agent", unix(2), None, None, unix(2), "u1")


async def test_a_conversation_that_goes_while_its_standing_is_worked_out_waits_for_nobody(shop: Shop) -> None:
    """The sweep that marks it and the event that speaks of it know nothing of each other."""
    database = Held(shop.deps.database, 2)
    slow = shop.beside(database)
    hearing = asyncio.create_task(slow.hear(messaging("m_1", at=at(1))))
    await database.waits.wait()
    await shop.deps.conversations.remove(CONVERSATION, datetime.now(UTC) + timedelta(seconds=5))
    database.go.set()
    await hearing
    assert (await shop.stands())[2:4] == (None, None)


class Away(Held):
    """A database that goes away in the middle."""

    async def bulk_write(self, writes: Any, **options: Any) -> Any:
        """The connection drops."""
        raise AutoReconnect("away")


async def test_an_outage_of_mongodb_costs_an_event_no_try(shop: Shop) -> None:
    """However long it lasts: the event waits, and is stored afterwards."""
    away = shop.beside(Away(shop.deps.database, 0))
    with pytest.raises(Snooze):
        await away.hear(messaging("m_1", at=at(1)))
    assert await shop.hear(messaging("m_1", at=at(1))) == "stored"
    assert (await shop.stands())[3] == "m_1"


async def test_of_two_versions_of_a_message_the_one_that_came_in_later_stays(shop: Shop) -> None:
    """Whichever is ingested last."""
    now = time.time()
    await shop.hear(messaging("m_1", text="mới"), now)
    await shop.hear(messaging("m_1", text="cũ"), now - 5)
    assert (await shop.message("m_1"))["messageData"]["original_message"] == "mới"
    await shop.hear(messaging("m_1", text="mới nhất"), now + 5)
    assert (await shop.message("m_1"))["messageData"]["original_message"] == "mới nhất"
    assert (await shop.conversation())["snippet"] == "mới nhất"


async def test_versions_in_one_batch_do_not_hide_each_other(shop: Shop) -> None:
    """Many jobs share a batch; the latest of them stays, whichever was asked first."""
    now = time.time()
    events = [(messaging("m_1", text=f"bản {n}"), now + n / 100) for n in range(30)]
    random.Random(1).shuffle(events)
    await asyncio.gather(*(shop.hear(event, received_at) for event, received_at in events))
    assert (await shop.message("m_1"))["messageData"]["original_message"] == "bản 29"
    assert (await shop.conversation())["snippet"] == "bản 29"


async def test_a_removed_message_waits_for_nobody(shop: Shop) -> None:
    """The customer took it back."""
    await shop.hear(messaging("m_1", at=at(1)))
    await shop.hear(messaging("m_1", at=at(1), is_removed=True))
    assert (await shop.stands())[:4] == (None, None, None, None)
    assert (await shop.message("m_1"))["isRemoved"] is True


async def test_a_removed_conversation_waits_for_nobody_until_somebody_writes_again(shop: Shop) -> None:
    """Deleted by an event, back by another; an older one does not bring it back."""
    now = time.time()
    await shop.hear(messaging("m_1", at=at(1)), now)
    await shop.hear(messaging("m_1", at=at(1), conversation={"is_removed": True}), now + 2)
    found = await shop.conversation()
    assert found["deletedAt"] is not None
    assert (await shop.stands())[2:4] == (None, None)
    await shop.hear(messaging("m_2", at=at(2)), now + 1)
    assert (await shop.conversation())["deletedAt"] is not None
    await shop.hear(messaging("m_3", at=at(3)), now + 3)
    found = await shop.conversation()
    assert "deletedAt" not in found
    assert found["awaitingMessageId"] == "m_1"


async def test_a_plan_goes_with_the_wait_it_was_made_for(shop: Shop) -> None:
    """The monitor plans a wait once; another message of it changes nothing, another wait is planned anew."""
    await shop.hear(messaging("m_1", at=at(1)))
    plan = {"nextStepAt": 5, "policyVersion": "v"}
    await shop.deps.database["conversations"].update_one({}, {"$set": plan})
    await shop.hear(messaging("m_2", at=at(2)))
    assert (await shop.conversation()).items() >= plan.items()
    await shop.hear(messaging("m_3", at=at(3), sender=staff()))
    assert not plan.keys() & (await shop.conversation()).keys()


async def test_the_same_news_are_stored_once(shop: Shop) -> None:
    """A repetition costs one look; and where Redis forgot, it changes nothing."""
    now = time.time()
    assert await shop.hear(messaging(), now) == "stored"
    before = await shop.conversation(), await shop.message("m_1")
    assert await shop.hear(messaging(), now + 1) == "known"
    assert (await shop.conversation(), await shop.message("m_1")) == before
    await shop.deps.redis.flushdb()
    assert await shop.hear(messaging(), now + 1) == "stored"
    assert (await shop.stands())[2:4] == (before[0]["awaitingReplySince"], "m_1")
    assert await shop.deps.database["messages"].count_documents({}) == 1


async def test_news_count_as_known_only_once_they_are_stored(shop: Shop) -> None:
    """Killed in between, they must be stored by the next try."""
    with pytest.raises(Malformed):
        await shop.hear(messaging(attachments=[{"a\x00b": 1}]))
    assert not await shop.deps.redis.keys(SEEN + "*")


async def test_a_row_that_cannot_be_held_harms_no_other_of_its_batch(shop: Shop) -> None:
    """It is told to its own job alone."""
    bad = messaging("bad", customer="1", attachments=[{"a\x00b": 1}])
    good = [messaging(f"m_{n}", customer=str(n + 2)) for n in range(10)]
    ends = await asyncio.gather(*(shop.hear(event) for event in (*good[:5], bad, *good[5:])), return_exceptions=True)
    assert [str(end) for end in ends if isinstance(end, str)] == ["stored"] * 10
    assert isinstance(ends[5], Malformed)
    assert await shop.deps.database["messages"].count_documents({}) == 10
    assert await shop.deps.database["conversations"].count_documents({}) == 10


@pytest.mark.parametrize(
    "event",
    [
        messaging(inserted_at=None),
        messaging(inserted_at="yesterday"),
        {"event_type": "messaging", "page_id": PAGE, "data": {}},
        posted(inserted_at=None),
        {"event_type": "post", "page_id": PAGE, "data": {}},
    ],
    ids=["no time", "no such time", "no message", "post without a time", "no post"],
)
async def test_what_cannot_be_read_is_refused_whole(event: dict[str, Any], shop: Shop) -> None:
    """Nothing of it is stored, and the reason quotes nothing of it."""
    with pytest.raises(Malformed) as e:
        await shop.hear(event)
    assert "Customer" not in str(e.value)
    for name in ("messages", "conversations", "posts"):
        assert await shop.deps.database[name].count_documents({}) == 0


async def test_what_the_list_says_later_stays(shop: Shop) -> None:
    """The list has more, and is asked again and again; how things stand is not its affair."""
    received_at = time.time() - 60
    await shop.hear(messaging("m_1", at=at(1)), received_at)
    row: dict[str, Any] = {"id": CONVERSATION, "type": "INBOX", "from": {"id": CUSTOMER, "name": "Customer One"}}
    row |= {"updated_at": at(1), "inserted_at": at(0), "seen": True, "tags": [{"id": 3, "text": "VIP"}], "snippet": "x"}
    _, document = conversation_document(PAGE, row)
    await shop.deps.conversations.rows.upsert([document], datetime.now(UTC))
    found = await shop.conversation()
    assert (found["updatedAt"], found["tags"], found["tagNames"], found["seen"]) == (unix(1), ["3"], ["VIP"], True)
    assert found["awaitingMessageId"] == "m_1"
    await shop.hear(messaging("m_2", at=at(2)), received_at + 1)
    found = await shop.conversation()
    assert (found["tags"], found["seen"]) == (["3"], True)
    await shop.hear(messaging("m_3", at=at(3)), time.time() + 1)
    found = await shop.conversation()
    assert (found["tags"], found["seen"], found["updatedAt"]) == (["57"], False, unix(1))


async def test_what_was_said_of_a_conversation_last_stays(shop: Shop) -> None:
    """An event that was held up on its way does not bring back what was before."""
    now = time.time()
    await shop.hear(messaging("m_0", at=at(0)), now - 10)
    await shop.hear(messaging("m_1", at=at(1), conversation={"seen": True, "tags": [1, 2]}), now)
    await shop.hear(messaging("m_2", at=at(2), conversation={"seen": False, "tags": []}), now - 1)
    found = await shop.conversation()
    assert (found["seen"], found["tags"]) == (True, ["1", "2"])
    assert found["lastMessageAt"] == unix(2)


async def test_an_event_without_a_message_changes_what_is_known_and_begins_nothing(shop: Shop) -> None:
    """Without a time of change, what the list says of it could not be told from older news."""
    alone = {**messaging(), "data": {"conversation": messaging(conversation={"tags": [9]})["data"]["conversation"]}}
    await shop.hear(alone)
    assert await shop.deps.database["conversations"].count_documents({}) == 0
    await shop.hear(messaging())
    await shop.hear({**alone, "data": {"conversation": {**alone["data"]["conversation"], "seen": True}}})
    found = await shop.conversation()
    assert (found["tags"], found["seen"], found["awaitingMessageId"]) == (["9"], True, "m_1")


async def test_a_post_is_stored_and_takes_nothing_from_what_the_list_said(shop: Shop) -> None:
    """Events carry fewer fields than rows."""
    rich = {"postId": f"{PAGE}_1", "pageId": PAGE, "type": "photo", "message": "cũ", "insertedAt": 1_778_731_321}
    raw = {"id": f"{PAGE}_1", "comment_count": 12, "message": "cũ"}
    await shop.deps.posts.upsert([{**rich, "panCakeData": raw}], datetime(2026, 5, 14, tzinfo=UTC))
    assert await shop.hear(posted(message="mới")) == "stored"
    assert await shop.hear(posted(message="mới")) == "known"
    assert await shop.hear(posted(f"{PAGE}_2")) == "stored"
    old, new = [found async for found in shop.deps.database["posts"].find().sort("postId", 1)]
    assert (old["message"], old["panCakeData"]["comment_count"], old["panCakeData"]["message"]) == ("mới", 12, "mới")
    assert (new["insertedAt"], new["panCakeData"]["type"]) == (1_778_731_321, "photo")


async def test_others_are_left_alone(shop: Shop) -> None:
    """Neither a stranger's page nor a kind of event that is not known is a failure."""
    assert await shop.hear(messaging(page_id="999")) == "ignored"
    assert await shop.hear({"event_type": "order", "page_id": PAGE, "data": {}}) == "ignored"
    assert await shop.hear({"event_type": "subscription", "data": {"subscription": {"id": "A"}}}) == "noted"
    assert await shop.deps.database["conversations"].count_documents({}) == 0


async def test_the_pages_own_id_is_used_whatever_the_event_calls_it(settings: Settings) -> None:
    """With the prefix missing, in the event and in the sender of an answer."""
    async with open_deps(with_hooks(settings, "zl_55")) as deps:
        shop = Shop(replace(deps, hands=Hands()))
        await shop.hear(messaging(page_id="55", at=at(1)))
        await shop.hear(messaging("m_2", page_id="55", at=at(2), sender={"id": "55", "name": "Demo Shop"}))
        found = await shop.conversation(f"55_{CUSTOMER}")
    assert (found["pageId"], found["lastSender"], found["awaitingReplySince"]) == ("zl_55", "agent", None)


async def test_events_wake_the_reading_of_their_page_now_and_then(shop: Shop) -> None:
    """The list tells what events did not; many events ask for it once."""
    shops = shop.beside(shop.deps.database), shop.beside(shop.deps.database)
    for number in range(6):
        await shops[number % 2].hear(messaging(f"m_{number}"))
    assert isinstance(shop.deps.hands, Hands)
    assert shop.deps.hands.spawned == [("sync_page_conversations", {"page_id": PAGE, "mode": "incremental"})]


def polls() -> tuple[Job[Any], list[str]]:
    """A job in the place of the one that reads the list, and the pages it was called for."""
    pages: list[str] = []

    async def sync_page_conversations(deps: Deps, page_id: str, mode: str = "incremental") -> str:
        pages.append(page_id)
        return "synced"

    return Job(catalog.sync_page_conversations, sync_page_conversations), pages


async def test_what_cannot_be_read_is_a_dead_letter_and_stops_nothing(settings: Settings) -> None:
    """With the whole event in it, so that it can be replayed."""
    poll, _ = polls()
    async with serving(with_hooks(settings, PAGE), *JOBS, poll) as house:
        bad = await house.enqueue("ingest_pancake_event", event=messaging(inserted_at="?"), received_at=1.0)
        await house.enqueue("ingest_pancake_event", event=messaging("m_2"), received_at=2.0)
        await house.settled()
        assert (await house.letter(bad))["error"].startswith("the message of an event cannot be read")
        assert await house.deps.database["messages"].count_documents({}) == 1


async def test_from_pancake_to_who_waits_within_a_second(settings: Settings) -> None:
    """A living shop posts to our door; lanes ingest; what is stored is what was said, and who waits is known."""
    world = World(pages=1, seed=7, customers=20, days=1, clock=RealClock())
    (page,) = world.pages.values()
    poll, polled = polls()
    ours = with_hooks(settings, page.page_id)
    switches = {"webhook_duplicate_pct": 30.0, "webhook_post_in_inbox": True}
    async with open_door(ours) as door, running(world, switches={**switches, "webhook_url": door.url}) as pancake:
        async with serving(ours, *JOBS, poll, max_concurrent_jobs=50) as house:
            messages, conversations = (house.deps.database[name] for name in ("messages", "conversations"))
            said: list[tuple[Any, Any]] = []
            for life in world.lives.values():
                life.listeners.append(lambda _, thread, message: said.append((thread, message)))
            began = time.monotonic()
            for _ in range(4):
                world.message(page.page_id, 10)
            expected = {message.mid for _, message in said}
            assert expected

            async def all_there() -> bool:
                return await messages.count_documents({"messageId": {"$in": list(expected)}}) == len(expected)

            await until(all_there)
            await house.settled()
            took_s = time.monotonic() - began
            last = {thread.rid: message for thread, message in said}
            for conversation_id, message in last.items():
                found = await conversations.find_one({"conversationId": conversation_id})
                assert found is not None
                who = {"native": "agent", "auto": "bot"}.get(message.sender, message.sender)
                assert found["lastSender"] == who
                if who == "customer":
                    assert found["awaitingReplySince"] is not None
                if who == "agent":
                    assert found["awaitingReplySince"] is None
        assert pancake.webhooks.failed == 0
    assert polled == [page.page_id]
    assert took_s < 2.0  # a second, and as much for a machine that is busy
