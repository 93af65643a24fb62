"""Lanes behind a Sentinel: the master dies, falls silent or is demoted, and the worker goes on with the new one."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from scripts._services import start_redis
from src.clients.redis import OUTAGES, be_patient, connect
from src.engine.keys import FRONT_DOOR, WAKE
from src.engine.queue import Queue
from src.settings import RedisSettings
from tests.acceptance.lane_yard import DECLARED, Arguments, Worker, Yard, names, open_yard
from tests.acceptance.processes import COMMAND, ended, run, until
from tests.conftest import CACHE, Servers
from tests.harness.lane_worker import WORKER
from tests.harness.sentinel import NAME, Watched, watched

CHECK = [*WORKER[:-1], "--check", WORKER[-1]]
SWITCH_S = 20.0
AT_ONCE_S = 7.0  # less than the Sentinel takes to close the connections to a master that was replaced
ALIVE = f"{FRONT_DOOR}:health-check:{socket.gethostname()}"


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as trio:
        yield trio


@pytest.fixture
def yard(trio: Watched, servers: Servers, database_name: str, tmp_path: Path) -> Iterator[Yard]:
    with ExitStack() as stack:
        yard = open_yard(stack, servers, trio.first.url, database_name, tmp_path)
        yard.env.update(trio.env, WORKER_MAX_CONCURRENT_JOBS="10")
        yield yard


def put(trio: Watched, job: str, *each: Arguments) -> None:
    """Enqueue `job` with each of these arguments at the master the Sentinel names."""

    async def enqueue() -> None:
        redis = connect(trio.settings, AsyncRedis)
        queue = Queue(redis, DECLARED)
        assert await queue.put([queue.prepare(job, arguments) for arguments in each])
        await redis.aclose(close_connection_pool=True)

    asyncio.run(enqueue())


def works(trio: Watched, names: list[str], seconds: float) -> None:
    put(trio, "work", *({"name": name, "seconds": seconds} for name in names))


def replicated(trio: Watched) -> None:
    """Wait until the replica has all that the master has taken so far."""
    with Redis.from_url(trio.first.url) as master:
        master.set("told", 1)
        assert master.wait(1, 5000) == 1


def goes_on(yard: Yard, trio: Watched, worker: Worker, given: list[str], limit_s: float) -> None:
    """All that was given ends, each job run once, and new jobs run at once."""
    yard.redis = yard.stack.enter_context(Redis.from_url(trio.second.url))
    yard.all_end(given, limit_s)
    until(lambda: _listeners(yard.redis) == 1, "it listens to the new master", 5)
    later = names("later", 20)
    works(trio, later, 0.01)
    yard.all_end(later, 2)
    assert {name: starts for name, starts in yard.starts().items() if starts > 1} == {}
    assert worker.is_alive


def ends_well(yard: Yard, worker: Worker) -> None:
    """When it is asked to, and nobody was blamed."""
    assert ended(worker.process, signal.SIGTERM, 20) == 0
    assert "worker that died" not in worker.said
    assert "panic" not in worker.said
    assert yard.letters() == []


def _listeners(redis: "Redis") -> int:
    channels: Any = redis.pubsub_numsub(WAKE)
    return int(channels[0][1])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "falls silent"])
def test_the_master_is_lost(yard: Yard, trio: Watched, number: signal.Signals) -> None:
    """With jobs running and waiting: no job that the replica knew of is lost or run twice."""
    worker = yard.ready()
    long, brief = names("long", 10), names("brief", 40)
    works(trio, long, 3)
    until(lambda: len(yard.starts()) == 10, "the long ones run")
    works(trio, brief, 0.1)
    replicated(trio)
    trio.hit(number)
    until(lambda: trio.has_switched, "the replica is the master", SWITCH_S)
    with Redis.from_url(trio.second.url) as second:
        second.delete(ALIVE)
    goes_on(yard, trio, worker, long + brief, 20)
    until(lambda: run(CHECK, yard.env).returncode == 0, "it gives its sign of life to the new master", 15)
    ends_well(yard, worker)


@pytest.mark.parametrize("says", ["READONLY", "NOREPLICAS"])
def test_the_master_is_replaced_alive(yard: Yard, trio: Watched, says: str) -> None:
    """It refuses writes on connections that stay open: an outage to be reconnected from, nobody's failure."""
    worker = yard.ready()
    long, brief, parents = names("long", 10), names("brief", 40), names("parent", 3)
    works(trio, long, 2.5)
    until(lambda: len(yard.starts()) == 10, "the long ones run")
    works(trio, brief, 0.1)
    put(trio, "beget", *({"name": name, "children": 3} for name in parents))
    replicated(trio)
    trio.fail_over()
    until(lambda: trio.has_switched, "the replica is the master", SWITCH_S)
    if says == "READONLY":
        trio.demote()
    born = [f"{name}.{number}" for name in parents for number in range(3)]
    goes_on(yard, trio, worker, long + brief + parents + born, AT_ONCE_S)
    ends_well(yard, worker)


@pytest.mark.anyio
async def test_a_patient_connection_asks_the_sentinels_again(trio: Watched) -> None:
    """One that begins to connect before the Sentinel knows that the master is dead does not stay with that address."""
    redis = connect(trio.settings, AsyncRedis, retries=1)
    patience = await be_patient(redis)
    assert await redis.ping()
    trio.hit(signal.SIGKILL)
    async with asyncio.timeout(SWITCH_S):
        await redis.set("told", 1)
    assert trio.has_switched
    patience.end()
    await redis.aclose(close_connection_pool=True)


@pytest.mark.anyio
async def test_an_open_connection_to_what_is_a_replica_now(tmp_path: Path) -> None:
    """Whatever is asked, by its address too: an outage; and the next call goes on by a new connection."""
    with start_redis(tmp_path / "redis", CACHE, environ={}) as server:
        redis = connect(RedisSettings(url=SecretStr(server.url)), AsyncRedis, retries=0)
        script = redis.register_script("redis.call('SET', 'told', 1) return 'taken'")

        async def in_a_pipeline() -> object:
            async with redis.pipeline(transaction=True) as pipe:
                pipe.set("told", 1)
                return await pipe.execute()

        asks: list[Callable[[], Awaitable[object]]] = [lambda: redis.set("told", 1), script, in_a_pipeline]
        for ask in asks:
            assert await ask()
            before = await redis.client_id()
            await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(OUTAGES, match="READONLY"):
                await ask()
            await redis.execute_command("REPLICAOF", "NO", "ONE")
            assert await redis.client_id() != before
        await redis.aclose(close_connection_pool=True)


def test_a_connection_by_sentinels_waits_like_any_other() -> None:
    """A timeout would end the listening of a worker whose channel is quiet."""
    by_sentinels = connect(RedisSettings(sentinels=("127.0.0.1:1",)), AsyncRedis).connection_pool.connection_kwargs
    by_address = connect(RedisSettings(), AsyncRedis).connection_pool.connection_kwargs
    own = {"host", "port", "connection_pool", "db", "retry"}
    assert {k: v for k, v in by_sentinels.items() if k not in own} == {
        k: v for k, v in by_address.items() if k not in own
    }


def test_doctor_finds_the_master(yard: Yard, trio: Watched) -> None:
    """It says whom it asks, and where nobody knows of the master, which variables to look at."""
    said = run([*COMMAND, "doctor"], yard.env).stdout
    assert f"ok    Redis: sentinels {trio.address} (master {NAME})" in said
    wrong = run([*COMMAND, "doctor"], {**yard.env, "REDIS_SENTINEL_MASTER": "nobody"})
    assert wrong.returncode == 1
    assert "WRONG Redis" in wrong.stdout
    assert "REDIS_SENTINEL_MASTER" in wrong.stdout
