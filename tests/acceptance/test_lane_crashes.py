"""Lanes under all that kills: real workers are killed, asked to end, emptied under, blocked, and no job is lost."""

import asyncio
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from arq import create_pool
from arq.connections import ArqRedis
from arq.connections import RedisSettings as ArqSettings
from arq.jobs import Job, JobStatus
from redis.asyncio import Redis as AsyncRedis

from scripts._services import start_redis
from src.engine.queue import Queue
from src.enqueue import JobError, deserialize, serialize
from tests.acceptance.lane_yard import DECLARED, LATE_S, LEASE_S, LETTERS, Worker, Yard, names, open_yard
from tests.acceptance.processes import ended, run, until
from tests.conftest import CACHE, Servers
from tests.harness.lane_worker import WORKER, Mark

# --- killed


@pytest.mark.parametrize("seed", range(5))
def test_kills_lose_nothing(yard: Yard, seed: int) -> None:
    """SIGKILL at ten moments, fifty in all: every job ends, and what a killed worker ran runs again in time."""
    rng = random.Random(seed)
    crew = [yard.begin() for _ in range(2)]
    killed: dict[int, float] = {}
    given: list[str] = []
    for number in range(10):
        until(lambda: all(worker.is_ready for worker in crew), "both serve")
        given += (more := names(f"{number}-", 30))
        yard.works(more, rng.uniform(0.1, 0.4))
        _kill_one(yard, crew, killed, rng, len(yard.marks()) + rng.randint(1, 50))
        until(lambda: not yard.redis.zcard("sync"), "all of it is done", LEASE_S + 2 * LATE_S)
    seen = yard.marks()
    assert set(given) == set(yard.ends())
    assert late(seen, killed) == []
    assert sum(cut_short(seen, name, killed) for name in given) > 10
    assert yard.left() == []
    assert yard.letters() == []


def test_kills_on_kills_lose_nothing(yard: Yard) -> None:
    """Killed without a pause, so that jobs are cut short again and again: each ends, or is set aside after three."""
    rng = random.Random(3)
    crew = [yard.begin() for _ in range(4)]
    killed: dict[int, float] = {}
    given: list[str] = []
    for number in range(20):
        given += (more := names(f"{number}-", 12))
        yard.works(more, rng.uniform(0.01, 0.3))
        until(lambda: any(worker.is_ready for worker in crew), "one serves")
        _kill_one(yard, crew, killed, rng, len(yard.marks()) + rng.randint(1, 20))
    until(lambda: not yard.redis.zcard("sync"), "all of it is done")
    poisoned = {letter["arguments"]["name"] for letter in yard.letters()}
    assert set(given) - set(yard.ends()) <= poisoned
    assert yard.left() == []


def _kill_one(yard: Yard, crew: list[Worker], killed: dict[int, float], rng: random.Random, goal: int) -> None:
    """When so much has been done, or all of it, kill one that serves and begin another in its place."""
    until(lambda: len(yard.marks()) >= goal or not yard.redis.zcard("sync"), "work goes on")
    victim = rng.choice([worker for worker in crew if worker.is_ready])
    victim.process.kill()
    killed[victim.process.pid] = time.monotonic()
    victim.process.wait(10)
    crew.remove(victim)
    crew.append(yard.begin())


def cut_short(seen: list[Mark], name: str, killed: dict[int, float]) -> int:
    """How many of the killed workers died while they ran that job."""
    begun = {mark.pid for mark in seen if mark.name == name and mark.what == "start"}
    return len(begun & set(killed) - {mark.pid for mark in seen if mark.name == name and mark.what == "end"})


def late(seen: list[Mark], killed: dict[int, float]) -> list[tuple[str, float]]:
    """Jobs that were cut short and did not run again in time, and how long each waited."""
    found = []
    for pid, at in killed.items():
        done = {mark.name for mark in seen if mark.pid == pid and mark.what == "end"}
        for name in {mark.name for mark in seen if mark.pid == pid} - done:
            again = [mark.at for mark in seen if mark.name == name and mark.what == "start" and mark.at > at]
            if not again or min(again) - at > LEASE_S + LATE_S:
                found.append((name, min(again, default=0.0) - at))
    return found


def test_a_job_that_kills_its_workers_is_set_aside(yard: Yard) -> None:
    """After three kills it is a dead letter; those that ran beside it end well."""
    yard.put("kill", {"name": "guilty"})
    innocent = names("innocent", 15)
    yard.works(innocent, 0.4)
    until(lambda: _is_over(yard, yard.begin()), "the guilty one is set aside", 40)
    yard.all_end(innocent)
    assert yard.starts()["guilty"] == 3
    (letter,) = yard.letters()
    assert letter["job"] == "kill"
    assert letter["arguments"] == {"name": "guilty"}
    assert letter["error"].startswith("poisoned: 3 workers died")


def _is_over(yard: Yard, worker: Worker) -> bool:
    until(lambda: not worker.is_alive or bool(yard.letters()), "the worker dies of it, or sets it aside", 20)
    return bool(yard.letters())


# --- asked to end


def test_sigterm_gives_slow_jobs_back_unspent(yard: Yard) -> None:
    """After the grace time 50 running jobs are back in the queue, and run for their first time in the next worker."""
    slow = names("slow", 50)
    yard.works(slow, 4)
    limits = {"WORKER_SHUTDOWN_SECONDS": "1", "WORKER_MAX_CONCURRENT_JOBS": "50"}
    first = yard.ready(**limits)
    until(lambda: len(yard.starts()) == 50, "all of them run")
    began = time.monotonic()
    assert ended(first.process, signal.SIGTERM, 20) == 0
    assert 1 <= time.monotonic() - began < 5
    assert not yard.redis.keys("folkform:tries:*")
    assert not yard.redis.keys("folkform:running:*")
    assert yard.redis.zcount("sync", "-inf", time.time() * 1000) == 50
    second = yard.ready(**limits)
    yard.all_end(slow)
    assert second.said.count('"attempt":1,"outcome":"worked"') == 50
    assert set(yard.starts().values()) == {2}
    assert ended(second.process, signal.SIGTERM, 20) == 0


def test_a_second_sigterm_hurries(yard: Yard) -> None:
    """Whoever asks twice does not wait for a long grace time."""
    yard.works(names("slow", 5), 50)
    worker = yard.ready(WORKER_SHUTDOWN_SECONDS="40")
    until(lambda: len(yard.starts()) == 5, "all of them run")
    worker.process.send_signal(signal.SIGTERM)
    until(lambda: "shutting down scheduler" in worker.said, "it began to end")
    began = time.monotonic()
    assert ended(worker.process, signal.SIGTERM, 20) == 0
    assert time.monotonic() - began < 5
    assert yard.redis.zcount("sync", "-inf", time.time() * 1000) == 5
    assert not yard.redis.keys("folkform:tries:*")


def test_sigterm_while_work_arrives_strands_nothing(yard: Yard) -> None:
    """A claim that is under way as the process ends holds no job until its lease is over, and kills none."""
    everything = names("job", 400)
    for number in range(8):
        worker = yard.ready(WORKER_SHUTDOWN_SECONDS="0")
        yard.works(everything[number * 50 : number * 50 + 50], 0.02)
        assert ended(worker.process, signal.SIGTERM, 20) == 0
        assert not yard.redis.keys("folkform:running:*")
    yard.ready()
    yard.all_end(everything)
    assert not any("worker that died" in worker.said for worker in yard.workers)


def test_sigterm_under_steady_work_counts_no_death(yard: Yard) -> None:
    """What is handed over in the last moments is given back, and nobody's death is noted for it."""
    is_over = threading.Event()

    async def feed() -> list[str]:
        fed: list[str] = []
        async with AsyncRedis.from_url(yard.redis_url) as redis:
            queue = Queue(redis, DECLARED)
            while not is_over.is_set():
                fed.append(f"fed{len(fed)}")
                await queue.put([queue.prepare("work", {"name": fed[-1], "seconds": 0.0})])
                await asyncio.sleep(0.0005)  # so that a worker is idle each time, and the next is handed to it
        return fed

    with ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(asyncio.run, feed())
        try:
            for _ in range(4):
                worker = yard.ready(WORKER_LEASE_SECONDS="15")
                until(lambda: len(yard.waiting("sync")) < 3, "it keeps up: nothing waits that it could claim")
                assert ended(worker.process, signal.SIGTERM, 20) == 0
                assert yard.redis.keys("folkform:running:*") == []
        finally:
            is_over.set()
        fed = feeding.result(20)
    yard.ready()
    yard.all_end(fed, 60)
    assert not any("worker that died" in worker.said for worker in yard.workers)
    assert max(yard.starts().values()) == 1


# --- Redis goes


def test_ten_seconds_without_redis(servers: Servers, database_name: str, tmp_path: Path) -> None:
    """Redis stops for ten seconds while jobs run and wait: the worker lives, and every job ends, the long ones once."""
    with ExitStack() as stack:
        first = start_redis(tmp_path / "redis", CACHE, environ={})
        stack.callback(first.stop)
        port = int(first.url.rpartition(":")[2].partition("/")[0])
        yard = open_yard(stack, servers, first.url, database_name, tmp_path)
        crew = [yard.ready(WORKER_MAX_CONCURRENT_JOBS="10") for _ in range(2)]
        brief, long = names("brief", 200), names("long", 10)
        yard.works(long, 14)
        until(lambda: len(yard.starts()) == 10, "the long ones run")
        yard.works(brief, 0.3)
        until(lambda: len(yard.ends()) > 10, "the brief ones run")
        first.stop()
        gone = time.monotonic()
        until(lambda: time.monotonic() - gone > 10, "ten seconds are over", 11)
        assert all(worker.is_alive for worker in crew)
        stack.enter_context(start_redis(tmp_path / "redis", CACHE, port=port, environ={}))
        later = names("later", 20)
        yard.works(later, 0.01)
        yard.all_end(brief + long + later)
        assert all(ended(worker.process, signal.SIGTERM, 20) == 0 for worker in crew)
        assert {name: starts for name, starts in yard.starts().items() if starts > 1} == {}


def test_sigterm_without_redis(servers: Servers, database_name: str, tmp_path: Path) -> None:
    """A worker that is asked to end while Redis is away ends in time and in order; its jobs run in the next one."""
    with ExitStack() as stack:
        first = start_redis(tmp_path / "redis", CACHE, environ={})
        stack.callback(first.stop)
        port = int(first.url.rpartition(":")[2].partition("/")[0])
        yard = open_yard(stack, servers, first.url, database_name, tmp_path)
        worker = yard.ready(WORKER_SHUTDOWN_SECONDS="1")
        yard.works(names("slow", 10), 4)
        until(lambda: len(yard.starts()) == 10, "they run")
        first.stop()
        assert ended(worker.process, signal.SIGTERM, 25) == 0, worker.said[-1000:]
        assert "worker shutdown completed" in worker.said
        stack.enter_context(start_redis(tmp_path / "redis", CACHE, port=port, environ={}))
        yard.ready()
        yard.all_end(names("slow", 10))


def test_a_flush_under_a_worker(yard: Yard) -> None:
    """All is gone, scripts too, and what is enqueued afterwards runs."""
    worker = yard.ready()
    yard.works(names("lost", 40), 0.5)
    until(lambda: len(yard.starts()) == 20, "some run")
    yard.redis.flushall()
    yard.redis.script_flush()
    after = names("after", 40)
    yard.works(after, 0.01)
    yard.all_end(after)
    assert worker.is_alive
    assert ended(worker.process, signal.SIGTERM, 20) == 0


def test_an_id_that_is_no_text_stops_nothing(yard: Yard) -> None:
    """Whoever can write to Redis may write nonsense."""
    yard.ready()
    yard.redis.zadd("sync", {b"\xff\xfe": 1})
    until(lambda: yard.redis.zscore("sync", b"\xff\xfe") != 1, "a worker saw it", 5)
    yard.works(["after"], 0.01)
    until(lambda: yard.ends() == {"after": 1}, "the next job runs", 10)


# --- alive or not


def test_a_job_that_blocks_the_loop_is_named_and_stays_ours(yard: Yard) -> None:
    """It blocks for three leases: that is said before the first is over, and no other worker takes it for dead."""
    yard.put("block", {"name": "block", "seconds": 3 * LEASE_S})
    first = yard.ready()
    until(lambda: bool(yard.starts()), "it runs")
    yard.ready()
    until(lambda: "event loop is blocked" in first.said, "that is said", LEASE_S)
    assert "time.sleep" in first.said
    yard.all_end(["block"])
    assert yard.starts() == {"block": 1}


def test_the_check_of_arq_tells_the_living_from_the_dead(yard: Yard) -> None:
    """True for a worker that lives, false ten seconds after its kill."""
    check = [*WORKER[:-1], "--check", WORKER[-1]]
    worker = yard.ready()
    until(lambda: run(check, yard.env).returncode == 0, "it counts as alive", 10)
    worker.process.kill()
    until(lambda: run(check, yard.env).returncode == 1, "it counts as dead", 10)


# --- arq's own client


def test_arq_speaks_with_the_lanes(yard: Yard) -> None:
    """A plain arq client enqueues to both kinds of queue and follows its jobs to the result, good or bad."""

    async def speak() -> None:
        settings = ArqSettings.from_dsn(yard.redis_url)
        pool = await create_pool(settings, job_serializer=serialize, job_deserializer=deserialize)
        pickling = await create_pool(settings)
        waiting = await enqueued(pool, "work", "front", 0.5)
        in_lane = await enqueued(pool, "work", name="lane", seconds=0.5, _queue_name="sync")
        failing = await enqueued(pool, "fail", "bad", _queue_name="sync")
        unreadable = await enqueued(pickling, "work", "pickled", 0.1)
        for job, queue in ((waiting, "arq:queue"), (in_lane, "sync")):
            assert await job.status() == JobStatus.queued
            info = await job.info()
            assert info is not None
            assert (info.function, info.score is None) == ("work", False)
            assert await pool.zscore(queue, job.job_id) is not None
        await asyncio.to_thread(yard.ready)
        for job in (waiting, in_lane):
            await asyncio.to_thread(until, lambda: len(yard.starts()) >= 3, "they run", 10)
            assert await job.status() == JobStatus.in_progress
        for job in (waiting, in_lane):
            assert await job.result(timeout=10, poll_delay=0.05) == "worked"
            assert await job.status() == JobStatus.complete
            info = await job.result_info()
            assert info is not None
            assert (info.success, info.job_try, info.function) == (True, 1, "work")
        with pytest.raises(JobError, match="as it was told to"):
            await failing.result(timeout=10, poll_delay=0.05)
        await asyncio.to_thread(until, lambda: len(yard.letters()) == 2, "two letters are there", 10)
        assert "format this worker does not know" in yard.database[LETTERS].find_one({"job": "unknown"})["error"]  # type: ignore[index]
        assert await unreadable.status() == JobStatus.complete
        after = await enqueued(pickling, "work", "pickled", 0.1)
        last = await enqueued(pool, "work", "last", 0.01)
        assert await last.result(timeout=10, poll_delay=0.05) == "worked"
        assert after.job_id != last.job_id
        await pool.aclose()
        await pickling.aclose()

    asyncio.run(speak())
    assert all(worker.is_alive for worker in yard.workers)
    assert yard.ends() == {"front": 1, "lane": 1, "last": 1}


async def enqueued(pool: ArqRedis, *args: Any, **options: Any) -> Job:
    job = await pool.enqueue_job(*args, **options)
    assert job is not None
    return job
