"""How one job ends that was claimed by the lanes: done, again, later, or for good; and what is left of it in Redis."""

import asyncio
import pickle
import time
from typing import Any

import orjson
import pytest

from src.deps import Deps
from src.engine import keys
from src.engine.job import Outcome
from src.errors import Permanent, Snooze, Transient
from src.settings import Settings
from tests.harness.jobs import job as job_of
from tests.harness.lanes import Gate, House, serving, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
SOON: dict[str, Any] = {"retry_base_s": 0.01, "retry_cap_s": 0.02}


async def echo(deps: Deps, word: str = "hello", number: int = 1) -> str:
    return Outcome(word, number=number)


ECHO = job_of(echo)


async def left_of(house: House, job_id: str) -> set[str]:
    """Every key and every lane that still knows the job, but for its result."""
    names = [prefix + job_id for prefix in (keys.JOB, keys.TRIES, keys.ATTEMPTS, keys.IN_PROGRESS)]
    left = {name for name in names if await house.redis.exists(name)}
    for lane in await house.queue.stats():
        if await house.redis.zscore(lane, job_id) is not None:
            left.add(lane)
        if await house.redis.execute_command("HEXISTS", keys.RUNNING + lane, job_id):
            left.add(keys.RUNNING + lane)
    return left


async def test_a_job_that_is_done_leaves_its_outcome_for_a_while(settings: Settings) -> None:
    """Its caller can ask how it ended for WORKER_KEEP_RESULT_SECONDS, and nothing else of it fills Redis."""
    async with serving(settings, ECHO, keep_result_seconds=7) as house:
        before = time.time()
        job_id = await house.enqueue("echo", word="synced")
        info = await house.ended(job_id)
        assert (info.state, info.job, info.lane, info.attempt, info.outcome, info.error) == (
            *("done", "echo", "sync", 1, "synced", None),
        )
        assert info.started_at is not None
        assert info.finished_at is not None
        assert before - 1 <= info.enqueued_at <= info.started_at + 0.01 <= info.finished_at + 0.01 <= time.time() + 1
        assert 5_000 < await house.redis.pttl(keys.RESULT + job_id) <= 7_000
        assert await left_of(house, job_id) == set()


async def test_nothing_is_kept_where_results_are_off(settings: Settings) -> None:
    """A shop that asks for no results pays no memory for them."""
    async with serving(settings, ECHO, keep_result_seconds=0) as house:
        job_id = await house.enqueue("echo")
        await house.settled()
        assert await house.queue.job(job_id) is None
        assert not await house.redis.exists(keys.RESULT + job_id)
        assert (await house.queue.stats())["sync"].processed == 1


async def test_a_failure_is_tried_again_and_at_last_buried_with_its_whole_past(settings: Settings) -> None:
    """Who reads the dead letter sees every attempt: when, why and on which worker."""
    calls = 0

    async def fail(deps: Deps, page_id: str) -> str:
        nonlocal calls
        calls += 1
        raise Transient(f"failed for the {calls}. time")

    async with serving(settings, job_of(fail, max_tries=4, **SOON)) as house:
        job_id = await house.enqueue("fail", page_id="100")
        info = await house.ended(job_id)
        assert (info.state, info.attempt, info.outcome) == ("dead", 4, None)
        assert info.error == "failed for the 4. time"
        letter = await house.letter(job_id)
        assert [attempt["error"] for attempt in letter["attempts"]] == [
            f"failed for the {n}. time" for n in (1, 2, 3, 4)
        ]
        assert [attempt["at"] for attempt in letter["attempts"]] == sorted(a["at"] for a in letter["attempts"])
        assert all(attempt["worker"].startswith("test:") for attempt in letter["attempts"])
        assert (letter["job"], letter["lane"], letter["arguments"]) == ("fail", "sync", {"page_id": "100"})
        assert "Transient" in letter["traceback"]
        assert await left_of(house, job_id) == set()
        stats = (await house.queue.stats())["sync"]
        assert (stats.processed, stats.failed, stats.retry) == (1, 1, 0)


async def test_a_job_that_recovers_is_done(settings: Settings) -> None:
    """A passing fault is nobody's work: no letter, and the outcome tells at which attempt it went well."""
    calls = 0

    async def recover(deps: Deps) -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise Transient("not yet")
        return "synced"

    async with serving(settings, job_of(recover, **SOON)) as house:
        info = await house.ended(await house.enqueue("recover"))
        assert (info.state, info.attempt, info.outcome) == ("done", 3, "synced")
        assert await house.deps.dead_letters.count() == 0


async def test_the_wait_the_other_side_names_is_kept(settings: Settings) -> None:
    """`Retry-After` is never undercut, whatever our own backoff would be; and it is not much exceeded either."""
    at: list[float] = []

    async def limited(deps: Deps) -> str:
        at.append(time.monotonic())
        if len(at) == 1:
            raise Transient("too many calls", retry_after_s=0.5)
        return "sent"

    async with serving(settings, job_of(limited, **SOON)) as house:
        await house.ended(await house.enqueue("limited"))
        assert 0.5 <= at[1] - at[0] < 2


async def test_a_snooze_spends_no_try(settings: Settings) -> None:
    """Work in many parts goes on part by part, and a failure in one of them has all its tries."""
    calls = 0

    async def parts(deps: Deps) -> str:
        nonlocal calls
        calls += 1
        if calls < 8:
            raise Snooze("there is more", after_s=0.001)
        if calls == 8:
            raise Transient("not yet")
        return "synced"

    async with serving(settings, job_of(parts, max_tries=2, **SOON)) as house:
        info = await house.ended(await house.enqueue("parts"))
        assert (info.state, info.attempt, calls) == ("done", 2, 9)


async def test_a_job_past_its_timeout_is_stopped_and_tried_again(settings: Settings) -> None:
    """A job that hangs gives its slot back, and has its other tries."""
    stopped = 0

    async def hang(deps: Deps) -> str:
        nonlocal stopped
        try:
            await asyncio.Event().wait()
        finally:
            stopped += 1
        return "never"

    async with serving(settings, job_of(hang, timeout_s=0.02, max_tries=2, **SOON), max_concurrent_jobs=1) as house:
        info = await house.ended(await house.enqueue("hang"))
        assert (info.state, info.attempt, info.error) == ("dead", 2, "the job ran longer than its timeout")
        assert stopped == 2


async def test_a_job_nobody_here_knows_waits_for_a_newer_worker_before_it_is_buried(settings: Settings) -> None:
    """During a rolling deploy an old worker meets new jobs: it tries a few times, and keeps what it cannot run."""
    async with serving(settings, ECHO) as house:
        payload = {"v": 1, "t": None, "f": "brand_new", "a": [7], "k": {"page_id": "1"}, "et": 1_700_000_000_000}
        await house.put_raw("sync", "new-1", orjson.dumps(payload))

        async def failed() -> bool:
            info = await house.queue.job("new-1")
            return info is not None and info.state in ("retry", "pending") and info.error is not None

        await until(failed)
        info = await house.queue.job("new-1")
        assert info is not None
        assert info.attempt == 1  # the worker that knows it has all tries left
        # three tries later: the waits between them are minutes
        (met,) = await house.redis.execute_command("LRANGE", keys.ATTEMPTS + "new-1", 0, -1)
        await house.redis.execute_command("RPUSH", keys.ATTEMPTS + "new-1", met, met, met)
        await house.redis.zadd("sync", {"new-1": 1})
        info = await house.ended("new-1")
        assert (info.state, info.job, info.attempt) == ("dead", "brand_new", 1)
        assert "'brand_new'" in str(info.error)
        letter = await house.letter("new-1")
        assert letter["arguments"] == {"page_id": "1", "args": [7]}
        assert orjson.loads(letter["raw"]) == payload
        assert len(letter["attempts"]) == 5


async def test_a_name_nobody_here_knows_is_only_a_text(settings: Settings) -> None:
    """Braces in it are no template of a log line: that would raise, and the job come back for ever without a try."""
    async with serving(settings, ECHO) as house:
        await house.put_raw("sync", "new-2", b'{"v":1,"f":"{job_id.__class__}{}","a":[],"k":{},"et":1}')

        async def is_told_apart() -> bool:
            info = await house.queue.job("new-2")
            return info is not None and info.error is not None

        await until(is_told_apart)
        info = await house.queue.job("new-2")
        assert info is not None
        assert info.error == "there is no job '{job_id.__class__}{}' in this worker"


@pytest.mark.parametrize(
    "payload",
    [
        pickle.dumps({"t": None, "f": "echo", "a": (), "k": {}, "et": 1}),
        b'{"v":2,"f":"echo","a":[],"k":{},"et":1}',
        b'{"v":1,"f":"echo","a":[],"k":{},"et":1,"p":1.5}',
        b"\xff\x00",
        b"[]",
    ],
    ids=["pickle", "version 2", "half a priority", "bytes", "list"],
)
async def test_what_cannot_be_read_is_set_aside_as_it_came(settings: Settings, payload: bytes) -> None:
    """Nothing of it is run, nothing of it is lost, and the jobs behind it go on."""
    async with serving(settings, ECHO, max_concurrent_jobs=1) as house:
        await house.put_raw("sync", "strange-1", payload)
        info = await house.ended("strange-1")
        assert info.state == "dead"
        assert "serializer" in str(info.error)
        letter = await house.letter("strange-1")
        assert bytes(letter["raw"]) == payload
        assert letter["lane"] == "sync"
        assert (await house.ended(await house.enqueue("echo"))).state == "done"


async def test_a_job_whose_content_is_gone_is_buried_and_said(settings: Settings) -> None:
    """An id without a job, as an evicting Redis leaves it, does not go round for ever."""
    async with serving(settings, ECHO) as house:
        await house.redis.zadd("sync", {"gone-1": 1})
        info = await house.ended("gone-1")
        assert info.state == "dead"
        assert "noeviction" in str(info.error)
        assert await left_of(house, "gone-1") == set()


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ([], {"number": "many"}, "number: "),
        ([], {"nobody": 1}, "nobody: "),
        (["a", 2, 3], {}, "argument_1: "),
    ],
    ids=["value", "name", "too many"],
)
async def test_arguments_are_checked_before_the_job_runs(
    settings: Settings, args: list[Any], kwargs: dict[str, Any], words: str
) -> None:
    """A plain arq client may send anything: it is told at once what is wrong, and not one try is spent."""
    ran = 0

    async def strict(deps: Deps, word: str = "hello", number: int = 1) -> str:
        nonlocal ran
        ran += 1
        return word

    async with serving(settings, job_of(strict)) as house:
        job = {"t": None, "f": "strict", "a": args, "k": kwargs, "et": int(time.time() * 1000)}
        await house.put_raw(keys.FRONT_DOOR, "plain-1", orjson.dumps(job))
        info = await house.ended("plain-1")
        assert (info.state, info.attempt, ran) == ("dead", 1, 0)
        assert "strict(word: str" in str(info.error)
        assert words in str(info.error)


async def test_arguments_by_position_reach_the_job(settings: Settings) -> None:
    """What arq's own `enqueue_job("echo", "hi", 7)` writes is understood, types made right."""
    async with serving(settings, ECHO) as house:
        job = {"t": None, "f": "echo", "a": ["hi"], "k": {"number": "7"}, "et": int(time.time() * 1000)}
        await house.put_raw(keys.FRONT_DOOR, "plain-1", orjson.dumps(job))
        info = await house.ended("plain-1")
        assert (info.state, info.outcome, info.lane) == ("done", "hi", keys.FRONT_DOOR)


async def test_later_tries_wait_in_the_retry_lane(settings: Settings) -> None:
    """Merchants that fail must not stand before those that have not been tried yet."""
    lanes: list[str] = []
    gate = Gate()

    async def deliver(deps: Deps) -> str:
        found = [
            lane
            for lane in ("webhooks", "webhooks_retry")
            if await deps.redis.execute_command("HLEN", keys.RUNNING + lane)
        ]
        lanes.extend(found)
        if len(lanes) < 3:
            raise Transient("refused")
        await gate.enter("third")
        return "delivered"

    async with serving(settings, job_of(deliver, "webhooks", retry_lane="webhooks_retry", **SOON)) as house:
        job_id = await house.enqueue("deliver")
        await gate.has(1)
        assert lanes == ["webhooks", "webhooks_retry", "webhooks_retry"]
        info = await house.queue.job(job_id)
        assert info is not None
        assert (info.state, info.lane, info.attempt) == ("active", "webhooks_retry", 3)
        gate.open()
        assert (await house.ended(job_id)).lane == "webhooks_retry"
        stats = await house.queue.stats()
        assert (stats["webhooks"].processed, stats["webhooks_retry"].processed) == (0, 1)
        assert await left_of(house, job_id) == set()
        assert await house.redis.zcard(keys.RETRY + "webhooks_retry") == 0


async def test_a_failure_that_no_try_can_help_is_buried_at_once(settings: Settings) -> None:
    """The other tries would only say the same again, and take slots for it."""

    async def refuse(deps: Deps) -> str:
        raise Permanent("refused (404)")

    async with serving(settings, job_of(refuse)) as house:
        info = await house.ended(await house.enqueue("refuse"))
        assert (info.state, info.attempt, info.error) == ("dead", 1, "refused (404)")
