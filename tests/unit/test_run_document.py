"""A run's document, whose bytes we make ourselves, is what the driver would have made of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.clients.mongo import UNENCODABLE
from src.store.run_document import FAILED, Run, RunDocuments, digest

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
INSTANT = st.floats(0, 4e9)
KEPT = timedelta(days=14)
INSTANTS = ("enqueued_at", "started_at", "duration_s")
RUNS = st.builds(
    Run,
    job=TEXT,
    job_id=TEXT,
    lane=TEXT,
    worker=TEXT,
    attempt=st.integers(0, 2**40),
    enqueued_at=INSTANT,
    started_at=INSTANT,
    duration_s=st.floats(0, 1e6),
    end=st.sampled_from(["done", "retry", "dead", "snoozed", "skipped"]),
    outcome=TEXT,
    error=TEXT,
    trace_id=TEXT,
    arguments=st.dictionaries(st.sampled_from(["page_id", "n"]), TEXT | st.integers(0, 9)),
    schedule=TEXT,
    tick_at=st.none() | INSTANT,
    history_days=st.none() | st.floats(0.01, 1000),
    details=st.none() | st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)),
    times=st.integers(1, 1000),
    ready_at=INSTANT,
)


def driver_made(run: Run) -> dict[str, Any]:
    """The document without its id, in no order."""
    started = datetime.fromtimestamp(run.started_at, UTC)
    rare: dict[str, tuple[bool, Any]] = {
        "waitMs": (run.attempt == 1, run.waited_s * 1000),
        "isFailure": (run.end in FAILED, True),
        "details": (bool(run.details), run.details),
        "times": (run.times != 1, run.times),
        "error": (bool(run.error), run.error),
        "pageId": (isinstance(run.arguments.get("page_id"), str), run.arguments.get("page_id")),
        "schedule": (bool(run.schedule), run.schedule),
        "tickAt": (bool(run.schedule) and run.tick_at is not None, datetime.fromtimestamp(run.tick_at or 0, UTC)),
    }
    document = {
        "job": run.job,
        "jobId": run.job_id,
        "lane": run.lane,
        "worker": run.worker,
        "attempt": run.attempt,
        "enqueuedAt": datetime.fromtimestamp(run.enqueued_at, UTC),
        "startedAt": started,
        "finishedAt": datetime.fromtimestamp(run.started_at + run.duration_s, UTC),
        "durationMs": run.duration_s * 1000,
        "end": run.end,
        "outcome": run.outcome,
        "traceId": run.trace_id,
        "argumentsDigest": digest(run.arguments),
        "expiresAt": started + (KEPT if run.history_days is None else timedelta(days=run.history_days)),
        **{name: value for name, (is_there, value) in rare.items() if is_there},
    }
    return dict(bson.decode(bson.encode(document)))


@given(RUNS)
def test_it_holds_what_the_driver_would_have_made(run: Run) -> None:
    made = bson.decode(RunDocuments().make([run], KEPT)[0])
    made.pop("_id")
    expected = driver_made(run)
    for name in ("enqueuedAt", "startedAt", "finishedAt", "expiresAt"):  # either rounds to whole milliseconds
        assert abs(made.pop(name) - expected.pop(name)) <= timedelta(milliseconds=1)
    assert made == expected


def a_run(**changes: Any) -> Run:
    return Run(**{**dict.fromkeys(Run.__slots__[:12], ""), "attempt": 1, **dict.fromkeys(INSTANTS, 1.0), **changes})


def test_ids_differ_and_tell_when_they_were_made() -> None:
    documents = RunDocuments()
    ids = [bson.decode(made)["_id"] for _ in range(10) for made in documents.make([a_run()] * 100, KEPT)]
    assert len(set(ids)) == 1000
    assert abs(datetime.now(UTC) - ids[0].generation_time) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "run",
    [
        a_run(started_at=float("inf")),
        a_run(enqueued_at=float("nan")),
        a_run(started_at=1e300),
        a_run(job_id="\ud800"),
        a_run(job="\ud800"),
        a_run(attempt=2**70),
        a_run(error="no", details={"a": object()}),
    ],
)
def test_what_bson_cannot_hold_is_told_as_the_driver_tells_it(run: Run) -> None:
    with pytest.raises(UNENCODABLE):
        RunDocuments().make([run], KEPT)
