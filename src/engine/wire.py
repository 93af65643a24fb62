"""How jobs are written in Redis: arq's own dictionary as JSON. Never pickle: who can write to Redis must not run code.

A result that is an exception becomes `{"__error__": [type, message]}` and is read back as `JobError`, so that
`arq.jobs.Job.result()` raises. Give `serialize` and `deserialize` to any arq client that is to speak with us.
"""

from typing import Any

import orjson

VERSION = 1


class JobError(Exception):
    """A job's failure as another process sees it: `<type>: <message>`."""


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


def _encode(value: object) -> object:
    if isinstance(value, BaseException):
        return {"__error__": [type(value).__name__, str(value)]}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
