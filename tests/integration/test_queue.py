"""The queue as apps use it: what is taken, what is refused before anything is stored, and on whose connection."""

import asyncio
import json
import pickle
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool, Redis

from src.engine import keys
from src.engine.wire import read_job
from src.enqueue import JobQueue, Misuse, Transient, WebhookEvent, deserialize, serialize
from src.rules.webhook_event import MAX_DATA_BYTES
from src.settings import Settings
from tests.simulators.redis_proxy import running

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    async with Redis.from_url(_url(settings)) as opened:
        yield opened


@pytest.fixture
def queue(redis: Redis) -> JobQueue:
    return JobQueue(redis)


def _url(settings: Settings) -> str:
    return settings.redis.address.get_secret_value()


@asynccontextmanager
async def aclosing_pool(redis: Redis) -> AsyncIterator[None]:
    """Closes the pool too, whoever made it."""
    try:
        yield
    finally:
        await redis.aclose(close_connection_pool=True)


async def stored(redis: Redis) -> int:
    """How many jobs are there, by their content."""
    return len([key async for key in redis.scan_iter(keys.JOB + "*")])


Call = Callable[[JobQueue], Awaitable[object]]
GOOD: dict[str, Any] = {"merchant_id": "m1", "event": "payment.completed", "payload": {"id": 1}}
LOOP: dict[str, Any] = {}
LOOP["self"] = LOOP


def _event(**fields: Any) -> WebhookEvent:
    return WebhookEvent(**{**GOOD, **fields})


WRONG: dict[str, tuple[Call, str]] = {
    "unknown job": (lambda q: q.enqueue("sync_everything"), "there is no job 'sync_everything'; there are "),
    "no argument": (lambda q: q.enqueue("sync_page_customers"), "page_id: field required"),
    "wrong argument": (lambda q: q.enqueue("sync_page_customers", page_id="1", mode="all"), "mode: "),
    "argument too many": (lambda q: q.enqueue("sync_pages", page_id="1"), "page_id: "),
    "negative priority": (lambda q: q.enqueue("sync_pages", priority=-1), "priority must be 0 to 1000"),
    "too much priority": (lambda q: q.enqueue("sync_pages", priority=1001), "priority must be 0 to 1000"),
    "half a priority": (lambda q: q.enqueue("sync_pages", priority=1.5), "priority must be"),  # type: ignore[arg-type]
    "priority in words": (lambda q: q.enqueue("sync_pages", priority="1"), "priority must be"),  # type: ignore[arg-type]
    "negative delay": (lambda q: q.enqueue("sync_pages", delay_s=-0.1), "delay_s must be"),
    "endless delay": (lambda q: q.enqueue("sync_pages", delay_s=float("inf")), "delay_s must be"),
    "no delay": (lambda q: q.enqueue("sync_pages", delay_s=float("nan")), "delay_s must be"),
    "delay in words": (lambda q: q.enqueue("sync_pages", delay_s="1"), "delay_s must be"),  # type: ignore[arg-type]
    "object": (lambda q: q.enqueue_webhook("m1", "paid", {"at": object()}), "cannot be written as JSON"),
    "object by name": (lambda q: q.enqueue("deliver_webhook", **{**GOOD, "payload": {"a": object()}}), "as JSON"),
    "no number": (lambda q: q.enqueue_webhook("m1", "paid", {"amounts": [float("nan")]}), "holds NaN"),
    "infinite number": (lambda q: q.enqueue("deliver_webhook", **{**GOOD, "payload": {"a": float("inf")}}), "infinite"),
    "payload in itself": (lambda q: q.enqueue_webhook("m1", "paid", LOOP), "cannot be written as JSON"),
    "big integer": (lambda q: q.enqueue_webhook("m1", "paid", {"a": 2**70}), "cannot be written as JSON"),
    "big integer by name": (lambda q: q.enqueue("deliver_webhook", **{**GOOD, "payload": {"a": 2**70}}), "as JSON"),
    "name that is no text": (lambda q: q.enqueue_webhook("m1", "paid", {1: "a"}), "as JSON"),  # type: ignore[dict-item]
    "payload of another type": (lambda q: q.enqueue_webhook("m1", "paid", ["a"]), "payload: "),  # type: ignore[arg-type]
    "no merchant": (lambda q: q.enqueue_webhook("", "paid", {}), "needs a merchant_id and an event"),
    "no event": (lambda q: q.enqueue_webhook("m1", "", {}), "needs a merchant_id and an event"),
    "too big an event": (
        lambda q: q.enqueue_webhook("m1", "paid", {"x": "y" * (MAX_DATA_BYTES - len('{"x":""}') + 1)}),
        f"{MAX_DATA_BYTES + 1} bytes long",
    ),
    "too big a job": (lambda q: q.enqueue("sync_page_customers", page_id="1" * 600_000), "pass an id instead"),
    "one of many jobs": (
        lambda q: q.enqueue_many("sync_page_customers", [{"page_id": "1"}, {"page_id": "2"}, {"page": "3"}]),
        "page: ",
    ),
    "one of many events": (lambda q: q.enqueue_webhooks([_event(), _event(payload={"a": object()})]), "as JSON"),
    "unknown lane": (lambda q: q.pause("sink"), "there is no lane 'sink'; there are "),
}


@pytest.mark.parametrize(("call", "words"), WRONG.values(), ids=WRONG)
async def test_what_is_wrong_is_said_at_the_call(queue: JobQueue, redis: Redis, call: Call, words: str) -> None:
    """The app's developer reads what to change; nothing is stored, of many jobs not even those before the wrong one."""
    with pytest.raises(Misuse) as caught:
        await call(queue)
    assert words in str(caught.value)
    assert await redis.dbsize() == 0


async def test_an_event_of_just_the_limit_is_taken(queue: JobQueue) -> None:
    """256 KiB means 256 KiB, of JSON."""
    payload = {"x": "y" * (MAX_DATA_BYTES - len('{"x":""}'))}
    job_id = await queue.enqueue_webhook("m1", "paid", payload)
    info = await queue.job(job_id)
    assert info is not None
    assert (info.state, info.job, info.lane) == ("pending", "deliver_webhook", "webhooks")


async def test_an_event_is_taken_once_for_its_key(queue: JobQueue, redis: Redis) -> None:
    """A payment gateway that reports twice makes one delivery; other merchants may use the same keys."""
    first = await queue.enqueue_webhook("m1", "paid", {"id": 1}, idempotency_key="pay-1")
    assert await queue.enqueue_webhook("m1", "paid", {"id": 1}, idempotency_key="pay-1") == first
    ids = await queue.enqueue_webhooks(
        [
            _event(idempotency_key="pay-1"),
            _event(idempotency_key="pay-2"),
            _event(idempotency_key="pay-2"),
            _event(merchant_id="m2", idempotency_key="pay-1"),
            _event(),
            _event(),
        ]
    )
    assert ids[0] == first
    assert ids[1] == ids[2]
    assert len({first, *ids}) == 5
    assert await stored(redis) == 5


async def test_many_jobs_are_stored_in_order(queue: JobQueue, redis: Redis) -> None:
    """Ids come back one for one, and the lane runs them as they were given, over any number of round trips."""
    ids = await queue.enqueue_many("sync_page_customers", [{"page_id": str(number)} for number in range(1_201)])
    assert len(set(ids)) == 1_201
    assert await queue.waiting("sync", 2_000) == ids
    payload = await redis.get(keys.JOB + ids[700])
    assert read_job(payload).kwargs == {"page_id": "700"}


async def test_a_job_put_again_is_stored_once(queue: JobQueue, redis: Redis) -> None:
    """So a put whose answer was lost can be repeated: the ids are made before, not by Redis."""
    jobs = [queue.prepare("sync_page_customers", {"page_id": page_id}) for page_id in "123"]
    jobs += [queue.prepare("sync_pages", {}), queue.prepare("sync_pages", {}, delay_s=60, priority=3)]
    ids = await queue.put(jobs)
    assert ids == [job.job_id for job in jobs]
    assert await queue.put(jobs) == ids
    assert await queue.put([*jobs, *jobs]) == ids * 2
    assert await stored(redis) == 5
    stats = (await queue.stats())["sync"]
    assert (stats.pending, stats.scheduled) == (4, 1)


async def test_one_pass_a_page(queue: JobQueue) -> None:
    """The key a job declares makes duplicates of calls that mean the same; a caller's own key takes its place."""
    first = await queue.enqueue("sync_page_customers", page_id="100")
    assert await queue.enqueue("sync_page_customers", page_id="100", mode="incremental") == first
    assert await queue.enqueue("sync_page_customers", page_id=100) == first
    assert await queue.enqueue("sync_page_customers", page_id="100", mode="backfill") != first
    own = await queue.enqueue("sync_page_customers", page_id="100", unique_key="again")
    assert own != first
    assert await queue.enqueue("sync_page_customers", page_id="200", unique_key="again") == own
    assert await queue.enqueue("sync_pages", unique_key="again") != own


def _arq(url: str, serializer: Any, deserializer: Any) -> Redis:
    pool = BlockingConnectionPool.from_url(url)
    return ArqRedis(pool, job_serializer=serializer, job_deserializer=deserializer)


CONNECTIONS: dict[str, Callable[[str], Redis]] = {
    "redis": Redis.from_url,
    "decoded": lambda url: Redis.from_url(url, decode_responses=True),
    "resp3": lambda url: Redis.from_url(url, protocol=3),
    "resp3 decoded": lambda url: Redis.from_url(url, protocol=3, decode_responses=True),
    "arq with pickle": ArqRedis.from_url,
    "arq with json": lambda url: _arq(url, lambda job: json.dumps(job).encode(), json.loads),
    "arq with ours": lambda url: _arq(url, serialize, deserialize),
}


@pytest.mark.parametrize("connect", CONNECTIONS.values(), ids=CONNECTIONS)
async def test_it_works_on_the_connection_an_app_has(settings: Settings, connect: Callable[[str], Redis]) -> None:
    """An app need not open a second pool, and what its own jobs are written with does not matter to ours."""
    redis = connect(_url(settings))
    async with aclosing_pool(redis):
        queue = JobQueue(redis)
        first = await queue.enqueue("sync_page_customers", page_id="100", priority=2)
        assert await queue.enqueue("sync_page_customers", page_id="100") == first
        later = await queue.enqueue("sync_pages", delay_s=60)
        await redis.set(keys.TRIES + later, "1:0")  # as after a failed try
        await redis.execute_command("RPUSH", keys.ATTEMPTS + later, '{"at":"now","error":"refused","worker":"w"}')
        infos = [await queue.job(job_id) for job_id in (first, later, "nobody")]
        assert infos[2] is None
        assert [(info.state, info.attempt, info.error) for info in infos if info] == [
            ("pending", 1, None),
            ("retry", 2, "refused"),
        ]
        assert await queue.waiting("sync", 5) == [first, later]
        stats = (await queue.stats())["sync"]
        assert (stats.pending, stats.scheduled, stats.paused) == (1, 1, False)
        await queue.pause("sync")
        assert (await queue.stats())["sync"].paused
        await queue.resume("sync")
        assert not (await queue.stats())["sync"].paused


async def test_a_strangers_job_first_in_line_does_not_blind_anybody(queue: JobQueue, redis: Redis) -> None:
    """Bytes that are no text, under keys of arq's, cost the figures about that job and no more."""
    await redis.set(keys.JOB + "strange-1", pickle.dumps({"f": "chore"}))
    await redis.zadd("sync", dict[Any, Any]({"strange-1": 1, b"\xff": 2}))
    stats = (await queue.stats())["sync"]
    assert stats.pending == 2
    info = await queue.job("strange-1")
    assert info is not None
    assert (info.state, info.job) == ("pending", "?")
    assert (await queue.waiting("sync", 5))[0] == "strange-1"


async def test_a_queue_of_its_own_connection(settings: Settings) -> None:
    """`connect` is all an app without a Redis of its own needs."""
    async with JobQueue.connect(_url(settings)) as queue:
        ids = await asyncio.gather(*(queue.enqueue("sync_pages") for _ in range(50)))
        assert len(set(ids)) == 50
        assert (await queue.stats())["sync"].pending == 50


@pytest.mark.parametrize("where", ["before", "after", "inside"])
async def test_a_put_whose_connection_drops_is_repeated(settings: Settings, where: Any, redis: Redis) -> None:
    """What returns an id is stored, and stored once, whatever became of the first try."""
    async with running(_url(settings)) as proxy, Redis.from_url(proxy.url, retry=None) as through:
        queue = JobQueue(through)
        await queue.enqueue("sync_pages")
        proxy.cut_next("EVALSHA", where)
        job_id = await queue.enqueue("sync_pages")
        assert await queue.waiting("sync", 5) == [*(await queue.waiting("sync", 1)), job_id]
        assert await stored(redis) == 2


CALLS: dict[str, Call] = {
    "enqueue": lambda q: q.enqueue("sync_pages"),
    "webhook": lambda q: q.enqueue_webhook("m1", "paid", {}),
    "stats": lambda q: q.stats(),
    "job": lambda q: q.job("id-1"),
    "pause": lambda q: q.pause("sync"),
    "resume": lambda q: q.resume("sync"),
    "waiting": lambda q: q.waiting("sync", 5),
}


@pytest.mark.parametrize("fault", ["down", "frozen"])
async def test_without_redis_every_call_ends_in_time(settings: Settings, fault: str) -> None:
    """A web request that enqueues gets one exception to handle, within some ten seconds, and never hangs."""
    async with running(_url(settings)) as proxy, JobQueue.connect(proxy.url) as queue:
        if fault == "down":
            proxy.down()
        else:
            proxy.freeze()
        started = time.monotonic()
        ends = await asyncio.gather(*(call(queue) for call in CALLS.values()), return_exceptions=True)
        assert time.monotonic() - started < 13
        assert {name: type(end) for name, end in zip(CALLS, ends, strict=True)} == dict.fromkeys(CALLS, Transient)


async def test_an_outage_shorter_than_the_deadline_is_not_noticed(settings: Settings) -> None:
    """Redis restarts for a second, and no payment event is lost for it."""
    async with running(_url(settings)) as proxy, JobQueue.connect(proxy.url) as queue:
        proxy.down()
        putting = asyncio.create_task(queue.enqueue_webhook("m1", "paid", {}))
        await asyncio.sleep(0.3)
        proxy.up()
        info = await queue.job(await putting)
        assert info is not None
        assert info.state == "pending"
