"""How jobs are written in Redis: arq's own dictionary as JSON. Never pickle: who can write to Redis must not run code.

arq's keys are kept (`f` function, `a` and `k` arguments, `t` try, `et` enqueue time in ms), so that `arq.jobs.Job` can
follow a job; ours stand beside them: `v` version, `p` priority, `u` unique key, `tp` traceparent, and of what a
schedule started `sn` its name and `sk` the tick (Unix s), and of a
replay `ln`, the traceparent of what is done again.

A result that is an exception becomes `{"__error__": [type, message]}` and is read back as `JobError`, so that
`arq.jobs.Job.result()` raises. Give `serialize` and `deserialize` to any arq client that is to speak with us.
"""

from dataclasses import dataclass
from typing import Any

import orjson

VERSION = 1
LATEST_MS = 2**45  # year 3084: of a producer whose clock is further off, nothing can be reckoned


class JobError(Exception):
    """A job's failure as another process sees it: `<type>: <message>`."""


@dataclass(slots=True)
class Envelope:
    """A job as it came: `args` and `kwargs` are not checked yet. `enqueued_ms`: Unix ms, by the producer's clock."""

    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    enqueued_ms: int
    priority: int
    unique: str
    traceparent: str
    schedule: str = ""
    tick_at: float | None = None
    link: str = ""


def serialize(job: dict[str, Any]) -> bytes:
    """arq's job or result dictionary as JSON bytes. Raises TypeError on what JSON cannot hold."""
    return orjson.dumps({"v": VERSION, **job}, default=_encode)


def deserialize(data: bytes) -> dict[str, Any]:
    """The dictionary back. Raises ValueError on anything `serialize` did not write."""
    job = orjson.loads(data)
    if not isinstance(job, dict) or job.pop("v", VERSION) != VERSION:
        raise ValueError("not a job of this version")
    result = job.get("r")
    if isinstance(result, dict) and "__error__" in result:
        parts = result["__error__"]
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise ValueError("not an error of this version")
        job["r"] = JobError(": ".join(parts))
    return job


def write_job(
    name: str,
    arguments: dict[str, Any],
    now_ms: int,
    *,
    priority: int,
    unique: str,
    tp: str,
    tick: tuple[str, float | None] | None = None,
    link: str = "",
) -> bytes:
    """A job for the queue. `tick`: of which schedule, and which. Raises TypeError on what JSON cannot hold."""
    job = {"v": VERSION, "t": None, "f": name, "a": (), "k": arguments, "et": now_ms}
    started_by = {"sn": tick[0], "sk": tick[1]} if tick else {}
    again = {"ln": link} if link else {}
    return orjson.dumps({**job, "p": priority, "u": unique, "tp": tp, **started_by, **again})


def read_job(data: bytes | str) -> Envelope:
    """A job from the queue. Raises ValueError on what is no job of a version we know, whoever wrote it."""
    job = orjson.loads(data)
    try:
        name, args, kwargs, enqueued_ms = job["f"], job["a"], job["k"], job["et"]
        version, priority, unique, tp = job.get("v", VERSION), job.get("p", 0), job.get("u", ""), job.get("tp", "")
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError("not a job") from e
    found = (version, type(name), type(args), type(kwargs), type(enqueued_ms), type(priority), type(unique), type(tp))
    if found != (VERSION, str, list, dict, int, int, str, str):
        raise ValueError("not a job of this version")
    enqueued_ms = min(max(enqueued_ms, 0), LATEST_MS)
    schedule, tick_at = job.get("sn"), job.get("sk")
    return Envelope(
        name,
        args,
        kwargs,
        enqueued_ms,
        max(priority, 0),
        unique,
        tp,
        schedule if isinstance(schedule, str) else "",
        min(float(tick_at), LATEST_MS / 1000) if isinstance(tick_at, int | float) and tick_at >= 0 else None,
        link if isinstance(link := job.get("ln"), str) else "",
    )


def write_result(
    job: Envelope,
    job_id: str,
    lane: str,
    *,
    attempt: int,
    outcome: str,
    error: str,
    started_ms: int,
    finished_ms: int,
    is_cancelled: bool = False,
) -> bytes:
    """How a job ended, as `arq.jobs.Job` reads it; with an `error`, its `result()` raises JobError."""
    result: object = {"__error__": [error]} if error else outcome
    times = {"et": job.enqueued_ms, "st": started_ms, "ft": finished_ms, **({"x": True} if is_cancelled else {})}
    call = {"v": VERSION, "t": attempt, "f": job.name, "a": job.args, "k": job.kwargs, "q": lane, "id": job_id}
    try:
        return orjson.dumps({**call, **times, "s": not error, "r": result})
    except TypeError:  # arguments of another program, so deep that they can be read but not written
        return orjson.dumps({**call, **times, "a": (), "k": {}, "s": not error, "r": result})


def _encode(value: object) -> object:
    if isinstance(value, BaseException):
        return {"__error__": [type(value).__name__, str(value)]}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
