"""Schedules fired by several workers that are killed, stopped for hours, and whose clocks stand still."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from src.deps import Deps
from src.engine import keys
from src.engine.claims import Claims, ended
from src.engine.declaration import Declaration, declare
from src.engine.queue import Queue
from src.engine.scripts import Scripts
from src.errors import Misuse
from src.rules.schedule import parse_schedule
from src.scheduling.desk import Desk, run_now
from src.scheduling.ticker import Ticker
from src.settings import ScheduleSettings
from src.store.run_document import Run

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
NOON = datetime(2026, 5, 14, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
OFF = ScheduleSettings.model_validate(dict.fromkeys(ScheduleSettings.model_fields, "off"))


@declare(lane="reports")
def chore(word: str = "done") -> None:
    """Nothing much."""


@declare(lane="sync", scheduled_arguments={"start_new": True})
def sync_pages(start_new: bool = False) -> None:
    """A job of a name that has a schedule in the settings."""


@declare(lane="reports", unique_key=lambda: "")
def single() -> None:
    """Only one waits or runs."""


DECLARED: dict[str, Declaration[Any]] = {each.name: each for each in (chore, sync_pages, single)}


@dataclass
class Yard:
    """Workers that fire on one Redis and one MongoDB, the time they go by, and what they fired and recorded."""

    deps: Deps
    queue: Queue
    now: datetime = NOON
    runs: list[Run] = field(default_factory=list)
    fired: list[tuple[str, datetime]] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    async def worker(self, now: Any = None) -> Ticker:
        """A new worker; `now` tells the time where it goes by a clock of its own."""

        async def look() -> tuple[float, list[str]]:
            return (now() if now else self.now).timestamp(), []

        deps = replace(self.deps, now=lambda: self.now.timestamp(), record=self.runs.append)
        ticker = Ticker(deps, self.queue, DECLARED, look=look)
        await ticker.load()
        return ticker

    def desk(self) -> Desk:
        return Desk(self.deps.settings, self.deps.schedules, DECLARED, self.now.timestamp())

    async def add(self, name: str, expression: str, **given: Any) -> None:
        await self.desk().add(name, {"job": "chore", "schedule": expression, **given})

    async def collect(self) -> list[str]:
        """Ids of the jobs that wait; those not seen before are noted as fired."""
        found = [job_id.decode() for job_id in await self.deps.redis.zrange("reports", 0, -1)]
        for job_id in found:
            if job_id not in self._seen:
                self._seen.add(job_id)
                payload = orjson.loads(await self.deps.redis.get(keys.JOB + job_id) or b"{}")
                self.fired.append((payload["sn"], datetime.fromtimestamp(payload["sk"], UTC)))
        return found

    async def work(self) -> None:
        """All that waits is done."""
        for job_id in await self.collect():
            await self.queue.cancel(job_id)

    def of(self, name: str) -> list[datetime]:
        return [tick for who, tick in self.fired if who == name]

    def ends(self, end: str) -> list[Run]:
        return [run for run in self.runs if run.end == end]


@pytest.fixture
async def yard(deps: Deps) -> Yard:
    settings = deps.settings.replace(schedules=OFF)
    return Yard(replace(deps, settings=settings), Queue(deps.redis, DECLARED))


def ticks(expression: str, after: datetime, through: datetime, zone: str = "Asia/Ho_Chi_Minh") -> list[datetime]:
    schedule = parse_schedule(expression, ZoneInfo(zone))
    assert schedule is not None
    found, tick = [], schedule.next_after(after)
    while tick <= through:
        found.append(tick)
        tick = schedule.next_after(tick)
    return found


class Crowd:
    """Three workers to which things happen."""

    def __init__(self, yard: Yard, chance: Random) -> None:
        self._yard = yard
        self._chance = chance
        self._stands: dict[int, datetime] = {}  # the clocks that stand still, and where
        self._tickers: dict[int, Ticker | None] = dict.fromkeys(range(3))

    async def look(self) -> None:
        """Each worker looks at its clock, or what else becomes of it."""
        for number, ticker in self._tickers.items():
            fate = self._chance.random()
            if ticker is None:
                if fate < 0.3:
                    self._tickers[number] = await self._yard.worker(partial(self._clock, number))
            elif fate < 0.06:
                await self._kill(ticker)
                self._tickers[number] = None
            elif fate < 0.12:
                if self._stands.pop(number, None) is None:
                    self._stands[number] = self._yard.now
            elif fate < 0.9:
                await ticker.tick()

    def _clock(self, number: int) -> datetime:
        return self._stands.get(number, self._yard.now)

    async def _kill(self, ticker: Ticker) -> None:
        doomed = asyncio.create_task(ticker.tick())
        for _ in range(self._chance.randrange(40)):
            await asyncio.sleep(0)
        doomed.cancel()
        await asyncio.gather(doomed, return_exceptions=True)


@pytest.mark.parametrize("seed", range(4))
async def test_three_workers_fire_each_tick_once_whatever_becomes_of_them(yard: Yard, seed: int) -> None:
    """Killed in the middle, stopped for hours, with a clock that stands still: each comes once, and in order."""
    zone, chance = "Australia/Lord_Howe", Random(seed)
    plans = {"all": "*/10 * * * *", "latest": "@every 7m", "none": "*/5 * * * *", "night": "30 2 * * *"}
    for name, expression in plans.items():
        catch_up = {"night": "latest"}.get(name, name)
        await yard.add(name, expression, catchUp=catch_up, catchUpMost=1000, zone=zone)
    crowd, begun = Crowd(yard, chance), yard.now
    for _ in range(150):
        yard.now += timedelta(seconds=chance.choice([1, 20, 20, 60, 60, 300, 4_000]))
        await crowd.look()
        await yard.work()
    await (await yard.worker()).tick()
    await yard.work()
    every = {name: ticks(expression, begun, yard.now, zone) for name, expression in plans.items()}
    for name in plans:
        fired = yard.of(name)
        assert fired == sorted(set(fired)), f"{name}: twice, or out of order"
        assert set(fired) <= set(every[name])
    assert yard.of("all") == every["all"]
    assert yard.of("night") == every["night"]
    assert yard.of("latest")[-1] == every["latest"][-1]
    assert len(yard.of("none")) >= 5


async def test_a_tick_that_runs_into_the_run_before_is_skipped_and_told(yard: Yard) -> None:
    """Once by all workers together, with a warning, in the history and as a number."""
    await yard.add("slow", "* * * * *")
    one, other = await yard.worker(), await yard.worker()
    for number in range(4):
        yard.now = NOON + (number + 1) * MINUTE
        await one.tick()
        await other.tick()
        if number == 2:
            await yard.work()
    assert await yard.collect() == [f"slow:{int((NOON + 4 * MINUTE).timestamp())}"]
    assert yard.of("slow") == [NOON + MINUTE, NOON + 4 * MINUTE]
    assert [run.tick_at for run in yard.ends("skipped")] == [(NOON + number * MINUTE).timestamp() for number in (2, 3)]
    await one.close()
    await other.close()
    state = (await yard.deps.schedules.all())["slow"]
    assert (state.skipped, state.last_tick_at) == (2, NOON + 4 * MINUTE)


@pytest.mark.parametrize("overlap", ["queue", "cancel_previous"])
async def test_runs_of_a_schedule_follow_each_other_where_it_says_so(yard: Yard, overlap: str) -> None:
    """`queue`: one after the other. `cancel_previous`: what waits is taken out, what runs is stopped."""
    await yard.add("line", "* * * * *", overlap=overlap, job="single")
    ticker = await yard.worker()
    ids = [f"line:{int((NOON + number * MINUTE).timestamp())}" for number in (1, 2, 3)]
    for number in (1, 2, 3):
        yard.now = NOON + number * MINUTE
        await ticker.tick()
        if number == 1:  # it runs
            await yard.deps.redis.hset(keys.RUNNING + "reports", ids[0], "somebody")  # type: ignore[misc]
    group = [i.decode() for i in await yard.deps.redis.lrange(f"{keys.GROUP}schedule:line", 0, -1)]  # type: ignore[misc]
    stopped = [i.decode() for i in await yard.deps.redis.zrange(keys.CANCEL, 0, -1)]
    if overlap == "queue":
        assert (group, stopped) == (ids, [])
    else:
        assert (group, stopped) == ([ids[0], ids[2]], [ids[0]])
        assert [run.job_id for run in yard.ends("cancelled")] == [ids[1]]


async def test_missed_ticks_are_told_once_by_all_workers_together(yard: Yard) -> None:
    """All were stopped for three hours: each finds the same, one tells."""
    await yard.add("often", "*/5 * * * *", catchUp="none")
    yard.now += timedelta(hours=3, minutes=2)
    for _ in range(3):
        ticker = await yard.worker()
        await ticker.tick()
        await ticker.close()
    (missed,) = yard.ends("missed")
    assert "36 ticks" in missed.error
    assert yard.fired == []
    state = (await yard.deps.schedules.all())["often"]
    assert (state.missed, state.missed_since, state.missed_at) == (36, NOON + 5 * MINUTE, NOON + 3 * HOUR)


async def test_what_was_decided_and_not_noted_is_noted_by_another_worker(yard: Yard) -> None:
    """A worker dies between firing a tick and noting it: nobody is to think that it did not fire."""
    await yard.add("chores", "0 * * * *")
    killed, other = await yard.worker(), await yard.worker()
    yard.now = NOON + HOUR
    await killed.tick()
    await other.tick()
    assert (await yard.deps.schedules.all())["chores"].last_tick_at is None
    yard.now += MINUTE
    await other.tick()
    await other.load()
    await other.close()
    assert (await yard.deps.schedules.all())["chores"].last_tick_at == NOON + HOUR
    assert yard.runs == []


async def test_what_redis_forgot_is_not_fired_again(yard: Yard) -> None:
    """A flushed Redis knows no ticks; MongoDB and the workers do."""
    await yard.add("chores", "0 * * * *", catchUp="all")
    old = await yard.worker()
    yard.now = NOON + HOUR
    await old.tick()
    await old.close()
    await yard.work()
    await yard.deps.redis.flushdb()
    for ticker in (old, await yard.worker()):
        await ticker.load()
        await ticker.tick()
    assert await yard.collect() == []


async def test_what_redis_kept_from_firing_fires_when_it_is_back(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick during an outage was not slept through: the last of them runs, even where nothing is caught up."""
    await yard.add("often", "*/5 * * * *", catchUp="none")
    ticker = await yard.worker()
    await ticker.tick()
    away = 1_000_000.0
    monkeypatch.setattr(ticker, "_away_since", away)
    yard.now = NOON + 17 * MINUTE
    await ticker.tick()
    await yard.collect()
    assert yard.of("often") == [NOON + 15 * MINUTE]


async def test_a_new_shop_does_not_wait_for_the_night(yard: Yard) -> None:
    """A daily schedule of the settings that never fired does so at once, once for all workers; a frequent one waits."""
    settings = yard.deps.settings.replace(schedules=OFF.model_copy(update={"sync_pages": "0 2 * * *"}))
    yard.deps = replace(yard.deps, settings=settings)
    for _ in range(3):
        ticker = await yard.worker()
        await ticker.tick()
        await ticker.close()
        yard.now += timedelta(seconds=2)
    (job_id,) = [i.decode() for i in await yard.deps.redis.zrange("sync", 0, -1)]
    assert job_id == f"sync_pages:{int(datetime(2026, 5, 13, 19, tzinfo=UTC).timestamp())}"


async def test_a_worker_that_ends_fires_no_more_and_still_stops_what_is_cancelled(yard: Yard) -> None:
    """It may have minutes to go, and nobody else can stop what runs in it."""
    await yard.add("often", "* * * * *")
    stopped: list[str] = []

    async def look() -> tuple[float, list[str]]:
        return (NOON + HOUR).timestamp(), ["running"]

    ticker = Ticker(yard.deps, yard.queue, DECLARED, stopped.extend, look=look)
    await ticker.load()
    ticker.stop_firing()
    await ticker.tick()
    await ticker.close()
    assert (await yard.collect(), stopped) == ([], ["running"])


async def test_jitter_puts_a_tick_off_and_keeps_its_name(yard: Yard) -> None:
    """The job falls due within the jitter; which tick it is of stays known."""
    await yard.add("spread", "0 * * * *", jitterSeconds=600)
    ticker = await yard.worker()
    yard.now = NOON + HOUR
    await ticker.tick()
    (job_id,) = await yard.collect()
    assert yard.of("spread") == [NOON + HOUR]
    due_ms = await yard.deps.redis.zscore("reports", job_id)
    seconds, micros = await yard.deps.redis.time()
    assert 0 < due_ms / 1000 - seconds - micros / 1e6 <= 600


async def test_a_pause_is_not_made_up(yard: Yard) -> None:
    """Resumed, a schedule goes on from its next tick, whatever it says of missed ones."""
    await yard.add("chores", "*/10 * * * *", catchUp="all")
    ticker = await yard.worker()
    await yard.desk().pause("chores")
    await ticker.load()
    yard.now += 2 * HOUR
    await ticker.tick()
    await yard.desk().resume("chores")
    await ticker.load()
    await ticker.tick()
    yard.now += 10 * MINUTE
    await ticker.tick()
    await yard.collect()
    assert yard.of("chores") == [NOON + 2 * HOUR + 10 * MINUTE]
    assert yard.runs == []


async def test_what_was_off_has_missed_nothing(yard: Yard) -> None:
    """Turned off and on by the settings, or by a program that sets `isEnabled` itself: nobody gave a command."""
    on = yard.deps.settings.replace(schedules=OFF.model_copy(update={"sync_pages": "*/30 * * * *"}))
    off = yard.deps.settings
    await yard.add("chores", "*/10 * * * *", catchUp="all")
    stored = yard.deps.database["schedules"]
    for settings, is_enabled, span in ((on, True, HOUR), (off, False, 50 * HOUR), (on, True, 4 * MINUTE)):
        yard.deps = replace(yard.deps, settings=settings)
        await stored.update_one({"name": "chores"}, {"$set": {"isEnabled": is_enabled}})
        ticker = await yard.worker()
        for _ in range(4):
            yard.now += span / 4
            await ticker.tick()
            await ticker.load()
            await ticker.note_rest()
        await ticker.close()
        await yard.work()
    assert yard.of("chores") == ticks("*/10 * * * *", NOON, NOON + HOUR)
    assert yard.ends("missed") == []


async def test_a_clock_that_was_ahead_for_a_moment_stops_nothing(yard: Yard) -> None:
    """Redis' machine was a day ahead, and is right again: what it decided then is not waited for."""
    noon = yard.now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # Redis goes by its own
    await yard.add("often", "*/5 * * * *")
    old = await yard.worker()
    yard.now = noon + 24 * HOUR
    await old.tick()
    await old.close()
    await yard.work()
    for ticker in (old, await yard.worker()):
        yard.fired.clear()
        yard.now = noon + (timedelta(0) if ticker is old else HOUR)
        begun = yard.now
        for _ in range(4):
            await ticker.load()
            await ticker.tick()
            await yard.work()
            yard.now += 5 * MINUTE
        assert yard.of("often") == [begun + number * 5 * MINUTE for number in (1, 2, 3)]


async def test_a_run_that_began_while_it_skipped_is_waited_for(yard: Yard) -> None:
    """Told to queue from now on, the next one does not start beside it."""
    await yard.add("line", "* * * * *", overlap="skip")
    ticker = await yard.worker()
    claims = Claims(yard.deps.redis, "worker", lease_s=60, head_start_s=30)
    lane = [("reports", 0.0, 1.0)]
    yard.now = NOON + MINUTE
    await ticker.tick()
    (first,) = (await claims.claim(lane, 5, suspects=1)).jobs
    await yard.desk().change("line", {"overlap": "queue"})
    await ticker.load()
    yard.now += MINUTE
    await ticker.tick()
    assert (await claims.claim(lane, 5, suspects=1)).jobs == []
    await claims.finish([ended(first, "", 0, "", is_failed=False)])
    (second,) = (await claims.claim(lane, 5, suspects=1)).jobs
    assert second.job_id == f"line:{int(yard.now.timestamp())}"


@pytest.mark.parametrize(("minutes", "end"), [(1, "skipped"), (65, "missed")])
async def test_a_decision_whose_answer_was_lost_is_noted(
    yard: Yard, minutes: int, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection drops with the answer, and the question is asked again."""
    await yard.add("chores", "*/10 * * * *" if minutes > 1 else "* * * * *", catchUp="none")
    ticker = await yard.worker()
    yard.now += MINUTE
    await ticker.tick()
    ask = Scripts.__call__

    async def twice(scripts: Scripts, name: str, args: list[Any]) -> Any:
        await ask(scripts, name, args)
        return await ask(scripts, name, args)

    monkeypatch.setattr(Scripts, "__call__", twice)
    yard.now += minutes * MINUTE
    await ticker.tick()
    await ticker.close()
    (run,) = yard.ends(end)
    state = (await yard.deps.schedules.all())["chores"]
    assert {"skipped": state.skipped, "missed": state.missed}[end] == run.times


async def test_missed_ticks_are_counted_once_by_workers_that_look_at_different_moments(yard: Yard) -> None:
    """One stood still while others fired: it tells only of what nobody has."""
    await yard.add("often", "* * * * *", catchUp="none")
    hung, other = await yard.worker(), await yard.worker()
    await hung.tick()
    for number in range(1, 51):
        yard.now = NOON + number * MINUTE
        await other.tick()
        await yard.work()
    yard.now = NOON + 61 * MINUTE + timedelta(seconds=31)
    await hung.tick()
    (missed,) = yard.ends("missed")
    assert missed.times == 11
    assert "11 ticks" in missed.error


async def test_a_schedule_of_the_settings_is_changed_and_restored(yard: Yard) -> None:
    """Without a deploy, and back to what the settings say."""
    settings = yard.deps.settings.replace(schedules=OFF.model_copy(update={"sync_pages": "*/30 * * * *"}))
    yard.deps = replace(yard.deps, settings=settings)
    desk = yard.desk()
    assert (await desk.change("sync_pages", {"schedule": "@every 10m"})).is_changed
    assert (await desk.plan("sync_pages")).expression == "@every 10m"
    await desk.remove("sync_pages")
    restored = await desk.plan("sync_pages")
    assert (restored.expression, restored.is_changed, restored.arguments) == (
        *("*/30 * * * *", False),
        {"start_new": True},
    )
    with pytest.raises(Misuse, match="SCHEDULE_SYNC_PAGES=off"):
        await desk.remove("sync_pages")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"schedule": "61 * * * *"}, "no schedule"),
        ({"schedule": "0 0 30 2 *"}, "no schedule"),
        ({"schedule": "@every 0m"}, "above zero"),
        ({}, "not when it runs"),
        ({"schedule": "off"}, "not when it runs"),
        ({"schedule": "@hourly", "job": "gone"}, "there is no job 'gone'"),
        ({"schedule": "@hourly", "arguments": {"wort": "x"}}, "wort"),
        ({"schedule": "@hourly", "zone": "Hanoi"}, "no time zone"),
        ({"schedule": "@hourly", "catchUp": "some"}, "none, latest, all"),
        ({"schedule": "@hourly", "overlap": "wait"}, "skip, queue, cancel_previous"),
        ({"schedule": "@hourly", "jitterSeconds": 3600}, "does not fit"),
        ({"schedule": "@hourly", "jitterSeconds": -1}, "jitterSeconds"),
        ({"schedule": "@hourly", "catchUpMost": 0}, "catchUpMost"),
        ({"schedule": "@hourly", "isEnabled": "yes"}, "isEnabled"),
    ],
    ids=str,
)
async def test_what_could_not_be_fired_is_refused_and_not_stored(yard: Yard, given: dict[str, Any], words: str) -> None:
    """With a sentence, when it is set; and written into MongoDB by hand it stops no other schedule."""
    with pytest.raises(Misuse, match=words):
        await yard.desk().add("new", {"job": "chore", **given})
    assert await yard.deps.schedules.all() == {}
    await yard.add("good", "@hourly")
    if given.get("schedule") != "off":
        await yard.deps.database["schedules"].insert_one({"name": "new", "job": "chore", **given})
        ticker = await yard.worker()
        assert words in ticker.book.faults["new"]
        assert ticker.book.plans["good"].is_on
        assert "new" not in ticker.book.plans


async def test_names_are_checked_and_given_once(yard: Yard) -> None:
    """A schedule is not overwritten by one who did not know of it."""
    await yard.add("good", "@hourly")
    with pytest.raises(Misuse, match="already"):
        await yard.add("good", "@daily")
    with pytest.raises(Misuse, match="no name"):
        await yard.add("no good", "@daily")
    with pytest.raises(Misuse, match="of the settings"):
        await yard.add("sync_pages", "@daily")
    with pytest.raises(Misuse, match="there is no schedule"):
        await yard.desk().pause("other")
    with pytest.raises(Misuse, match="there is no schedule"):
        await yard.desk().remove("other")


async def test_run_now_starts_it_beside_its_ticks(yard: Yard) -> None:
    """With its arguments, and known as a run of the schedule."""
    await yard.add("good", "@hourly", arguments={"word": "x"})
    job_id = await run_now(yard.queue, await yard.desk().plan("good"))
    payload = orjson.loads(await yard.deps.redis.get(keys.JOB + job_id))
    assert (payload["f"], payload["k"], payload["sn"], payload["sk"]) == ("chore", {"word": "x"}, "good", None)


async def test_a_run_of_a_holder_thought_dead_does_not_overwrite_the_later_one(yard: Yard) -> None:
    """The fencing token decides, not who writes last."""
    await yard.add("good", "@hourly")
    ticker = await yard.worker()
    later = Run("chore", "id", "reports", "b", 1, 0.0, 20.0, 1.0, "done", "done", "", "", schedule="good", fence=2)
    stale = Run("chore", "id", "reports", "a", 1, 0.0, 10.0, 60.0, "retry", "", "late", "", schedule="good", fence=1)
    ticker.ran(later)
    await ticker.close()
    other = await yard.worker()
    other.ran(stale)
    await other.close()
    last = (await yard.deps.schedules.all())["good"].last_run
    assert last is not None
    assert (last.end, last.duration_ms) == ("done", 1_000)
