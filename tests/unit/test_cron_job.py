"""Ticks after a stall and after a time without workers: none in a burst, none of the long ones lost."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.deps import Deps
from src.engine.clock import STALL, CronJob, cron_job, missed_tick, schedules_of
from src.rules.schedule import Schedule, parse_schedule
from tests.harness.jobs import job as job_of

NOON = datetime(2026, 5, 14, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def chore(deps: Deps) -> str:
    return "done"


def schedule(text: str, zone: str = "UTC") -> Schedule:
    parsed = parse_schedule(text, ZoneInfo(zone))
    assert parsed is not None
    return parsed


class Loop:
    """arq's polling loop as a cron job sees it: it fires what is due, and may stand still in between."""

    def __init__(self, text: str, now: datetime) -> None:
        self.now = now
        self.fired: list[datetime] = []
        self.job: CronJob = cron_job(job_of(chore), schedule(text), now=lambda: self.now)
        self.job.calculate_next(now)

    def poll(self) -> None:
        while self.job.next_run is not None and self.job.next_run <= self.now:
            self.fired.append(self.job.next_run)
            self.job.calculate_next(self.job.next_run)


def test_a_loop_that_keeps_up_fires_every_tick_once() -> None:
    """Polled twice a second for an hour, a five-minute schedule has twelve ticks."""
    loop = Loop("*/5 * * * *", NOON)
    for _ in range(2 * 3600):
        loop.now += timedelta(seconds=0.5)
        loop.poll()
    assert loop.fired == [NOON + number * timedelta(minutes=5) for number in range(1, 13)]


@pytest.mark.parametrize(
    ("text", "stall"),
    [("*/5 * * * *", 3 * HOUR), ("*/10 * * * * *", HOUR), ("@every 7s", DAY), ("*/5 * * * *", timedelta(minutes=4))],
    ids=["hours", "seconds", "days", "short"],
)
def test_a_stall_is_followed_by_no_burst(text: str, stall: timedelta) -> None:
    """A suspended machine does not run a night's ticks when it wakes: at most the one it was about to fire, and now."""
    loop = Loop(text, NOON)
    loop.now += stall
    loop.poll()
    late = [tick for tick in loop.fired if tick <= loop.now - STALL]
    assert len(late) <= 1
    next_ticks = loop.job.next_run
    assert next_ticks is not None
    assert next_ticks > loop.now
    assert next_ticks == schedule(text).next_after(loop.now)


def test_a_tick_that_is_only_a_little_late_is_not_lost() -> None:
    """A busy loop may come some seconds late to a tick; that is no stall."""
    loop = Loop("*/5 * * * *", NOON + timedelta(seconds=1))
    loop.now = NOON + timedelta(minutes=5, seconds=20)
    loop.poll()
    assert loop.fired == [NOON + timedelta(minutes=5)]


@given(
    st.lists(st.floats(0.1, 4000), min_size=1, max_size=30),
    st.sampled_from(["*/5 * * * *", "*/20 * * * * *", "@every 90s", "0 2 * * *"]),
)
def test_whatever_the_loop_does_ticks_are_fired_in_order_and_once(pauses: list[float], text: str) -> None:
    """Between any two looks at most the due one and those of the last half minute fire, none twice, none early."""
    loop = Loop(text, NOON)
    for pause in pauses:
        before = len(loop.fired)
        loop.now += timedelta(seconds=pause)
        loop.poll()
        assert all(tick <= loop.now for tick in loop.fired)
        assert len([tick for tick in loop.fired[before:] if tick <= loop.now - STALL]) <= 1
    assert loop.fired == sorted(set(loop.fired))


@pytest.mark.parametrize(
    ("text", "last", "now", "missed"),
    [
        ("0 2 * * *", NOON - DAY, NOON, datetime(2026, 5, 14, 2, tzinfo=UTC)),
        ("0 2 * * *", NOON - 9 * DAY, NOON, datetime(2026, 5, 14, 2, tzinfo=UTC)),
        ("0 2 * * *", datetime(2026, 5, 14, 2, tzinfo=UTC), NOON, None),
        ("0 12 * * *", NOON - DAY, NOON, NOON),
        ("0 8 * * 1", NOON - 7 * DAY, NOON, datetime(2026, 5, 11, 8, tzinfo=UTC)),
        ("0 8 * * 1", NOON - 2 * DAY, NOON, None),
        ("@every 12h", NOON - DAY, NOON, NOON),
        ("0 2 * * *", None, NOON, NOON),
        ("*/5 * * * *", NOON - DAY, NOON, None),
        ("*/5 * * * *", None, NOON, None),
        ("0 */6 * * *", NOON - DAY, NOON, None),
    ],
    ids=[
        *("daily missed", "of many missed ones the newest", "daily not missed", "due at this moment"),
        *("weekly missed", "weekly not missed", "half a day", "daily never fired"),
        *("five minutes", "five minutes never fired", "six hours"),
    ],
)
def test_what_is_made_up_at_start(text: str, last: datetime | None, now: datetime, missed: datetime | None) -> None:
    """One tick of a schedule of half a day or more; the others come again by themselves soon enough."""
    assert missed_tick(schedule(text), last, now) == missed


def test_a_tick_made_up_is_not_made_up_again() -> None:
    """Ten restarts in a row start the nightly job once."""
    daily, last = schedule("0 2 * * *", "Asia/Ho_Chi_Minh"), NOON - 3 * DAY
    made_up = []
    for restart in range(10):
        missed = missed_tick(daily, last, NOON + restart * timedelta(minutes=1))
        if missed is not None:
            made_up.append(missed)
            last = missed
    assert made_up == [datetime(2026, 5, 13, 19, tzinfo=UTC)]


def test_jobs_that_are_off_or_have_no_schedule_get_none() -> None:
    """The schedules of a process are those of its jobs, in the zone of the settings."""

    async def other(deps: Deps) -> str:
        return "done"

    async def unscheduled(deps: Deps) -> str:
        return "done"

    jobs = [job_of(chore), job_of(other), job_of(unscheduled)]
    found = schedules_of(jobs, {"chore": "0 2 * * *", "other": "off"}, ZoneInfo("Asia/Ho_Chi_Minh"))
    assert list(found) == ["chore"]
    assert found["chore"].next_after(NOON) == datetime(2026, 5, 14, 19, tzinfo=UTC)
