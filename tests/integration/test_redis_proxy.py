"""The proxy in front of a real Redis: invisible when nothing is planned, and each fault exactly where it was asked."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.conftest import Servers
from tests.simulators.redis_proxy import Command, Proxy, Where, running, running_in_thread
from tests.simulators.redis_proxy.resp import Values

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
PLACES: tuple[Where, ...] = ("before", "after", "inside")
SEEN_BY_REDIS = {"before": False, "after": True, "inside": True}


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[Redis]:
    """One connection at a time, so that the order of commands is ours."""
    async with Redis.from_url(url, single_connection_client=True, **options) as opened:
        yield opened


@pytest.fixture
def redis(servers: Servers) -> Iterator[BlockingRedis]:
    """Redis without the proxy, empty."""
    with BlockingRedis.from_url(servers.redis_url) as opened:
        opened.flushdb()
        yield opened


@pytest.fixture
async def proxy(servers: Servers) -> AsyncIterator[Proxy]:
    async with running(servers.redis_url) as opened:
        yield opened


# --- nothing planned


@pytest.mark.parametrize("protocol", [2, 3])
async def test_bytes_pass_untouched(redis: BlockingRedis, proxy: Proxy, protocol: int) -> None:
    """Every byte value, line ends that look like RESP, nested and empty replies, and a value of 1 MB."""
    values = [bytes(range(256)), b"", b"\r\n$3\r\nfoo\r\n*2\r\n", os.urandom(1_000_000)]
    async with client(proxy.url, protocol=protocol) as through:
        for number, value in enumerate(values):
            await through.set(f"v{number}", value)
            assert redis.get(f"v{number}") == value
            assert await through.get(f"v{number}") == value
        assert await through.get("nothing") is None
        await through.execute_command("HSET", "h", "a", 1, "b", 2)
        assert await through.execute_command("HGETALL", "h") == {b"a": b"1", b"b": b"2"}
        nested = await through.execute_command("EVAL", "return {1, {2, {'three', {}}}, false, 'end'}", 0)
        assert nested == [1, [2, [b"three", []]], None, b"end"]


async def test_a_pipeline_keeps_its_order(redis: BlockingRedis, proxy: Proxy) -> None:
    """A thousand commands in one go come back as a thousand replies in order, in a transaction or not."""
    async with client(proxy.url) as through:
        for transaction in (False, True):
            pipeline = through.pipeline(transaction=transaction)
            for number in range(1000):
                pipeline.set("k", b"%d\r\n" % number, get=True)
            replies = await pipeline.execute()
            assert replies[1:] == [b"%d\r\n" % number for number in range(999)]
    assert proxy.seen["SET"] == 2000
    assert proxy.seen["EXEC"] == 1


@pytest.mark.parametrize("protocol", [2, 3])
async def test_pub_sub_passes(redis: BlockingRedis, proxy: Proxy, protocol: int) -> None:
    """Messages arrive that nobody asked for, and the connection counts right after them."""
    async with client(proxy.url, protocol=protocol) as through, through.pubsub() as listener:
        await listener.subscribe("a", "b")
        for channel in ("a", "b"):
            assert (await message(listener))["type"] == "subscribe"
            redis.publish(channel, f"\x00\r\n{channel}")
        for channel in ("a", "b"):
            assert (await message(listener))["data"] == f"\x00\r\n{channel}".encode()
        await listener.unsubscribe()
        assert {(await message(listener))["channel"] for _ in range(2)} == {b"a", b"b"}
        cut = proxy.cut_next("SUBSCRIBE", "after")
        with pytest.raises(RedisConnectionError):
            await asyncio.gather(
                listener.connection.send_command("SUBSCRIBE", "c"), listener.connection.read_response()
            )
        assert cut.happened == 1


async def message(listener: Any) -> dict[str, Any]:
    """The next message, whatever its type."""
    found: dict[str, Any] = await anext(listener.listen())
    return found


async def test_many_connections(redis: BlockingRedis, proxy: Proxy) -> None:
    """A hundred clients at once, blocking commands included, do not wait for one another."""
    async with Redis.from_url(proxy.url, max_connections=200) as through:
        waiting = [asyncio.ensure_future(through.execute_command("BLPOP", f"q{number}", 20)) for number in range(50)]
        await asyncio.gather(*(through.execute_command("RPUSH", f"q{number}", number) for number in range(50)))
        popped = await asyncio.gather(*waiting)
    assert [int(value) for _, value in popped] == list(range(50))


async def test_the_database_of_the_address_is_kept(servers: Servers, proxy: Proxy) -> None:
    """A client that only swaps the address is in the same database."""
    async with running(servers.redis_url.removesuffix("/0") + "/3") as other:
        assert urlsplit(other.url).path == "/3"
        assert other.url != proxy.url


async def test_seen_counts_scripts_by_sha(redis: BlockingRedis, proxy: Proxy) -> None:
    async with client(proxy.url) as through:
        script = through.register_script("return ARGV[1]")
        assert [await script(args=[number]) for number in range(3)] == [b"0", b"1", b"2"]
    # the first one is refused, because Redis does not know it yet
    assert proxy.seen["EVALSHA"] == proxy.seen[f"EVALSHA {script.sha}"] == 4


# --- cuts


@pytest.mark.parametrize("where", PLACES)
async def test_a_cut_falls_exactly_there(redis: BlockingRedis, proxy: Proxy, where: Where) -> None:
    """The client sees the connection break; only "before" keeps the command from Redis. The next one is untouched."""
    cut = proxy.cut_next("SET", where)
    async with client(proxy.url) as through:
        with pytest.raises(RedisConnectionError):
            await through.set("k", "v")
        assert (redis.get("k") == b"v") is SEEN_BY_REDIS[where]
        assert cut.happened == 1
        assert await through.set("k", "again")
    assert cut.happened == 1


@pytest.mark.parametrize("where", PLACES)
async def test_a_cut_within_a_pipeline(redis: BlockingRedis, proxy: Proxy, where: Where) -> None:
    """What is ahead of the cut is executed and answered, what is behind it never reaches Redis."""
    proxy.cut_next(lambda command: command[1:2] == [b"k500"], where)
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.url).port)
    keys = [f"k{number}" for number in range(1000)]
    writer.write(b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$1\r\nv\r\n" % (len(k), k.encode()) for k in keys))
    answered = await everything(reader)
    writer.close()
    assert answered == b"+OK\r\n" * 500 + (b"+O" if where == "inside" else b"")
    executed = 501 if SEEN_BY_REDIS[where] else 500
    assert redis.exists(*keys[:executed]) == redis.dbsize() == executed


async def everything(reader: asyncio.StreamReader) -> bytes:
    """What arrives until the connection is reset; a clean end is not good enough."""
    found = b""
    try:
        while part := await reader.read(1 << 16):
            found += part
    except ConnectionResetError:
        return found
    raise AssertionError("closed in an orderly way")


async def test_half_of_a_large_reply_arrives(redis: BlockingRedis, proxy: Proxy) -> None:
    """A client that reads slowly still gets its whole half before the reset."""
    redis.set("k", value := os.urandom(8_000_000))
    cut = proxy.cut_next("GET", "inside")
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.url).port, limit=1024)
    writer.write(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
    answered = await everything(reader)
    writer.close()
    whole = b"$8000000\r\n%b\r\n" % value
    assert answered == whole[: len(whole) // 2]
    assert cut.happened == 1


@pytest.mark.parametrize("where", PLACES)
async def test_a_transaction_is_cut_at_its_exec(redis: BlockingRedis, proxy: Proxy, where: Where) -> None:
    proxy.cut_next("EXEC", where)
    async with client(proxy.url) as through:
        transaction = through.pipeline(transaction=True)
        for key in ("a", "b"):
            transaction.set(key, 1)
        with pytest.raises(RedisConnectionError):
            await transaction.execute()
    assert redis.exists("a", "b") == (2 if SEEN_BY_REDIS[where] else 0)


async def test_a_script_is_found_by_its_sha(redis: BlockingRedis, proxy: Proxy) -> None:
    """Of two scripts only the one named is cut, as often as asked."""
    async with client(proxy.url) as through:
        spared, cut = (through.register_script(f"return redis.call('incr', '{name}')") for name in ("x", "y"))
        assert [await spared(), await cut()] == [1, 1]
        planned = proxy.cut_next(cut.sha, "after", times=2)
        assert await spared() == 2
        for _ in range(2):
            with pytest.raises(RedisConnectionError):
                await cut()
        assert [await spared(), await cut()] == [3, 4]
    assert (planned.happened, planned.left) == (2, 0)


async def test_a_large_command_is_cut_before_it_is_whole(redis: BlockingRedis, proxy: Proxy) -> None:
    """Parts of it have gone to Redis already when its end arrives: Redis does not execute a part."""
    cut = proxy.cut_next("SET", "before")
    async with client(proxy.url) as through:
        with pytest.raises(RedisConnectionError):
            await through.set("k", os.urandom(5_000_000))
    assert cut.happened == 1
    assert redis.exists("k") == 0


async def test_random_cuts_follow_from_the_seed(redis: BlockingRedis, proxy: Proxy) -> None:
    """The same commands are cut at the same places again; `clear` ends it."""
    runs = [await _chaos(proxy, seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert 0 < sum(runs[0]) < len(runs[0])
    async with client(proxy.url) as through:
        assert [await through.incr("n") for _ in range(50)]


async def _chaos(proxy: Proxy, seed: int) -> list[bool]:
    """Which of 100 commands failed; each has a connection of its own."""
    cut = proxy.cut_randomly(0.2, seed)
    failed = []
    for _ in range(100):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.url).port)
        writer.write(b"PING\r\n")
        try:
            failed.append(await reader.readline() != b"+PONG\r\n")
        except ConnectionResetError:
            failed.append(True)
        writer.close()
    assert cut.happened == sum(failed)
    proxy.clear()
    return failed


# --- Redis away, network silent, network slow


async def test_down_and_up(redis: BlockingRedis, proxy: Proxy) -> None:
    """Open connections break, new ones are refused, and the same address works again."""
    async with client(proxy.url) as through:
        assert await through.ping()
        arrived = asyncio.Event()

        def notice(command: Command) -> bool:
            arrived.set()
            return False

        proxy.cut_next(notice, "before")
        blocked = asyncio.ensure_future(through.execute_command("BLPOP", "q", 20))
        await arrived.wait()
        proxy.down()
        with pytest.raises(RedisConnectionError):
            await blocked
        with pytest.raises(RedisConnectionError, match="111"):
            await through.ping()
        proxy.up()
        assert await through.ping()


async def test_a_redis_that_is_really_away_breaks_the_connection() -> None:
    """The proxy does not hide that its Redis does not answer."""
    async with running("redis://127.0.0.1:1/0") as proxy, Redis.from_url(proxy.url) as through:
        with pytest.raises(RedisConnectionError):
            await through.ping()


async def test_freeze_and_thaw(redis: BlockingRedis, proxy: Proxy) -> None:
    """Nothing is answered, on old connections and new ones; all of it is after the thaw."""
    async with client(proxy.url) as old, client(proxy.url) as new, client(proxy.url, socket_timeout=0.3) as hasty:
        assert await old.ping()
        proxy.freeze()
        with pytest.raises(RedisTimeoutError):
            await hasty.ping()
        answers = [asyncio.ensure_future(each.incr("n")) for each in (old, new)]
        done, _ = await asyncio.wait(answers, timeout=0.05)
        assert not done
        assert redis.get("n") is None
        proxy.thaw()
        assert sorted(await asyncio.gather(*answers)) == [1, 2]


async def test_latency_is_added_once_to_a_pipeline(redis: BlockingRedis, proxy: Proxy) -> None:
    """Each of five round trips takes its 20 ms; the thousand commands of the last would take 20 s one by one."""
    async with client(proxy.url) as through:
        assert await through.ping()
        proxy.latency_s = 0.02
        for number in range(5):
            began = time.monotonic()
            await through.incr("n")
            assert time.monotonic() - began >= 0.02, number
        pipeline = through.pipeline(transaction=False)
        for _ in range(1000):
            pipeline.incr("n")
        began = time.monotonic()
        assert await pipeline.execute() == list(range(6, 1006))
        assert 0.02 <= time.monotonic() - began < 10
        proxy.latency_s = 0.0
        assert await through.incr("n") == 1006


async def test_what_was_sent_arrives_although_the_client_left(redis: BlockingRedis, proxy: Proxy) -> None:
    """A delayed command is executed when the client has closed meanwhile, as on a real network."""
    proxy.latency_s = 0.02
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.url).port)
    writer.write(b"SET k v\r\n")
    writer.write_eof()
    assert await reader.read() in (b"", b"+OK\r\n")  # the end comes from Redis, after the command
    writer.close()
    assert redis.get("k") == b"v"


# --- in a thread


def test_from_a_thread(servers: Servers, redis: BlockingRedis) -> None:
    """A caller that blocks has the same controls, and they have happened when they return."""
    with running_in_thread(servers.redis_url) as proxy, BlockingRedis.from_url(proxy.url) as through:
        cut = proxy.cut_next("SET", "after")
        with pytest.raises(RedisConnectionError):
            through.set("k", "v")
        assert cut.wait(0)
        assert redis.get("k") == b"v"
        proxy.down()
        with pytest.raises(RedisConnectionError):
            through.ping()
        proxy.up()
        assert through.ping()
        proxy.freeze()
        with BlockingRedis.from_url(proxy.url, socket_timeout=0.05) as hasty, pytest.raises(RedisTimeoutError):
            hasty.ping()
        proxy.thaw()
        assert through.ping()
        assert proxy.seen["PING"] >= 2


# --- splitting


STREAM = [
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\n",
    b"+OK\r\n",
    b"-ERR no\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2\r\n*1\r\n:1\r\n*2\r\n$0\r\n\r\n*0\r\n",
    b"%2\r\n+a\r\n:1\r\n+b\r\n~2\r\n#t\r\n_\r\n",
    b"|1\r\n+ttl\r\n:9\r\n*1\r\n,1.5\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n\n\r\n",
    b"=5\r\ntxt:a\r\n",
    b"!5\r\nERR x\r\n",
    b"(12345678901234567890\r\n",
]


@pytest.mark.parametrize("seed", range(20))
def test_values_are_found_however_the_bytes_are_split(seed: int) -> None:
    rng, stream, values = random.Random(seed), b"".join(STREAM), Values()
    found, at = [], 0
    while at < len(stream):
        step = rng.choice((1, 2, 3, 7, 50))
        found += values.feed(stream[at : at + step])
        at += step
    assert [value.raw for value in found] == STREAM
    assert found[0].items == [b"SET", b"k", b"\r\n\r\n"]
    assert values.unfinished == 0
