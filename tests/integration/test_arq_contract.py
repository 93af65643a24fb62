"""What we rely on in arq. A new version that breaks one of these breaks the worker, and says here where."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator
from typing import Any

import arq.constants
import pytest
from arq.connections import ArqRedis
from arq.jobs import Job as ArqJob
from arq.jobs import JobStatus, ResultNotFound
from arq.worker import Worker, func, get_kwargs
from redis.asyncio import BlockingConnectionPool

from src.deps import Deps
from src.engine import keys
from src.engine.front_door import FrontDoor, run_by_lanes
from src.engine.wire import JobError, deserialize, read_job, serialize
from src.errors import Permanent
from src.service import Service
from src.settings import Settings, load_settings
from tests.harness.jobs import job as job_of
from tests.harness.lanes import Gate, serving

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


async def chore(deps: Deps, word: str = "done") -> str:
    return word


CHORE = job_of(chore)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[ArqRedis]:
    """A plain arq client that was given our serializer."""
    pool = BlockingConnectionPool.from_url(settings.redis.address.get_secret_value())
    redis = ArqRedis(pool, job_serializer=serialize, job_deserializer=deserialize)
    yield redis
    await redis.aclose(close_connection_pool=True)


def test_arq_keeps_its_names() -> None:
    """Jobs in Redis outlive an upgrade: under other names they would be lost."""
    assert arq.constants.default_queue_name == keys.FRONT_DOOR == "arq:queue"
    assert (keys.JOB, keys.IN_PROGRESS, keys.RESULT) == ("arq:job:", "arq:in-progress:", "arq:result:")


def test_arq_takes_the_options_we_give() -> None:
    """arq ignores an option it does not know, so a renamed one would fail in silence."""
    options = Service(load_settings(None), {"chore": CHORE}).arq_options()
    known = inspect.signature(Worker).parameters
    assert [name for name in options if name not in known] == []
    assert get_kwargs(type("WorkerSettings", (), options)) == options


class Recorder(FrontDoor):
    """arq's connection with all that arq's Worker asks of it written down, and nothing enqueued."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[str] = []
        self.asked = asyncio.Event()

    async def zrangebyscore(self, *args: Any, **options: Any) -> list[bytes]:
        self.calls.append(f"zrangebyscore {args[0]}")
        self.asked.set()
        return await super().zrangebyscore(*args, **options)

    async def delete(self, *names: Any) -> Any:
        self.calls.append(f"delete {names[0]}")
        return await super().delete(*names)

    async def close(self, close_connection_pool: bool | None = None) -> None:
        self.calls.append(f"close {close_connection_pool}")
        await super().aclose(close_connection_pool)


def _worker(settings: Settings, **options: Any) -> tuple[Worker, Recorder]:
    pool = BlockingConnectionPool.from_url(settings.redis.address.get_secret_value())
    recorder = Recorder(pool)
    worker = Worker(
        [func(run_by_lanes, name="chore")],
        redis_pool=recorder,
        queue_name="arq:queue",
        health_check_key="health-1",
        handle_signals=False,
        **options,
    )
    return worker, recorder


async def test_arqs_worker_polls_beats_and_ends_in_the_order_we_build_on(settings: Settings) -> None:
    """It asks our connection for jobs and gets none; it ends with its beat, our hook, the connection."""
    hooks: list[str] = []

    async def on_startup(ctx: dict[Any, Any]) -> None:
        hooks.append(f"startup {ctx['redis'] is recorder}")

    async def on_shutdown(ctx: dict[Any, Any]) -> None:
        recorder.calls.append("shutdown")
        assert await recorder.ping()

    worker, recorder = _worker(settings, on_startup=on_startup, on_shutdown=on_shutdown, poll_delay=0.01)
    await recorder.zadd("arq:queue", {"due-1": 1})
    main = asyncio.create_task(worker.async_run())
    await asyncio.wait_for(recorder.asked.wait(), 5)
    recorder.asked.clear()
    await asyncio.wait_for(recorder.asked.wait(), 5)  # the iteration before is over
    assert hooks == ["startup True"]
    assert await recorder.exists("health-1")
    assert await recorder.zscore("arq:queue", "due-1") == 1
    main.cancel()
    await asyncio.gather(main, return_exceptions=True)
    await worker.close()
    assert set(recorder.calls[:-3]) == {"zrangebyscore arq:queue"}
    assert recorder.calls[-3:] == ["delete health-1", "shutdown", "close True"]


async def test_a_cancelled_main_task_ends_the_worker(settings: Settings) -> None:
    """Our own end of a process cancels the task in which arq called our start hook; arq's loop must be that task."""
    tasks: list[asyncio.Task[Any] | None] = []

    async def on_startup(ctx: dict[Any, Any]) -> None:
        tasks.append(asyncio.current_task())

    worker, recorder = _worker(settings, on_startup=on_startup, poll_delay=0.01)
    running = asyncio.create_task(worker.async_run())
    await asyncio.wait_for(recorder.asked.wait(), 5)
    (main,) = tasks
    assert main is worker.main_task
    assert main is not None
    main.cancel()
    (end,) = await asyncio.gather(running, return_exceptions=True)
    assert isinstance(end, asyncio.CancelledError)
    await worker.close()


async def test_what_an_arq_client_enqueues_we_read_and_run(settings: Settings, client: ArqRedis) -> None:
    """The front door: `enqueue_job` into arq's default queue, and `Job.result()` gives what the job ended with."""
    async with serving(settings, CHORE) as house:
        job = await client.enqueue_job("chore", "synced")
        assert job is not None
        assert await job.result(timeout=10, poll_delay=0.01) == "synced"
        info = await job.result_info()
        assert info is not None
        assert (info.function, info.success, info.queue_name) == ("chore", True, keys.FRONT_DOOR)
        ours = await house.queue.job(job.job_id)
        assert ours is not None
        assert (ours.state, ours.outcome) == ("done", "synced")


async def test_what_an_arq_client_writes_is_what_we_read(client: ArqRedis) -> None:
    """Function, arguments by place and by name, and when; due in milliseconds in a sorted set."""
    before = time.time()
    job = await client.enqueue_job("chore", "a", 2, word="b", _defer_by=5)
    assert job is not None
    envelope = read_job(await client.get(keys.JOB + job.job_id))
    assert (envelope.name, envelope.args, envelope.kwargs) == ("chore", ["a", 2], {"word": "b"})
    assert before - 0.002 <= envelope.enqueued_ms / 1000 <= time.time() + 0.002
    assert await client.zscore(keys.FRONT_DOOR, job.job_id) == envelope.enqueued_ms + 5_000


async def test_an_arq_client_follows_our_jobs(settings: Settings, client: ArqRedis) -> None:
    """Status, info and result of `arq.jobs.Job`, in every state and in any lane."""
    gate = Gate()

    async def hold(deps: Deps, word: str) -> str:
        await gate.enter(word)
        if word == "bad":
            raise Permanent("refused (404)")
        return word

    def seen(job_id: str) -> ArqJob:
        return ArqJob(job_id, client, _queue_name="sync", _deserializer=deserialize)

    async with serving(settings, job_of(hold), max_concurrent_jobs=2) as house:
        good, bad = seen(await house.enqueue("hold", word="good")), seen(await house.enqueue("hold", word="bad"))
        await gate.has(2)
        queued, later = (
            seen(await house.enqueue("hold", word="q")),
            seen(await house.put("hold", {"word": "l"}, delay_s=60)),
        )
        assert [await job.status() for job in (good, queued, later, seen("nobody"))] == [
            *(JobStatus.in_progress, JobStatus.queued, JobStatus.deferred, JobStatus.not_found),
        ]
        info = await queued.info()
        assert info is not None
        assert (info.function, info.kwargs) == ("hold", {"word": "q"})
        assert info.score is not None
        gate.open()
        assert await good.result(timeout=10, poll_delay=0.01) == "good"
        with pytest.raises(JobError, match=r"refused \(404\)"):
            await bad.result(timeout=10, poll_delay=0.01)
        assert await good.status() == await bad.status() == JobStatus.complete
        with pytest.raises(ResultNotFound):
            await seen("nobody").result()
