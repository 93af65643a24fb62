"""What is counted arrives at Prometheus as it was, and never as more series than are documented."""

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pymongo.errors import AutoReconnect
from redis.exceptions import ConnectionError as RedisGone

from src.clients.pancake.counted import counted
from src.engine.causes import CAUSES, cause_of
from src.engine.metrics import RunCounts, counter, histogram
from src.errors import Malformed, PageUnavailable, Permanent, RateLimited, TokenRejected, Transient
from src.meters import MOST, PANCAKE_CALLS, SECONDS, Meter, Times
from src.store.run_document import Run


def run(
    job: str = "sync_pages", *, end: str = "done", attempt: int = 1, took_s: float = 0.2, waited_s: float = 3.0
) -> Run:
    return Run(job, "1", "sync", "w", attempt, 1000.0 - waited_s, 1000.0, took_s, end, "", "", "")


def samples(counts: RunCounts) -> dict[tuple[str, ...], float]:
    """By Prometheus' own parser: (name, labels' values) -> value."""
    registry = CollectorRegistry()
    registry.register(counts)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_runs_are_counted_by_how_they_ended_and_how_long_they_took() -> None:
    counts = RunCounts()
    for _ in range(3):
        counts.count(run(), is_known=True)
    counts.count(run(end="retry", took_s=400), is_known=True)
    counts.count(run(end="dead", attempt=2, took_s=0.002), is_known=True)
    found = samples(counts)
    assert found["folkform_job_runs_total", "done", "sync_pages", "sync"] == 3
    assert found["folkform_job_runs_total", "dead", "sync_pages", "sync"] == 1
    assert found["folkform_job_duration_seconds_bucket", "done", "sync_pages", "sync", "0.1"] == 0
    assert found["folkform_job_duration_seconds_bucket", "done", "sync_pages", "sync", "0.5"] == 3
    assert found["folkform_job_duration_seconds_sum", "done", "sync_pages", "sync"] == pytest.approx(0.6)
    assert found["folkform_job_duration_seconds_bucket", "retry", "sync_pages", "sync", "300.0"] == 0
    assert found["folkform_job_duration_seconds_count", "retry", "sync_pages", "sync"] == 1
    assert found["folkform_job_latency_seconds_count", "sync_pages", "sync"] == 4  # three done, one dead
    assert found["folkform_job_latency_seconds_sum", "sync_pages", "sync"] == pytest.approx(3 * 3.2 + 3.002)
    assert found["folkform_job_wait_seconds_count", "sync_pages", "sync"] == 4  # the second attempt waited by our will


def test_ticks_that_did_not_run_took_no_time() -> None:
    """They would pull every quantile towards nothing."""
    counts = RunCounts()
    for end in ("skipped", "missed"):
        counts.count(run(end=end, took_s=0), is_known=True)
    found = samples(counts)
    assert found["folkform_job_runs_total", "missed", "sync_pages", "sync"] == 1
    assert not [name for name, *_ in found if name.startswith(("folkform_job_duration", "folkform_job_wait"))]


def test_names_from_outside_are_no_labels() -> None:
    counts = RunCounts()
    for number in range(10):
        counts.count(run(f"stranger_{number}"), is_known=False)
    assert samples(counts)["folkform_job_runs_total", "done", "unknown", "sync"] == 10


def test_switched_off_the_sign_of_life_still_has_its_counts() -> None:
    """`arq --check` shows it, whether or not Prometheus asks."""
    counts = RunCounts()
    counts.is_on = False
    for end in ("done", "done", "dead", "retry", "snoozed"):
        counts.count(run(end=end), is_known=True)
    assert "j_complete=2 j_failed=1 j_retried=2" in counts.in_arq_words()


def test_a_clock_that_was_set_back_lets_no_sum_fall() -> None:
    """Prometheus would take that for a restart."""
    counts = RunCounts()
    counts.count(run(waited_s=-50.0), is_known=True)
    assert samples(counts)["folkform_job_wait_seconds_sum", "sync_pages", "sync"] == 0


@given(st.lists(st.tuples(st.text(max_size=3), st.floats(0, 1000)), max_size=50))
def test_no_time_is_lost_in_the_buckets(times: list[tuple[str, float]]) -> None:
    spread = Times("t", "", ("a",))
    for value, seconds in times:
        spread.add((value,), seconds)
    for (value,), counts, total in spread.items():
        mine = [seconds for other, seconds in times if other == value]
        assert counts == [sum(each <= bound for each in mine) for bound in SECONDS] + [len(mine)]
        assert total == pytest.approx(sum(mine))
    assert sum(count for _, count in spread.counts()) == len(times)


def test_the_number_of_series_is_bounded() -> None:
    meter, times = Meter("m", "", ("a", "b")), Times("t", "", ("a", "b"))
    for number in range(MOST * 2):
        meter.add(str(number), "x", by=2)
        times.add((str(number), "x"), 1.0)
    for found in (dict(meter.items()), dict(times.counts())):
        assert len(found) == MOST + 1
    assert dict(meter.items())["other", "other"] == 2 * MOST
    assert sum(dict(times.counts()).values()) == 2 * MOST
    assert len(counter(meter).samples) == MOST + 1
    assert len(histogram(times).samples) == (MOST + 1) * (len(SECONDS) + 3)


def _from(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (TimeoutError(), "timeout"),
        (_from(Transient("the job ran longer than its timeout"), TimeoutError()), "timeout"),
        (RateLimited("429"), "rate_limited"),
        (AutoReconnect("gone"), "mongodb"),
        (RedisGone("gone"), "redis"),
        (_from(Transient("Redis gave no answer"), RedisGone("gone")), "redis"),
        (Transient("Pancake failed"), "transient"),
        (ValueError(), "other"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_failed_try_has_a_cause(error: Exception, cause: str) -> None:
    assert cause_of(error) == cause
    assert cause in CAUSES


@pytest.fixture
def calls() -> Iterator[dict[tuple[str, ...], float]]:
    """What was counted of calls to Pancake since the test began, when asked for it."""
    before = dict(PANCAKE_CALLS.items())

    class Since(dict[tuple[str, ...], float]):
        def __missing__(self, key: tuple[str, ...]) -> float:
            return dict(PANCAKE_CALLS.items()).get(key, 0) - before.get(key, 0)

    return Since()  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (RateLimited("x"), "rate_limited"),
        (TokenRejected("x"), "token_rejected"),
        (PageUnavailable("x"), "page_unavailable"),
        (Malformed("x"), "malformed"),
        (Permanent("x"), "refused"),
        (Transient("5xx"), "failed"),
        (_from(Transient("x"), TimeoutError()), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_call_to_pancake_is_counted_by_its_endpoint_and_its_end(
    error: BaseException | None, outcome: str, calls: dict[tuple[str, ...], float]
) -> None:
    """The path's ids are no labels."""
    with pytest.raises(type(error)) if error else nullcontext(), counted("/v1/pages/100/conversations/100_7/messages"):
        _ends_with(error)
    assert calls["messages", outcome] == 1


def _ends_with(error: BaseException | None) -> None:
    if error:
        raise error
