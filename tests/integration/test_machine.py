"""The machine looks after itself: each trouble is told once, and its end once, whoever looks and whatever is killed."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from src.catalog import CATALOG
from src.clients import mongo
from src.deps import Deps, open_deps
from src.engine import keys
from src.engine.inline import run_to_end
from src.engine.queue import Queue
from src.engine.wire import write_job
from src.jobs import ALL_JOBS
from src.jobs.machine import check_jobs
from src.monitoring.agents import remove
from src.monitoring.machine.look import look_at_machine
from src.monitoring.machine.workers import UNSURE
from src.monitoring.present import take_over, worker_check_in, worker_check_out
from src.rules.machine import MOST_NOTICES, STALE_S
from src.settings import AlertSettings, MongoSettings, MonitorSettings, RedisSettings, load_settings
from src.store.machine_state import Usual
from src.store.run_document import Run
from src.store.run_minutes import Minute
from src.store.schedules import LastRun, Progress
from tests.conftest import Servers
from tests.harness.alerts import START, Hands, Post

pytestmark = pytest.mark.anyio

OFFICE = "telegram:-9"
HOUR = 3600.0


@dataclass
class Room:
    """A machine, looked at when a test says so, at the time it says."""

    deps: Deps
    post: Post = field(default_factory=Post)
    time: list[float] = field(default_factory=lambda: [float(START)])

    @property
    def queue(self) -> Queue:
        return Queue(self.deps.redis, CATALOG)

    async def after(self, seconds: float, *, looks: int = 1) -> list[str]:
        """Let the time pass, look, send; returns the titles of what came."""
        self.time[0] += seconds
        before = len(self.post.sent)
        await asyncio.gather(*(look_at_machine(self.deps) for _ in range(looks)))
        for to in await self.deps.outbox.addresses(self.deps.now()):
            await run_to_end(ALL_JOBS, self.deps, "send_alerts", {"to": to}, max_tries=1)
        return [note.title for to, note in self.post.sent[before:] if to == OFFICE]

    async def texts(self) -> str:
        """All that comes of one look now, as one text."""
        before = len(self.post.sent)
        await self.after(0)
        return "\n".join(f"{note.title}\n{note.text}" for to, note in self.post.sent[before:] if to == OFFICE)

    async def ran(self, *ends: str, job: str = "sync_pages", job_id: str = "j1", **arguments: Any) -> None:
        """Runs ended so, one second after the other."""
        documents = []
        for end in ends:
            self.time[0] += 1.0
            error = "" if end == "done" else "Pancake is away"
            run = Run(job, job_id, "sync", "w", 1, self.time[0], self.time[0], 0.1, end, "", error, "", arguments)
            documents += self.deps.job_runs.documents([run], timedelta(days=3650))
        await self.deps.job_runs.add(documents)

    async def letter(self, job_id: str, **more: Any) -> None:
        """A job failed for good."""
        await self.deps.dead_letters.add_job(
            job="sync_pages",
            lane="sync",
            letter_id=job_id,
            job_id=job_id,
            arguments={},
            error="Pancake is away",
            traceback="",
            attempts=[],
            **more,
        )

    async def starts(self, job: str = "sync_pages", **arguments: Any) -> str:
        """A job begins to run now."""
        (job_id,) = await self.queue.put([self.queue.prepare(job, arguments)])
        await self.deps.redis.set(keys.IN_PROGRESS + job_id, int(self.time[0] * 1000))
        await self.deps.redis.hset(keys.RUNNING + CATALOG[job].lane, job_id, "host:1:ab")  # type: ignore[misc]
        return job_id

    async def stops(self, job_id: str, *, lane: str = "sync", failed: int | None = None) -> None:
        """It runs no more; it is over, or `failed` so many times and is to run again."""
        await self.deps.redis.delete(keys.IN_PROGRESS + job_id)
        await self.deps.redis.hdel(keys.RUNNING + lane, job_id)  # type: ignore[misc]
        if failed is None:
            await self.deps.redis.zrem(lane, job_id)
        else:
            await self.deps.redis.set(keys.TRIES + job_id, f"{failed}:0")

    async def fired(self, name: str, ago_s: float, job_id: str = "") -> None:
        tick = datetime.fromtimestamp(self.time[0] - ago_s, UTC)
        await self.deps.schedules.note(name, Progress(tick=tick, job_id=job_id), make=True)

    async def waits(self, lane: str, seconds: float) -> None:
        """The oldest job of a lane is one that was due so long ago."""
        now_ms = time.time_ns() // 1_000_000 - int(seconds * 1000)
        await self.deps.redis.delete(lane)
        await self.deps.redis.set(keys.JOB + "old", write_job("sync_pages", {}, now_ms, priority=0, unique="", tp=""))
        await self.deps.redis.zadd(lane, {"old": now_ms})

    def set(self, **monitor: Any) -> None:
        settings = self.deps.settings.replace(monitor=MonitorSettings(_env_file=None, **monitor))
        self.deps = replace(self.deps, settings=settings)

    async def open_kinds(self) -> list[str]:
        return sorted(alert.kind for alert in await self.deps.alerts.latest())


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def opened(servers: Servers) -> AsyncIterator[Deps]:
    """One database for all tests of this module: to make the indexes of each takes longer than the tests."""
    settings = load_settings(None).replace(
        redis=RedisSettings(url=SecretStr(servers.redis_url)),
        mongo=MongoSettings(uri=SecretStr(servers.mongodb_uri), database=f"test_{uuid.uuid4().hex[:12]}"),
        alerts=AlertSettings(_env_file=None, operations_to=(OFFICE,), language="en"),
    )
    async with open_deps(settings) as deps:
        yield deps
        await deps.database.client.drop_database(deps.database.name)


@pytest.fixture
async def room(opened: Deps, monkeypatch: pytest.MonkeyPatch) -> Room:
    await opened.redis.flushdb()
    for name in await opened.database.list_collection_names():
        await opened.database[name].delete_many({})
    found = Room(opened)
    found.deps = replace(opened, hands=Hands(), channels=found.post, now=lambda: found.time[0])  # type: ignore[arg-type]

    async def clock() -> datetime:
        return datetime.fromtimestamp(found.time[0], UTC)

    monkeypatch.setattr(opened.agents, "clock", clock)
    return found


async def test_all_is_well(room: Room) -> None:
    await room.ran("done")
    await room.starts()
    assert await room.after(15) == []
    outcome = await look_at_machine(room.deps)
    assert outcome is not None
    assert (outcome.wrong, outcome.told, outcome.back) == (0, 0, 0)


class TestFailing:
    """Three runs in a row with the same arguments."""

    async def test_it_is_told_once_and_its_end_once(self, room: Room) -> None:
        await room.ran("retry", "retry")
        assert await room.after(15) == []
        await room.ran("retry")
        assert await room.after(15) == ["🔔 sync_pages failed 3 times in a row: Pancake is away"]
        assert "runs --job sync_pages --failed" in room.post.sent[-1][1].text
        await room.ran("retry", "dead")
        assert await room.after(15) == []
        await room.ran("done")
        assert await room.after(15) == ["✅ sync_pages works again"]
        assert await room.after(15) == []

    async def test_what_is_no_failure_does_not_count(self, room: Room) -> None:
        """Nor does it end a row."""
        await room.ran("retry", "snoozed", "skipped", "retry", "cancelled", "missed")
        assert await room.after(15) == []
        await room.ran("retry")
        assert len(await room.after(15)) == 1

    async def test_failures_of_different_arguments_are_different_rows(self, room: Room) -> None:
        """Of a job one notice at most, however many pages it fails for; over when all of them are."""
        for page_id in ("1", "2", "3"):
            await room.ran("retry", job="sync_page_posts", page_id=page_id)
        assert await room.after(15) == []
        for page_id in ("1", "2"):
            await room.ran("retry", "retry", job="sync_page_posts", page_id=page_id)
        (told,) = await room.after(15)
        assert told.startswith("🔔 sync_page_posts failed 3 times in a row, with 2 different arguments")
        await room.ran("done", job="sync_page_posts", page_id="1")
        assert await room.after(15) == []
        await room.ran("done", job="sync_page_posts", page_id="2")
        assert await room.after(15) == ["✅ sync_page_posts works again"]

    async def test_a_job_that_died_is_over_when_its_letter_is_dealt_with(self, room: Room) -> None:
        """It never runs again by itself."""
        await room.ran("retry", "retry", "dead", job="deliver_webhook", job_id="d1")
        await room.letter("d1")
        assert any("deliver_webhook" in title for title in await room.after(15))
        await room.after(600)
        letter = await room.deps.dead_letters.get("d1")
        assert letter is not None
        assert "job_failing" in await room.open_kinds()
        await room.deps.dead_letters.replayed(letter, "replay:d1:1")
        assert any("deliver_webhook fails no more" in note.title + note.text for _, note in await self.sent(room, 15))
        assert "job_failing" not in await room.open_kinds()

    async def test_one_that_nobody_deals_with_is_over_after_an_hour(self, room: Room) -> None:
        """The next one is news again. One that its schedule will start again is not over."""
        await room.ran("retry", "retry", "dead", job="deliver_webhook", job_id="d1")
        await room.ran("retry", "retry", "dead", job="sync_customers_backfill", job_id="b:1")
        await room.letter("d1")
        await room.letter("b:1")
        await room.after(15)
        await room.after(STALE_S + 60)
        (job,) = [alert.facts["job"] for alert in await room.deps.alerts.latest() if alert.kind == "job_failing"]
        assert job == "sync_customers_backfill"
        await room.after(20 * HOUR)
        await room.ran("done", job="sync_customers_backfill")
        assert await room.after(15) == ["✅ sync_customers_backfill works again"]

    async def test_only_what_its_schedule_starts_again_is_waited_for(self, room: Room) -> None:
        """The job of a schedule, started by hand with other arguments, may never run so again."""
        await room.ran("retry", "retry", "retry", job="sync_pages", start_new=True)
        await room.ran("retry", "retry", "retry", job="report_response_times", day="2026-05-14")
        (told,) = await room.after(15)
        assert told == "🔔 2 notices"
        assert await room.after(STALE_S + 60) == [
            "✅ report_response_times fails no more: it was dealt with, or did not run again"
        ]

    async def test_the_page_is_named(self, room: Room) -> None:
        await room.ran("retry", "retry", "retry", job="sync_page_posts", page_id="1017")
        assert await room.after(15) == ["🔔 sync_page_posts failed 3 times in a row (1017): Pancake is away"]

    async def test_many_are_one_notice(self, room: Room) -> None:
        jobs = [name for name in CATALOG if name != "check_jobs"][: MOST_NOTICES + 2]
        for job in jobs:
            await room.ran("retry", "retry", "retry", job=job)
        (title,) = await room.after(15, looks=3)
        assert title.startswith(f"🔔 {MOST_NOTICES + 2} jobs fail again and again: {jobs[0]}, ")
        for job in jobs:
            await room.ran("done", job=job)
        assert await room.after(15) == ["✅ Most of the jobs that failed work again"]

    @staticmethod
    async def sent(room: Room, seconds: float) -> list[Any]:
        before = len(room.post.sent)
        await room.after(seconds)
        return room.post.sent[before:]

    @pytest.mark.parametrize("hours", [3, 9])
    async def test_what_failed_in_the_night_is_told_whenever_somebody_looks(self, room: Room, hours: int) -> None:
        """Nobody could for hours; and it fails still, as nothing of it has run since."""
        await room.ran("retry", "retry", "dead", job="sync_customers_backfill")
        await room.letter("j1")
        (told,) = [each for each in await room.after(hours * HOUR) if "sync_customers_backfill" in each]
        assert told.startswith("🔔 sync_customers_backfill failed 3 times in a row")
        assert await room.after(24 * HOUR) == []
        await room.ran("done", job="sync_customers_backfill")
        assert "✅ sync_customers_backfill works again" in await room.after(15)


class TestSlow:
    """Runs that take far longer than usual."""

    async def test_a_run_that_hangs_is_told_once_and_its_end_once(self, room: Room) -> None:
        await room.deps.machine_state.save_usual({"sync_pages": Usual(100, 2.0, START)})
        job_id = await room.starts()
        assert await room.after(59) == []
        assert await room.after(15) == [f"🔔 sync_pages has run for 1 min, usually 60 s at most (job {job_id})"]
        assert f"jobs show {job_id}" in room.post.sent[-1][1].text
        assert await room.after(15, looks=3) == []
        await room.stops(job_id)
        assert await room.after(15) == ["✅ sync_pages hangs no more"]

    async def test_one_that_is_tried_again_after_its_timeout_is_not_over(self, room: Room) -> None:
        """It may hang each time: one notice, not one for each try."""
        await room.deps.machine_state.save_usual({"sync_pages": Usual(100, 2.0, START)})
        job_id = await room.starts()
        assert len(await room.after(61)) == 1
        await room.stops(job_id, failed=1)
        assert await room.after(15) == []
        await room.deps.redis.set(keys.IN_PROGRESS + job_id, int(room.time[0] * 1000))
        assert await room.after(15) == []
        assert await room.after(61) == []
        await room.stops(job_id)
        assert await room.after(15) == ["✅ sync_pages hangs no more"]

    async def test_what_takes_that_long_always_is_well(self, room: Room) -> None:
        """Three times as long as usual; and what is not known well may take nearly its timeout."""
        await room.deps.machine_state.save_usual({"sync_pages": Usual(100, 80.0, START)})
        long, unknown = await room.starts(), await room.starts("sync_posts_incremental")
        assert await room.after(239) == []
        assert await room.after(2) == [f"🔔 sync_pages has run for 4 min, usually 240 s at most (job {long})"]
        assert await room.after(30) == [
            f"🔔 sync_posts_incremental has run for 4 min, usually 270 s at most (job {unknown})"
        ]

    async def test_a_backfill_is_no_pass_that_hangs(self, room: Room) -> None:
        """It goes on for as long as its timeout lets it, among hundreds of passes that take seconds."""
        await room.deps.machine_state.save_usual({"sync_page_customers": Usual(300, 2.0, START)})
        long = await room.starts("sync_page_customers", page_id="100", mode="backfill")
        assert await room.after(250) == []
        short = await room.starts("sync_page_customers", page_id="100")
        assert await room.after(25) == [f"🔔 sync_page_customers has run for 4 min, usually 270 s at most (job {long})"]
        await room.stops(long)
        assert await room.after(20) == ["✅ sync_page_customers hangs no more"]
        assert await room.after(20) == [f"🔔 sync_page_customers has run for 1 min, usually 60 s at most (job {short})"]

    async def test_how_long_a_job_takes_is_seen_from_its_runs(self, room: Room) -> None:
        """And asked for now and then only. Three times 30 s is what a run may take then."""
        minute = Minute("sync_pages", "sync", START - 600, "w", 0)
        for _ in range(20):
            minute.add(Run("sync_pages", "j", "sync", "w", 1, START, START, 30.0, "done", "", "", ""))
        await room.deps.run_minutes.save([minute])
        await room.starts()
        assert await room.after(61) == []
        (usual,) = (await room.deps.machine_state.usual(["sync_pages"])).values()
        assert (usual.runs, usual.at) == (20, START + 61)
        assert 27 < usual.p99_s <= 30
        (told,) = await room.after(30)
        assert told.startswith("🔔 sync_pages has run for 1 min")
        assert await room.deps.machine_state.usual(["sync_pages"]) == {"sync_pages": usual}


async def test_a_worker_whose_clock_is_wrong_tells_nothing_wrong(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at what others did in time: two minutes more, and a run of seconds hangs and a schedule is late."""
    await room.deps.machine_state.save_usual({"sync_pages": Usual(100, 2.0, START)})
    await room.starts()
    await room.fired("sync_conversations_incremental", 5.0)
    await room.after(0)
    real = time.time
    monkeypatch.setattr("src.monitoring.machine.view.time.time", lambda: real() + 300.0)
    room.time[0] += 300.0
    assert await room.after(1) == []


class TestLate:
    """Schedules that do not run when they should. `sync_customers_backfill`: at two in the night, START is nine."""

    NIGHT = 7 * HOUR
    NAME = "sync_customers_backfill"

    async def test_a_tick_that_was_not_fired(self, room: Room) -> None:
        await room.fired(self.NAME, self.NIGHT + 24 * HOUR)
        (told,) = await room.after(0)
        assert told == f"🔔 Schedule {self.NAME} did not run at 2026-09-22 02:00"
        assert await room.after(15) == []
        await room.fired(self.NAME, self.NIGHT + 15)
        assert await room.after(15) == [f"✅ Schedule {self.NAME} runs again"]

    async def test_a_tick_whose_job_does_not_start(self, room: Room) -> None:
        at = int(START)
        job_id = f"{self.NAME}:{at}"
        await room.queue.put([room.queue.prepare(self.NAME, {}, job_id=job_id)])
        await room.fired(self.NAME, 0, job_id)
        assert await room.after(119) == []
        (told,) = await room.after(15)
        assert told == f"🔔 Schedule {self.NAME} of 2026-09-22 09:00 has not run yet: its job waits in lane sync"
        assert "queues" in room.post.sent[-1][1].text
        await room.deps.redis.set(keys.IN_PROGRESS + job_id, int(room.time[0] * 1000))
        assert await room.after(15) == [f"✅ Schedule {self.NAME} runs again"]

    async def test_a_job_that_gave_way_and_waits_again_has_run(self, room: Room) -> None:
        job_id = f"{self.NAME}:{START}"
        await room.queue.put([room.queue.prepare(self.NAME, {}, job_id=job_id)])
        await room.fired(self.NAME, 0, job_id)
        started = datetime.fromtimestamp(START + 1, UTC)
        await room.deps.schedules.ran(self.NAME, LastRun("snoozed", started, 5.0), 1)
        assert await room.after(600) == []

    async def test_in_a_lane_that_is_paused_nothing_is_late(self, room: Room) -> None:
        """Somebody wanted that; of the lane there is a notice of its own."""
        job_id = f"{self.NAME}:{START}"
        await room.queue.put([room.queue.prepare(self.NAME, {}, job_id=job_id)])
        await room.fired(self.NAME, 0, job_id)
        await room.queue.pause("sync")
        assert await room.after(600) == []

    async def test_ticks_that_nobody_was_there_for(self, room: Room) -> None:
        await room.fired(self.NAME, self.NIGHT + 48 * HOUR)
        since, at = (datetime.fromtimestamp(START - self.NIGHT - ago, UTC) for ago in (24 * HOUR, 0))
        progress = Progress(tick=at, missed=2, missed_since=since, missed_at=at)
        await room.deps.schedules.note(self.NAME, progress, make=False)
        assert await room.after(0) == [f"🔔 Schedule {self.NAME} did not run at 2026-09-21 02:00: no worker was there"]
        room.time[0] += 17 * HOUR
        await room.fired(self.NAME, 0)
        assert await room.after(1) == [f"✅ Schedule {self.NAME} runs again"]

    async def test_what_was_missed_and_run_by_hand_is_over(self, room: Room) -> None:
        tick = datetime.fromtimestamp(START - self.NIGHT, UTC)
        progress = Progress(tick=tick, missed=1, missed_since=tick, missed_at=tick)
        await room.deps.schedules.note(self.NAME, progress, make=True)
        assert len(await room.after(0)) == 1
        await room.deps.schedules.ran(self.NAME, LastRun("done", datetime.fromtimestamp(START, UTC), 5.0), 1)
        assert await room.after(15) == [f"✅ Schedule {self.NAME} runs again"]

    async def test_a_tick_whose_job_redis_lost(self, room: Room) -> None:
        """It was fired and noted, and Redis crashed before that was on its disk."""
        at = int(START)
        await room.fired(self.NAME, 0, f"{self.NAME}:{at}")
        assert await room.after(119) == []
        (told,) = await room.after(15)
        assert told == f"🔔 Schedule {self.NAME} did not run at 2026-09-22 09:00: Redis lost its job"
        now = datetime.fromtimestamp(room.time[0], UTC)
        await room.deps.schedules.ran(self.NAME, LastRun("done", now, 5.0), 1)  # by hand
        assert await room.after(15) == [f"✅ Schedule {self.NAME} runs again"]

    async def test_many_that_wait_in_a_lane_that_is_paused_then_are_not_over(self, room: Room) -> None:
        """There is one notice for all; it stands until they run."""
        tick = int(START - 600)
        for name in (f"n{number}" for number in range(12)):
            begun = datetime.fromtimestamp(START - HOUR, UTC)
            await room.deps.schedules.add(name, {"job": "sync_pages", "schedule": "*/30 * * * *"}, begun)
            await room.queue.put([room.queue.prepare("sync_pages", {}, job_id=f"{name}:{tick}")])
            await room.fired(name, 600, f"{name}:{tick}")
        (told,) = await room.after(0)
        assert told.startswith("🔔 12 schedules do not run when they should")
        await room.queue.pause("sync")
        assert await room.after(15) == []
        await room.queue.resume("sync")
        assert await room.after(15) == []

    async def test_one_that_is_turned_off_ends_without_a_word(self, room: Room) -> None:
        await room.fired(self.NAME, self.NIGHT + 24 * HOUR)
        assert len(await room.after(0)) == 1
        now = datetime.fromtimestamp(room.time[0], UTC)
        await room.deps.schedules.change(self.NAME, {"isEnabled": False}, now, make=True, restart=False)
        assert await room.after(15) == []
        assert await room.open_kinds() == []


class TestQueues:
    """Dead letters and lanes."""

    async def test_dead_letters_that_grow_are_told_once(self, room: Room) -> None:
        await room.letter("old")
        assert await room.after(15) == []
        await room.letter("a")
        await room.letter("b")
        assert await room.after(15) == ["⏳ 2 more jobs failed for good (3 in all)"]
        await room.letter("c")
        assert await room.after(15, looks=3) == []
        for letter in ("a", "b", "c"):
            await room.deps.dead_letters.drop(f"job:{letter}")
        assert await room.after(15) == ["✅ The jobs that failed for good are dealt with"]

    async def test_rows_that_cannot_be_read_are_told_once(self, room: Room) -> None:
        """Nobody looks for a customer who is missing."""
        letters = room.deps.dead_letters
        row = {"stream": "customers", "page_id": "100", "error": "id: field required", "raw": "{}"}
        await letters.add_row(row_id="old", **row)
        assert await room.after(15) == []
        for row_id in ("a", "b", "a"):
            await letters.add_row(row_id=row_id, **row)
        assert await room.after(15) == ["⏳ 2 more rows from Pancake cannot be read and are set aside (3 in all)"]
        assert await room.after(15, looks=3) == []
        for row_id in ("a", "b"):
            await letters.drop(f"row:customers:100:{row_id}")
        assert await room.after(15) == ["✅ The rows that were set aside are read, or dealt with"]

    async def test_letters_that_stay_are_no_news_after_an_hour(self, room: Room) -> None:
        await room.after(15)
        await room.letter("a")
        assert await room.after(15) == ["⏳ 1 more jobs failed for good (1 in all)"]
        assert await room.after(STALE_S) == ["✅ No more jobs failed for good; 1 wait for somebody"]
        await room.letter("b")
        assert await room.after(15) == ["⏳ 1 more jobs failed for good (2 in all)"]

    async def test_a_lane_that_does_not_keep_up(self, room: Room) -> None:
        await room.waits("sync", 500)
        assert await room.after(15) == []
        await room.waits("sync", 605)
        assert await room.after(15) == ["🔔 Lane sync: the oldest job has waited 10 min (1 wait)"]
        await room.waits("sync", 400)
        assert await room.after(15) == []
        await room.waits("sync", 200)
        assert await room.after(15) == ["✅ Lane sync keeps up again"]

    async def test_of_a_paused_lane_it_is_said_how_it_goes_on(self, room: Room) -> None:
        await room.queue.pause("sync")
        await room.waits("sync", 605)
        assert await room.after(15) == ["⏳ Lane sync is paused: the oldest job has waited 10 min (1 wait)"]
        assert "queues resume sync" in room.post.sent[-1][1].text


class TestWorkers:
    """Workers that no longer check in."""

    NAME = "worker@host:1"

    async def test_one_that_is_silent_is_told_of_once_and_its_return_once(self, room: Room) -> None:
        await worker_check_in(room.deps, self.NAME)
        assert await room.after(30) == []
        (told,) = await room.after(1)
        assert told.startswith(f"🔔 Worker {self.NAME} is gone (host ")
        assert await room.after(15, looks=3) == []
        await worker_check_in(room.deps, self.NAME)
        assert await room.after(1) == [f"✅ Worker {self.NAME} is back"]
        assert await room.after(1) == []

    async def test_one_that_says_goodbye_is_not_missed(self, room: Room) -> None:
        """Nor is one `back` that hung, was told of, and was stopped then."""
        await worker_check_in(room.deps, self.NAME)
        await worker_check_out(room.deps, self.NAME)
        assert await room.after(60) == []
        await worker_check_in(room.deps, self.NAME)
        assert len(await room.after(31)) == 1
        await worker_check_out(room.deps, self.NAME)
        assert await room.after(15) == []
        assert await room.open_kinds() == []

    async def test_its_successor_ends_the_alert(self, room: Room) -> None:
        ended = await asyncio.create_subprocess_exec("true")
        await ended.wait()
        at = datetime.fromtimestamp(START, UTC)
        await room.deps.agents.check_in(self.NAME, at, kind="worker", system_info={"pid": ended.pid})
        assert len(await room.after(31)) == 1
        await worker_check_in(room.deps, "worker@host:2")
        assert await take_over(room.deps, "worker@host:2") == self.NAME
        assert await room.after(1) == [f"✅ Worker {self.NAME} was started again"]

    async def test_one_that_never_comes_back_is_forgotten_after_a_day(self, room: Room) -> None:
        await worker_check_in(room.deps, self.NAME)
        assert len(await room.after(31)) == 1
        assert await room.after(25 * HOUR) == []
        assert await room.deps.agents.all() == []
        assert await room.open_kinds() == []

    async def test_one_that_is_removed_is_not_missed(self, room: Room) -> None:
        await worker_check_in(room.deps, self.NAME)
        assert len(await room.after(31)) == 1
        assert await remove(room.deps, self.NAME)
        assert await room.after(15) == []
        assert await room.open_kinds() == []

    async def test_agents_of_the_shop_are_not_looked_at_here(self, room: Room) -> None:
        await room.deps.agents.check_in("till-7", datetime.fromtimestamp(START, UTC))
        assert await room.after(HOUR) == []
        (agent,) = await room.deps.agents.all()
        assert agent.is_online

    async def test_a_mongodb_that_was_away_makes_no_worker_vanish(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody could check in: they have as long as ever from when it is back."""
        await worker_check_in(room.deps, self.NAME)

        async def away(prefix: str) -> Any:
            raise mongo.OUTAGES[0]("mongod: connection refused")

        with monkeypatch.context() as patched:
            patched.setattr(room.deps.alerts, "open_below", away)
            room.time[0] += 300
            assert await look_at_machine(room.deps) is None
            outcome = await check_jobs(room.deps)
            assert outcome == "could_not_look"
        assert await room.after(1) == []
        assert 0 < await room.deps.redis.pttl(UNSURE) <= 30_000
        await room.deps.redis.delete(UNSURE)
        assert len(await room.after(1)) == 1

    async def test_a_told_worker_stays_told_meanwhile(self, room: Room) -> None:
        await worker_check_in(room.deps, self.NAME)
        assert len(await room.after(31)) == 1
        await room.deps.redis.set(UNSURE, "1")
        assert await room.after(15) == []
        await room.deps.redis.delete(UNSURE)
        assert await room.after(15) == []


async def test_a_look_that_is_cut_off_is_made_good(room: Room) -> None:
    """The notice was opened and nobody was told: the next look tells."""
    await worker_check_in(room.deps, "worker@host:1")
    room.time[0] += 31

    class Cut(Exception):
        pass

    async def cut(*_: Any) -> None:
        raise Cut

    add, room.deps.outbox.add = room.deps.outbox.add, cut  # type: ignore[method-assign,assignment]
    with pytest.raises(Cut):
        await look_at_machine(room.deps)
    room.deps.outbox.add = add  # type: ignore[method-assign]
    assert len(await room.after(0)) == 1
    assert await room.after(15) == []


class Killed(Exception):
    """Nothing is done any more."""


async def test_a_look_that_is_killed_anywhere_is_made_good(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of its calls in turn, with several kinds under way: begin and end are told once each, never twice."""
    left = [0]

    def mortal(call: Any) -> Any:
        async def called(*args: Any, **kwargs: Any) -> Any:
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return await call(*args, **kwargs)

        return called

    async def killed_after(calls: int) -> bool:
        left[0] = calls
        with monkeypatch.context() as patched:
            for store in (room.deps.alerts, room.deps.outbox, room.deps.agents, room.deps.job_runs, room.deps.hands):
                for name in [name for name in dir(store) if not name.startswith("_")]:
                    if asyncio.iscoroutinefunction(getattr(store, name)):
                        patched.setattr(store, name, mortal(getattr(store, name)))
            try:
                await look_at_machine(room.deps)
            except Killed:
                return True
        return False

    calls, was_killed = 0, True
    while was_killed:
        calls += 1
        job, worker = f"job_{calls}", f"worker@host:{calls}"
        await worker_check_in(room.deps, worker)
        await room.ran("retry", "retry", "retry", job=job)
        room.time[0] += 31
        was_killed = await killed_after(calls)
        begun = await room.texts()
        assert (begun.count(f"Worker {worker} is gone"), begun.count(f"{job} failed 3 times")) == (1, 1)
        await worker_check_in(room.deps, worker)
        await room.ran("done", job=job)
        was_killed |= await killed_after(calls)
        over = await room.texts()
        assert (over.count(f"Worker {worker} is back"), over.count(f"{job} works again")) == (1, 1)
        await worker_check_out(room.deps, worker)
        room.time[0] += HOUR  # an address gets so many messages an hour
    assert calls > 15, "there was something to cut"


async def test_one_kind_that_fails_stops_no_other(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in one of them is loud, and the others are told of all the same."""

    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    await worker_check_in(room.deps, "worker@host:1")
    monkeypatch.setattr(room.deps.dead_letters, "matching", broken)
    room.time[0] += 31
    with pytest.raises(ZeroDivisionError):
        await look_at_machine(room.deps)
    assert await room.open_kinds() == ["worker_gone"]


async def test_many_looks_at_once_tell_once(room: Room) -> None:
    """Two workers, or a job that was taken for dead and was not."""
    room.set(job_failures=2)
    await room.ran("retry", "retry")
    await worker_check_in(room.deps, "worker@host:1")
    await room.waits("sync", 700)
    (digest,) = await room.after(31, looks=6)
    assert digest == "🔔 3 notices"
    assert await room.deps.database["alerts"].count_documents({}) == 3
    await room.ran("done")
    await worker_check_in(room.deps, "worker@host:1")
    await room.waits("sync", 0)
    (digest,) = await room.after(1, looks=6)
    assert digest == "✅ 3 notices"
