"""How jobs and results are written: what we write, arq and we read; what nobody should have written is refused."""

import pickle
from typing import Any

import orjson
import pytest
from arq.jobs import DeserializationError, deserialize_job, deserialize_result, serialize_job, serialize_result
from hypothesis import given
from hypothesis import strategies as st

from src.engine.wire import (
    LATEST_MS,
    VERSION,
    Envelope,
    JobError,
    deserialize,
    read_job,
    serialize,
    write_job,
    write_result,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
arguments_ = st.dictionaries(st.text(max_size=5), JSON, max_size=3)
instants = st.integers(0, 2**41)
#: As arq writes a job: try, function, args, kwargs, enqueue time.
JOBS = st.fixed_dictionaries(
    {
        "t": st.none() | st.integers(0, 9),
        "f": st.text(max_size=9),
        "a": st.lists(JSON, max_size=2),
        "k": arguments_,
        "et": instants,
    }
)
JOB: dict[str, Any] = {"v": VERSION, "t": None, "f": "chore", "a": [], "k": {}, "et": 1_700_000_000_000}


@given(JOBS)
def test_a_job_comes_back_as_it_was_written(job: dict[str, Any]) -> None:
    """Round trip, and what is written is JSON, never code."""
    written = serialize(job)
    assert written.startswith(b"{")
    assert deserialize(written) == job


@given(st.text(max_size=9), arguments_, instants, st.integers(0, 1000), st.text(max_size=9), st.text(max_size=9))
def test_what_we_enqueue_is_what_the_worker_reads(
    name: str, arguments: dict[str, Any], at: int, priority: int, unique: str, tp: str
) -> None:
    """Nothing of a call is lost or changed between two machines."""
    written = write_job(name, arguments, at, priority=priority, unique=unique, tp=tp)
    assert read_job(written) == Envelope(name, [], arguments, at, priority, unique, tp)


@given(JOBS)
def test_a_plain_arq_client_is_understood(job: dict[str, Any]) -> None:
    """Given our serializer, arq writes jobs without our fields: they have no priority, no key, no trace."""
    written = serialize_job(job["f"], job["a"], job["k"], job["t"], job["et"], serializer=serialize)
    assert read_job(written) == Envelope(job["f"], job["a"], job["k"], job["et"], 0, "", "")


@given(st.text(max_size=9), arguments_, instants)
def test_arq_reads_the_jobs_we_write(name: str, arguments: dict[str, Any], at: int) -> None:
    """`arq.jobs.Job.info()` of any arq client follows a job of ours."""
    read = deserialize_job(write_job(name, arguments, at, priority=3, unique="u", tp="t"), deserializer=deserialize)
    assert (read.function, list(read.args), read.kwargs) == (name, [], arguments)
    assert int(read.enqueue_time.timestamp() * 1000 + 0.5) == at


@given(JOBS, st.integers(1, 9), st.text(max_size=9), st.text(min_size=1, max_size=9), instants)
def test_arq_reads_the_results_we_write(job: dict[str, Any], attempt: int, outcome: str, error: str, at: int) -> None:
    """`arq.jobs.Job.result()` gives the outcome, or raises what went wrong."""
    envelope = read_job(serialize(job))
    times: dict[str, Any] = {"attempt": attempt, "started_ms": at, "finished_ms": at + 5}
    done = write_result(envelope, "id-1", "sync", outcome=outcome, error="", **times)
    read = deserialize_result(done, deserializer=deserialize)
    assert (read.success, read.result, read.job_try, read.queue_name) == (True, outcome, attempt, "sync")
    assert (read.function, read.args, read.kwargs, read.job_id) == (job["f"], job["a"], job["k"], "id-1")
    assert (read.finish_time - read.start_time).total_seconds() == pytest.approx(0.005, abs=0.001)
    dead = deserialize_result(
        write_result(envelope, "id-1", "sync", outcome="", error=error, **times), deserializer=deserialize
    )
    assert not dead.success
    assert isinstance(dead.result, JobError)
    assert str(dead.result) == error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no page 100"), "ValueError: no page 100"),
        (JobError("dead"), "JobError: dead"),
        (KeyError(), "KeyError: "),
    ],
    ids=["error", "ours", "without words"],
)
def test_a_failed_result_comes_back_as_an_error(error: Exception, text: str) -> None:
    """Also one that arq's own Worker wrote with our serializer: type and message of what was raised far away."""
    written = serialize_result(
        *("chore", (), {}, 1, 1, False, error, 1, 2, "ref", "arq:queue", "id-1"), serializer=serialize
    )
    assert written is not None
    result = deserialize(written)["r"]
    assert isinstance(result, JobError)
    assert str(result) == text


STRANGE = {
    "empty": b"",
    "pickle": pickle.dumps(JOB),
    "bytes": b"\xff\xfe",
    "list": b"[1]",
    "null": b"null",
    "text": b'"text"',
    "later version": orjson.dumps({**JOB, "v": VERSION + 1}),
    "no number": orjson.dumps({**JOB, "v": "1"}),
    "half an error": b'{"v":1,"r":{"__error__":5}}',
}
NO_JOBS = {
    "no name": {"f": None},
    "name of another type": {"f": 5},
    "arguments of another type": {"k": []},
    "positions of another type": {"a": {}},
    "no time": {"et": None},
    "time in words": {"et": "now"},
    "priority in words": {"p": "high"},
    "half a priority": {"p": 1.5},
}


@pytest.mark.parametrize("data", STRANGE.values(), ids=STRANGE)
def test_what_we_did_not_write_is_refused(data: bytes) -> None:
    """Another program's bytes under our key are no job, and arq says so in its own words."""
    with pytest.raises(ValueError, match=r"\w"):
        deserialize(data)
    with pytest.raises(ValueError, match=r"\w"):
        read_job(data)
    with pytest.raises(DeserializationError):
        deserialize_job(data, deserializer=deserialize)


@pytest.mark.parametrize("change", NO_JOBS.values(), ids=NO_JOBS)
def test_a_dictionary_that_is_no_job_is_refused(change: dict[str, Any]) -> None:
    """JSON alone does not make a job: a worker must not fall over what is in it later on."""
    with pytest.raises(ValueError, match="not a job"):
        read_job(orjson.dumps({**JOB, **change}))


@given(st.binary(max_size=60) | JSON.map(orjson.dumps) | arguments_.map(orjson.dumps))
def test_whatever_comes_it_is_a_job_or_a_value_error(data: bytes) -> None:
    """One exception to look for: any other would be a bug in every place that reads jobs."""
    try:
        job = read_job(data)
    except ValueError:
        return
    assert isinstance(job.name, str)


@pytest.mark.parametrize(("sent", "read"), [(2**62, LATEST_MS), (-(2**62), 0), (5, 5)], ids=["late", "early", "sane"])
def test_a_mad_clock_is_brought_back_to_what_can_be_reckoned_with(sent: int, read: int) -> None:
    """A producer whose clock is off by an age still gets its job done, and nobody's history breaks over it."""
    assert read_job(orjson.dumps({**JOB, "et": sent})).enqueued_ms == read


def test_a_priority_below_none_is_none() -> None:
    """Nobody can be sent behind those who come later: low priority is not a way to starve a job."""
    assert read_job(orjson.dumps({**JOB, "p": -5})).priority == 0


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), 2**70], ids=["set", "bytes", "object", "big integer"])
def test_what_json_cannot_hold_is_refused_at_the_call(value: object) -> None:
    """The caller learns of it, not a worker an hour later."""
    with pytest.raises(TypeError):
        serialize({"f": "chore", "k": {"value": value}})
    with pytest.raises(TypeError):
        write_job("chore", {"value": value}, 1, priority=0, unique="", tp="")
