"""Calls to Pancake as they are counted: by the last word of their path, which is one of ours, and how they ended."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from ... import meters
from ...errors import Malformed, PageUnavailable, RateLimited, TokenRejected, Transient


@contextmanager
def counted(path: str) -> Iterator[None]:
    """Count the call that is made inside, and how long it takes; what it raises goes on."""
    endpoint, outcome, started = path.rpartition("/")[2], "ok", time.monotonic()
    try:
        yield
    except BaseException as e:
        outcome = _outcome(e)
        raise
    finally:
        meters.PANCAKE_CALLS.add(endpoint, outcome)
        meters.PANCAKE_SECONDS.add((endpoint,), time.monotonic() - started)


def _outcome(error: BaseException) -> str:
    kinds = {
        RateLimited: "rate_limited",
        TokenRejected: "token_rejected",
        PageUnavailable: "page_unavailable",
        Malformed: "malformed",
        asyncio.CancelledError: "cancelled",
    }
    for kind, word in kinds.items():
        if isinstance(error, kind):
            return word
    if not isinstance(error, Transient):
        return "refused"
    if isinstance(error.__cause__, TimeoutError):
        return "timeout"
    return "unreachable" if isinstance(error.__context__, httpx.HTTPError) else "failed"
