"""What is kept of runs, for how long, and what can be asked of it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from src.deps import Deps
from src.engine.history import History
from src.store.job_runs import JobRuns, Sought
from src.store.run_document import Run, digest

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 5, 14, 12, tzinfo=UTC)
KNOWN = ("chore", "other")


def run(number: int = 0, **changed: Any) -> Run:
    """A run of `chore` that started so many seconds after noon, waited for 2 s and took 10 ms."""
    at = NOON.timestamp() + number
    usual = Run("chore", f"id-{number}", "reports", "w", 1, at - 2, at, 0.01, "done", "done", "", "a" * 32)
    return replace(usual, **changed)


async def write(deps: Deps, *runs: Run, worker: str = "w") -> None:
    """A worker that ran these and ended."""
    history = History(deps.job_runs, deps.run_minutes, days=1, worker=worker, known=KNOWN)
    for each in runs:
        history.add(each)
    await history.close()


async def test_a_run_is_stored_with_all_there_is_to_say_of_it(deps: Deps) -> None:
    """What ran, where, when, how long, how it ended, and of which tick it was."""
    tick = NOON.timestamp()
    failed = run(arguments={"page_id": "100"}, schedule="nightly", tick_at=tick, end="retry", error="away", outcome="")
    await write(deps, failed)
    stored = await deps.database["job_runs"].find_one({}, {"_id": 0})
    assert stored == {
        "job": "chore",
        "jobId": "id-0",
        "lane": "reports",
        "worker": "w",
        "attempt": 1,
        "enqueuedAt": NOON - timedelta(seconds=2),
        "startedAt": NOON,
        "finishedAt": NOON + timedelta(milliseconds=10),
        "durationMs": 10.0,
        "waitMs": 2_000.0,
        "end": "retry",
        "isFailure": True,
        "outcome": "",
        "error": "away",
        "traceId": "a" * 32,
        "argumentsDigest": digest({"page_id": "100"}),
        "pageId": "100",
        "schedule": "nightly",
        "tickAt": NOON,
        "expiresAt": NOON + timedelta(days=1),
    }


@pytest.mark.parametrize(("days", "kept"), [(None, 1.0), (0.25, 0.25), (30.0, 30.0)])
async def test_each_job_says_how_long_its_runs_are_kept(deps: Deps, days: float | None, kept: float) -> None:
    """None: as the setting says."""
    await write(deps, run(history_days=days))
    stored = await deps.database["job_runs"].find_one()
    assert stored is not None
    assert stored["expiresAt"] == NOON + timedelta(days=kept)


async def test_a_job_whose_runs_are_not_kept_is_counted(deps: Deps) -> None:
    """The counts per minute outlive the runs, or stand alone."""
    await write(deps, run(history_days=0.0), run(1))
    assert await deps.database["job_runs"].count_documents({}) == 1
    (found,) = await deps.run_minutes.summaries(NOON)
    assert found.ends == {"done": 2}


@pytest.mark.parametrize("same", [{"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}])
def test_a_digest_is_of_the_arguments_and_not_of_their_order(same: Mapping[str, Any]) -> None:
    """And tells nothing of them."""
    assert digest(same) == digest({"a": 1, "b": [1, 2]})
    assert digest(same) != digest({"a": 1, "b": [2, 1]})
    assert digest({}) == ""


async def test_counts_written_twice_count_once(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is lost has them written again; runs that come later are added."""
    history = History(deps.job_runs, deps.run_minutes, days=1, worker="w", known=KNOWN)
    save, lost = deps.run_minutes.save, [True, True]

    async def loses_the_answer(minutes: Any) -> None:
        await save(minutes)
        if lost and lost.pop():
            raise AutoReconnect("the answer is lost")

    monkeypatch.setattr(deps.run_minutes, "save", loses_the_answer)
    for number in range(3):
        history.add(run(number))
        await history.close()
    (found,) = await deps.run_minutes.summaries(NOON)
    assert found.ends == {"done": 3}
    assert found.durations.runs == 3


async def test_counts_of_a_minute_that_was_written_for_good_are_not_overwritten(deps: Deps) -> None:
    """A run that comes late to its minute is counted beside it."""
    history = History(deps.job_runs, deps.run_minutes, days=1, worker="w", known=KNOWN)
    for number in (0, 120, 0):
        history.add(run(number))
        await history.close()
    (found,) = await deps.run_minutes.summaries(NOON)
    assert found.ends == {"done": 3}


async def test_what_became_of_a_jobs_runs(deps: Deps) -> None:
    """Of all workers and minutes of the span; ends that say nothing of how long it takes count as ends only."""
    await write(deps, *(run(number, duration_s=number / 1000) for number in range(1, 101)))
    others = [run(1, end="retry", duration_s=3.0), run(2, end="skipped", duration_s=0.0), run(900), run(1, job="other")]
    await write(deps, *others, worker="v")
    found = {each.job: each for each in await deps.run_minutes.summaries(NOON, NOON + timedelta(minutes=5))}
    chore = found["chore"]
    assert chore.ends == {"done": 100, "retry": 1, "skipped": 1}
    assert chore.durations.runs == 101
    assert chore.durations.p50_s == pytest.approx(0.051, rel=0.1)
    assert chore.durations.p99_s == pytest.approx(0.1, rel=0.1)
    assert (chore.durations.longest_s, chore.wait_mean_s, chore.longest_wait_s) == (3.0, 2.0, 2.0)
    assert found["other"].ends == {"done": 1}
    assert (await deps.run_minutes.percentiles("chore", NOON)).runs == 102
    assert (await deps.run_minutes.percentiles("chore", NOON + timedelta(days=1))).runs == 0


async def test_names_from_outside_are_counted_as_one(deps: Deps) -> None:
    """Whoever can enqueue may invent any number of names."""
    await write(deps, run(job="x1"), run(job="x2"))
    assert [(each.job, each.ends) for each in await deps.run_minutes.summaries(NOON)] == [("unknown", {"done": 2})]
    assert await deps.database["job_runs"].distinct("job") == ["x1", "x2"]


async def test_the_latest_runs_are_found_by_what_is_asked_for(deps: Deps) -> None:
    """By job, schedule, end and time, the newest first."""
    runs = [
        *(run(number) for number in range(3)),
        run(3, end="dead", error="broken"),
        run(4, job="other", end="retry", error="away"),
        run(5, schedule="nightly", end="missed"),
    ]
    now = datetime.now(UTC).timestamp()
    shifted = [replace(each, started_at=now - 100 + int(each.job_id[3:])) for each in runs]
    for each in shifted:
        await write(deps, each)

    async def ids(limit: int = 50, **sought: Any) -> list[str]:
        return [each.job_id for each in await deps.job_runs.latest(Sought(**sought), limit)]

    start = datetime.fromtimestamp(now - 100, UTC)
    assert await ids() == ["id-5", "id-4", "id-3", "id-2", "id-1", "id-0"]
    assert await ids(2) == ["id-5", "id-4"]
    assert await ids(job="chore", ends=("done",)) == ["id-2", "id-1", "id-0"]
    assert await ids(ends=("retry", "dead")) == ["id-4", "id-3"]
    assert await ids(schedule="nightly") == ["id-5"]
    assert await ids(since=start + timedelta(seconds=1), until=start + timedelta(seconds=3.5)) == [
        *("id-3", "id-2", "id-1")
    ]


async def test_a_span_may_lie_anywhere(deps: Deps) -> None:
    """Ids know the seconds of 1970 to 2106 only."""
    now = datetime.now(UTC)
    await write(deps, run(started_at=now.timestamp()))
    early, late = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)

    async def count(since: datetime | None, until: datetime | None) -> int:
        return len(await deps.job_runs.latest(Sought(since=since, until=until)))

    assert [await count(*span) for span in ((early, late), (early, None), (None, late))] == [1, 1, 1]
    assert [await count(*span) for span in ((late, None), (None, early), (early, early))] == [0, 0, 0]


async def test_a_run_that_cannot_be_written_costs_no_other(deps: Deps) -> None:
    """Whoever enqueues gives the id and the time."""
    await write(deps, run(0), run(1, enqueued_at=1e300), run(2, job_id="\ud800"), run(3))
    assert [each.job_id for each in await deps.job_runs.latest(Sought(job="chore"))] == ["id-3", "id-0"]
    (found,) = await deps.run_minutes.summaries(NOON)
    assert found.ends == {"done": 4}


async def test_a_mongodb_that_takes_nothing_costs_no_run(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is full, or somebody took rights away: what came meanwhile is stored once when that is over."""
    history, store, calls = History(deps.job_runs, deps.run_minutes, days=1), JobRuns.add, list[int]()

    async def refuses(runs: JobRuns, documents: Any) -> int:
        calls.append(len(documents))
        if len(calls) <= 3:
            raise OperationFailure("you are over your space quota", 8000)
        return await store(runs, documents)

    monkeypatch.setattr(JobRuns, "add", refuses)
    for number in range(400):
        history.add(run(number))
        if number in (100, 200, 300):
            await history.close()
    await history.close()
    assert calls == [101, 201, 301, 400]
    assert await deps.database["job_runs"].count_documents({}) == 400


async def test_a_run_that_mongodb_refuses_costs_no_other(deps: Deps) -> None:
    """A rule that somebody gave the collection, for instance."""
    await deps.database.command("collMod", "job_runs", validator={"jobId": {"$ne": "id-7"}})
    await write(deps, *(run(number) for number in range(50)))
    assert set(await deps.database["job_runs"].distinct("jobId")) == {f"id-{n}" for n in range(50)} - {"id-7"}


async def test_what_a_night_missed_is_found_in_that_night(deps: Deps) -> None:
    """The worker came back nine hours later, and only then it was seen to."""
    late = NOON.timestamp() + 9 * 3_600
    tick: dict[str, Any] = {"schedule": "nightly", "tick_at": NOON.timestamp(), "started_at": late}
    await write(deps, run(**tick, end="missed"), run(1, **tick))
    hour = timedelta(hours=1)
    found = await deps.job_runs.latest(Sought(schedule="nightly", since=NOON - hour, until=NOON + hour))
    assert sorted(each.end for each in found) == ["done", "missed"]
    assert await deps.job_runs.latest(Sought(schedule="nightly", until=NOON - hour)) == []


async def test_failures_in_a_row_are_told_apart_by_arguments(deps: Deps) -> None:
    """One page fails while another works; what says nothing of that does not count."""
    page, other = {"page_id": "1"}, {"page_id": "2"}
    ends = ["done", "retry", "snoozed", "dead", "skipped", "retry", "cancelled"]
    now = datetime.now(UTC).timestamp()
    await write(
        deps,
        *(run(started_at=now - 100 + n, end=end, arguments=page, error="e", job_id=end) for n, end in enumerate(ends)),
        *(run(started_at=now - 100 + n, arguments=other) for n in range(5)),
    )
    failing = await deps.job_runs.failing(datetime.fromtimestamp(now - 200, UTC))
    assert failing == [("chore", digest(page))]
    pairs = [("chore", digest(page)), ("chore", digest(other)), ("chore", "none")]
    found = await deps.job_runs.last_ends(pairs, 3)
    assert [(each.end, each.page_id) for each in found[pairs[0]]] == [("retry", "1"), ("dead", "1"), ("retry", "1")]
    assert [each.end for each in found[pairs[1]]] == ["done", "done", "done"]
    assert found[pairs[2]] == []
    assert await deps.job_runs.failing(datetime.now(UTC)) == []


async def test_failures_in_a_row_of_a_job(deps: Deps) -> None:
    """Since it was last done."""
    now = datetime.now(UTC).timestamp()
    await write(deps, *(run(started_at=now - 100 + n, end=end) for n, end in enumerate(("done", "retry", "dead"))))
    assert await deps.job_runs.failures_in_row("chore") == 2
    assert await deps.job_runs.failures_in_row("other") == 0


async def test_time_before_a_job_is_due_is_no_wait(deps: Deps) -> None:
    """A pass that goes on in chunks, or a job for later, has not waited for a slot meanwhile."""
    await write(deps, run(ready_at=NOON.timestamp() - 0.5), run(1, enqueued_at=NOON.timestamp() + 60))
    waits = [run["waitMs"] async for run in deps.database["job_runs"].find().sort("startedAt")]
    assert waits == [500.0, 0.0]
