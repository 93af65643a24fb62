"""Jobs for tests, declared and done in one place."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from src.engine.declaration import Declaration
from src.engine.job import Job


def job(run: Callable[..., Awaitable[str]], lane: str = "sync", **limits: Any) -> Job[Any]:
    """`run(deps, ...)` as a job of its own name; `limits` are fields of its declaration."""
    _, *parameters = inspect.signature(run).parameters.values()
    signature = inspect.Signature(parameters)
    return Job(Declaration(run.__name__, signature, lane, **limits), run)
