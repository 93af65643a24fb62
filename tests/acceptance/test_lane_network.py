"""Lanes on a network that drops connections at every kind of call: no job lost, doubled or stuck, and nobody dies."""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis as AsyncRedis

from scripts._services import start_redis
from src.engine.scripts import Scripts
from src.enqueue import JobQueue
from tests.acceptance.lane_yard import LATE_S, LEASE_S, Yard, names, open_yard
from tests.acceptance.processes import ended, until
from tests.conftest import CACHE, Servers
from tests.simulators.redis_proxy import Command, Proxy, running_in_thread
from tests.simulators.redis_proxy.plan import WHERE, Where

QUIET_S = 6.0  # a worker says that it lives each five seconds


@pytest.fixture
def proxy(servers: Servers) -> Iterator[Proxy]:
    with running_in_thread(servers.redis_url) as proxy:
        yield proxy


@pytest.fixture
def yard(servers: Servers, database_name: str, tmp_path: Path) -> Iterator[Yard]:
    """Jobs are enqueued past the proxy."""
    with ExitStack() as stack:
        yield open_yard(stack, servers, servers.redis_url, database_name, tmp_path)


def script(name: str) -> Callable[[Command], bool]:
    """Picks the calls of one script."""
    sha = Scripts(AsyncRedis())._scripts[name].sha.encode()
    return lambda command: command[0].upper() == b"EVALSHA" and command[1] == sha


def called(name: str) -> Callable[[Command], bool]:
    """Picks a command by its whole name."""
    return lambda command: command[0].upper() == name.encode()


CALLS = {
    "claim": script("claim"),
    "renew": script("renew"),
    "finish": script("finish"),
    "enqueue": script("enqueue"),  # of children
    "LRANGE": called("LRANGE"),  # of what failed before, for the dead letter
}


@pytest.mark.parametrize("where", WHERE)
def test_a_cut_in_any_call_costs_only_time(yard: Yard, proxy: Proxy, where: Where) -> None:
    """Each kind of call is cut once while work goes on: every job ends, and each runs as often as it should."""
    worker = yard.ready(REDIS_URL=proxy.url)
    given: list[str] = []
    faltering: list[str] = []
    for name, match in CALLS.items():
        cut = proxy.cut_next(match, where)
        more, parent, falters = names(f"{name}-", 8), f"{name}-parent", f"{name}-falters"
        yard.works(more, 0.05)
        yard.put("beget", {"name": parent, "children": 3})
        yard.put("falter", {"name": falters})
        yard.put("fail", {"name": f"{name}-bad"})
        assert cut.wait(LATE_S), name
        more += [parent, falters, *names(f"{parent}.", 3)]
        yard.all_end(more, LEASE_S + LATE_S)
        given += more
        faltering.append(falters)
    assert worker.is_alive
    starts = yard.starts()
    assert {name: starts[name] for name in given if starts[name] != (3 if name in faltering else 1)} == {}
    assert len(yard.letters()) == len(CALLS)
    assert "worker that died" not in worker.said
    assert ended(worker.process, signal.SIGTERM, 20) == 0


@pytest.mark.parametrize("where", WHERE)
def test_a_cut_in_what_the_worker_does_by_the_way(yard: Yard, proxy: Proxy, where: Where) -> None:
    """Listening, the sign of life, the greeting of a new connection, the ticks: all go on after a cut."""
    worker = yard.ready(REDIS_URL=proxy.url, SCHEDULE_SYNC_PAGES="@every 1s")
    cuts = {name: proxy.cut_next(called(name), where) for name in ("PSETEX", "ZCARD")}
    cuts["tick"] = proxy.cut_next(script("tick"), where)
    cuts["look"] = proxy.cut_next(script("look"), where)
    cuts["claim"] = proxy.cut_next(script("claim"), where)
    cuts["unheard"] = proxy.cut_next(called("HGETALL"), where)
    for name, cut in cuts.items():
        assert cut.wait(2 * QUIET_S), name
    proxy.cut_next(called("SUBSCRIBE"), where)
    proxy.down()
    proxy.up()
    until(lambda: proxy.seen["SUBSCRIBE"] >= 3, "it listens again", 10)
    ticks = worker.said.count('"outcome":"ticked"')
    until(lambda: worker.said.count('"outcome":"ticked"') > ticks + 1, "it ticks", 10)
    yard.works(names("job", 20), 0.01)
    until(lambda: set(names("job", 20)) <= set(yard.ends()), "all of them end", LEASE_S + LATE_S)
    assert worker.is_alive
    assert ended(worker.process, signal.SIGTERM, 20) == 0


@pytest.mark.parametrize("where", WHERE)
def test_a_cut_in_every_greeting(yard: Yard, proxy: Proxy, where: Where) -> None:
    """No new connection gets beyond its first command for longer than a worker is silent: it lives on."""
    worker = yard.ready(REDIS_URL=proxy.url)
    proxy.cut_next(called("CLIENT"), where, times=1_000_000)
    proxy.down()
    proxy.up()
    cut_at = time.monotonic()
    until(lambda: time.monotonic() - cut_at > QUIET_S or not worker.is_alive, "it is silent", 2 * QUIET_S)
    assert worker.is_alive, worker.said[-2000:]
    proxy.clear()
    yard.works(names("job", 20), 0.01)
    yard.all_end(names("job", 20), LEASE_S + LATE_S)
    assert worker.is_alive, worker.said[-2000:]


@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_drops_at_random(yard: Yard, proxy: Proxy, seed: int) -> None:
    """Two workers, one call in twenty cut: all jobs end, each as often as it should, and nobody is taken for dead."""
    rng = random.Random(seed)
    crew = [yard.ready(REDIS_URL=proxy.url) for _ in range(2)]
    proxy.cut_randomly(0.05, seed)
    given: list[str] = []
    for number in range(20):
        given += (more := names(f"{number}-", 20))
        yard.works(more, rng.uniform(0.01, 0.2))
        yard.put("falter", {"name": f"{number}-falters"})
        yard.put("beget", {"name": f"{number}-parent", "children": 3})
        given += [f"{number}-falters", f"{number}-parent", *names(f"{number}-parent.", 3)]
        until(lambda: len(yard.waiting("sync")) < 30, "it goes on", 20)
    proxy.clear()
    yard.all_end(given, LEASE_S + 2 * LATE_S)
    assert all(worker.is_alive for worker in crew)
    assert yard.letters() == []
    doubled = {name: count for name, count in yard.ends().items() if count > 1}
    taken = sum(worker.said.count("worker that died") for worker in crew)
    assert (doubled, taken) == ({}, 0)
    assert all(ended(worker.process, signal.SIGTERM, 20) == 0 for worker in crew)


def test_sigterm_on_a_slow_network_strands_nothing(yard: Yard, proxy: Proxy) -> None:
    """A claim that is under way when the process is asked to end takes no job with it."""
    worker = yard.ready(REDIS_URL=proxy.url, WORKER_SHUTDOWN_SECONDS="0")
    proxy.latency_s = 0.3
    yard.works(names("job", 10), 0.01)
    assert ended(worker.process, signal.SIGTERM, 20) == 0
    assert yard.redis.keys("folkform:running:*") == []
    proxy.latency_s = 0.0
    second = yard.ready(REDIS_URL=proxy.url)
    yard.all_end(names("job", 10), LATE_S)
    assert "worker that died" not in second.said


def test_redis_away_behind_a_balancer(servers: Servers, database_name: str, tmp_path: Path) -> None:
    """Connections are taken and dropped at once while Redis is away: the worker lives, and all jobs end."""
    with ExitStack() as stack:
        first = start_redis(tmp_path / "redis", CACHE, environ={})
        stack.callback(first.stop)
        port = int(first.url.rpartition(":")[2].partition("/")[0])
        proxy = stack.enter_context(running_in_thread(first.url))
        yard = open_yard(stack, servers, first.url, database_name, tmp_path)
        worker = yard.ready(REDIS_URL=proxy.url)
        yard.works(names("job", 100), 0.2)
        until(lambda: len(yard.ends()) > 10, "they run")
        first.stop()
        gone = time.monotonic()
        until(lambda: time.monotonic() - gone > QUIET_S or not worker.is_alive, "it tries again and again", 2 * QUIET_S)
        stack.enter_context(start_redis(tmp_path / "redis", CACHE, port=port, environ={}))
        until(lambda: bool(yard.redis.ping()), "Redis is back")
        assert worker.is_alive, worker.said[-2000:]
        yard.all_end(names("job", 100), 2 * (LEASE_S + LATE_S))
        assert ended(worker.process, signal.SIGTERM, 20) == 0


@pytest.mark.parametrize("where", WHERE)
def test_the_helper_hides_a_cut(yard: Yard, proxy: Proxy, where: Where) -> None:
    """Whatever call of an enqueue is cut, an id comes back and its job is stored once."""

    async def enqueue() -> list[str]:
        ids = []
        async with JobQueue.connect(proxy.url) as queue:
            for number in range(10):
                if number % 3 == 0:
                    proxy.down()
                    proxy.up()
                    proxy.cut_next(called("CLIENT"), where)
                else:
                    proxy.cut_next(called("EVALSHA"), where)
                ids.append(await queue.enqueue_webhook("m", "payment.completed", {"number": number}))
        return ids

    check(yard, on_uvloop(enqueue()), 10)
    yard.redis.delete("webhooks")
    check(yard, asyncio.run(enqueue()), 10)


@pytest.mark.parametrize("seed", range(3))
def test_the_helper_on_a_network_that_drops_at_random(yard: Yard, proxy: Proxy, seed: int) -> None:
    """One call in five is cut, for twenty that enqueue at once: every id is stored, and stored once."""

    async def enqueue() -> list[str]:
        proxy.cut_randomly(0.2, seed)
        async with JobQueue.connect(proxy.url) as queue:
            calls = (queue.enqueue_webhook("m", "payment.completed", {"number": number}) for number in range(200))
            return list(await asyncio.gather(*calls))

    check(yard, on_uvloop(enqueue()), 200)


def on_uvloop(work: Coroutine[Any, Any, list[str]]) -> list[str]:
    """As most apps run it: uvloop says otherwise that a connection is gone."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def check(yard: Yard, ids: list[str], count: int) -> None:
    assert len(set(ids)) == count
    assert sorted(yard.waiting("webhooks")) == sorted(ids)
    assert yard.redis.exists(*(f"arq:job:{job_id}" for job_id in ids)) == count
