"""Where a job's exceptions become decisions. Jobs raise; only this module retries, and only it writes dead letters."""

import asyncio
import random
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from loguru import logger

from ..clients import mongo, redis
from ..deps import Deps
from ..errors import Misuse, ServiceError, Snooze, Transient
from ..rules.redact import redact
from ..rules.retry import wait_s
from .job import Job

RETRY_BASE_S = 5.0
NOTICED_S = 5.0  # a wait that somebody who watches would wonder about
TRACEBACK_KEPT = 8_000  # characters, the last ones


@dataclass(frozen=True, slots=True)
class End:
    """How one attempt of a job ended.

    `done`: `outcome` says how. `retry`: it failed and is to run again in `again_in_s`. `snoozed`: it did not fail and
    is to run again in `again_in_s`; no try is spent. `dead`: it failed for good and is kept as a dead letter.
    """

    kind: Literal["done", "retry", "snoozed", "dead"]
    outcome: str = ""
    error: str = ""
    again_in_s: float = 0.0


async def run_job(
    job: Job[Any],
    deps: Deps,
    arguments: dict[str, Any],
    *,
    job_id: str,
    attempt: int,
    random_: Callable[[], float] = random.random,
) -> End:
    """Run one attempt (1-based) and decide its end. Never raises but for cancellation, which is not a failure."""
    started = time.monotonic()
    page = {"page_id": arguments["page_id"]} if "page_id" in arguments else {}
    with logger.contextualize(job=job.name, job_id=job_id, attempt=attempt, **page):
        try:
            accepted = job.checked(arguments)
            async with asyncio.timeout(job.timeout_s or deps.settings.worker.default_timeout_seconds):
                outcome = await job.run(deps, **accepted)
        except Snooze as e:
            end = End("snoozed", again_in_s=e.after_s, error=str(e))
        except Exception as e:  # noqa: BLE001 - the boundary is where every failure is decided
            end = await _failed(job, deps, arguments, e, job_id=job_id, attempt=attempt, random_=random_)
        else:
            end = End("done", outcome=outcome)
        _log(end, duration_ms=round((time.monotonic() - started) * 1000))
        return end


async def _failed(
    job: Job[Any],
    deps: Deps,
    arguments: dict[str, Any],
    error: Exception,
    *,
    job_id: str,
    attempt: int,
    random_: Callable[[], float],
) -> End:
    text = redact(in_words(error, deps))
    if _is_transient(error) and attempt < job.max_tries:
        hint_s = getattr(error, "retry_after_s", None)
        return End("retry", error=text, again_in_s=wait_s(attempt, random_, hint_s=hint_s, base_s=RETRY_BASE_S))
    if not isinstance(error, ServiceError):
        logger.opt(exception=error).error("job hit a bug")
    await _keep(job, deps, arguments, error, text, job_id=job_id, attempt=attempt)
    return End("dead", error=text)


async def _keep(
    job: Job[Any], deps: Deps, arguments: dict[str, Any], error: Exception, text: str, *, job_id: str, attempt: int
) -> None:
    trace = redact("".join(traceback.format_exception(error)))[-TRACEBACK_KEPT:]
    letter: dict[str, Any] = {
        "job": job.name,
        "job_id": _letter_id(job, job_id, arguments),
        "error": text,
        "traceback": trace,
        "attempts": attempt,
    }
    try:
        try:
            await deps.dead_letters.add_job(arguments=arguments, **letter)
        except mongo.UNENCODABLE:
            await deps.dead_letters.add_job(arguments={"shown": ascii(arguments)}, **letter)
    except (*mongo.FAILURES, *mongo.UNENCODABLE) as e:
        logger.error("dead letter could not be written", error=text, because=type(e).__name__, arguments=arguments)


def _letter_id(job: Job[Any], job_id: str, arguments: dict[str, Any]) -> str:
    """One letter for one failing thing, however often it is tried: a page's pass, or a schedule whatever the tick."""
    with suppress(TypeError):
        return job.key(**arguments) or (job.name if arguments == job.scheduled_arguments else job_id)
    return job_id


def in_words(error: BaseException, deps: Deps) -> str:
    """What went wrong and what to do, in one line."""
    if isinstance(error, mongo.OUTAGES):
        return f"MongoDB does not answer at {deps.settings.mongo.shown}; is it running? ({type(error).__name__})"
    if isinstance(error, redis.OUTAGES):
        return f"Redis does not answer at {deps.settings.redis.shown}; is it running? ({type(error).__name__})"
    if isinstance(error, ServiceError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "the job ran longer than its timeout"
    return f"{type(error).__name__}: {error}"


def _is_transient(error: Exception) -> bool:
    return isinstance(error, (Transient, TimeoutError, *mongo.OUTAGES, *redis.OUTAGES))


def _log(end: End, *, duration_ms: int) -> None:
    if end.kind == "done":
        details = getattr(end.outcome, "details", {})
        logger.info("job done", outcome=str(end.outcome), duration_ms=duration_ms, **details)
    elif end.kind == "snoozed":
        level = "WARNING" if end.again_in_s > NOTICED_S else "INFO"
        logger.log(
            level, "job goes on later", because=end.error, in_s=round(end.again_in_s, 1), duration_ms=duration_ms
        )
    elif end.kind == "retry":
        logger.warning(
            "job failed, will retry", error=end.error, in_s=round(end.again_in_s, 1), duration_ms=duration_ms
        )
    else:
        logger.error("job failed for good", error=end.error, duration_ms=duration_ms)


def known(jobs: Mapping[str, Job[Any]], name: str) -> Job[Any]:
    """The job of that name. Raises Misuse with the names there are."""
    if name not in jobs:
        raise Misuse(f"there is no job {name!r}; there are {', '.join(sorted(jobs))}")
    return jobs[name]
