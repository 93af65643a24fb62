"""Where a job's exceptions become decisions. Jobs raise; only this module retries, and only it writes dead letters."""

import asyncio
import random
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from loguru import logger

from ..clients import mongo, redis
from ..deps import Deps
from ..errors import ServiceError, Snooze, Transient
from ..rules.redact import redact
from ..rules.retry import wait_s
from ..store.job_runs import Run
from . import trace
from .declaration import Declaration
from .job import Job

NOTICED_S = 5.0  # a wait that somebody who watches would wonder about
TRACEBACK_KEPT = 8_000  # characters, the last ones

REPLAY = "replay:"  # what the ids of replayed jobs start with: `replay:<job id>:<number>`

Attempts = list[dict[str, Any]]


async def _no_attempts() -> Attempts:
    return []


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt of a job: under which id, in which lane, the how-manieth (1-based), enqueued when (Unix seconds).

    `past` gives the attempts that failed before it, oldest first, each with `at`, `error` and `worker`.
    """

    job_id: str
    lane: str
    attempt: int = 1
    enqueued_at: float = 0.0
    traceparent: str = ""
    worker: str = ""
    past: Callable[[], Awaitable[Attempts]] = _no_attempts


@dataclass(frozen=True, slots=True)
class End:
    """How one attempt of a job ended.

    `done`: `outcome` says how. `retry`: it failed and is to run again in `again_in_s`. `snoozed`: it did not fail and
    is to run again in `again_in_s`; no try is spent. `dead`: it failed for good and is kept as a dead letter, unless
    `is_kept` is false: MongoDB did not take the letter, and the job must stay in the queue.
    """

    kind: Literal["done", "retry", "snoozed", "dead"]
    outcome: str = ""
    error: str = ""
    again_in_s: float = 0.0
    is_kept: bool = True


async def run_job(
    job: Job[Any],
    deps: Deps,
    arguments: dict[str, Any],
    call: Call,
    *,
    random_: Callable[[], float] = random.random,
) -> End:
    """Run one attempt and decide its end. Never raises but for cancellation, which is not a failure."""
    started_at, started = time.time(), time.perf_counter()
    declaration = job.declaration
    token = trace.current.set(call.traceparent)
    page = {"page_id": arguments["page_id"]} if "page_id" in arguments else {}
    with logger.contextualize(job=declaration.name, job_id=call.job_id, attempt=call.attempt, **page):
        try:
            accepted = declaration.checked(arguments)
            async with asyncio.timeout(declaration.timeout_s or deps.settings.worker.default_timeout_seconds):
                outcome = await job.run(deps, **accepted)
        except Snooze as e:
            end = End("snoozed", again_in_s=e.after_s, error=_plain(str(e)))
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            cut = Transient("something the job waited for was cancelled, and the job did not handle it")
            end = await _failed(declaration, deps, arguments, cut, call, random_)
        except Exception as e:  # noqa: BLE001 - the boundary is where every failure is decided
            end = await _failed(declaration, deps, arguments, e, call, random_)
        else:
            word = _plain(str(outcome))
            end = End("done", outcome=outcome if outcome == word else word)  # as it is, it may have details
        finally:
            trace.current.reset(token)
        took_s = time.perf_counter() - started
        _log(end, duration_ms=round(took_s * 1000))
    if declaration.has_history:
        deps.record(_run(declaration.name, call, end, started_at, took_s))
    return end


async def bury(name: str, lane: str, deps: Deps, arguments: dict[str, Any], error: str, call: Call, raw: bytes) -> End:
    """The end of a job that is not to be run: unknown, unreadable, or killing its workers. `raw` is what was queued."""
    with logger.contextualize(job=name, job_id=call.job_id, attempt=call.attempt):
        letter: dict[str, Any] = {"job": name, "lane": lane, "arguments": arguments, "traceback": "", "raw": raw}
        end = await _dead(deps, call, error, letter_id=_replayed(call.job_id), **letter)
        _log(end, duration_ms=0)
    deps.record(_run(name, call, end, time.time(), 0.0))
    return end


async def _failed(
    declaration: Declaration[Any],
    deps: Deps,
    arguments: dict[str, Any],
    error: Exception,
    call: Call,
    random_: Callable[[], float],
) -> End:
    text = _plain(redact(in_words(error, deps)))
    if _is_transient(error) and call.attempt < declaration.max_tries:
        hint_s, base_s, cap_s = getattr(error, "retry_after_s", None), declaration.retry_base_s, declaration.retry_cap_s
        wait = wait_s(call.attempt, random_, hint_s=hint_s, base_s=base_s, cap_s=cap_s)
        return End("retry", error=text, again_in_s=wait)
    if not isinstance(error, ServiceError):
        logger.opt(exception=error).error("job panic recovered", panic=text)
    return await _dead(
        deps,
        call,
        text,
        job=declaration.name,
        lane=declaration.lane,
        letter_id=_letter_id(declaration, call.job_id, arguments),
        arguments=arguments,
        traceback=_plain(redact("".join(traceback.format_exception(error))))[-TRACEBACK_KEPT:],
    )


async def _dead(deps: Deps, call: Call, error: str, *, letter_id: str, arguments: dict[str, Any], **letter: Any) -> End:
    """Keep the dead letter. What MongoDB does not take now stays in the queue and is buried later."""
    try:
        last = {"at": datetime.now(UTC).isoformat(), "error": error, "worker": call.worker}
        letter.update(job_id=letter_id, error=error, attempts=[*await call.past(), last])
        try:
            await deps.dead_letters.add_job(arguments=arguments, **letter)
        except mongo.UNENCODABLE:
            await deps.dead_letters.add_job(arguments={"shown": ascii(arguments)}, **letter)
    except (*mongo.FAILURES, *mongo.UNENCODABLE, *redis.OUTAGES) as e:
        logger.error("dead letter could not be written", error=error, because=type(e).__name__)
        return End("dead", error=error, is_kept=False)
    return End("dead", error=error)


def _letter_id(declaration: Declaration[Any], job_id: str, arguments: dict[str, Any]) -> str:
    """One letter for one failing thing, however often it is tried: a page's pass, or a schedule whatever the tick."""
    job_id = _replayed(job_id)
    with suppress(TypeError):
        is_tick = job_id.startswith(f"{declaration.name}:") and arguments == declaration.scheduled_arguments
        return declaration.key(**arguments) or (declaration.name if is_tick else job_id)
    return job_id


def _replayed(job_id: str) -> str:
    """The job whose replay this is, or the job itself: a replay that fails belongs to the letter it came from."""
    return job_id.removeprefix(REPLAY).rpartition(":")[0] if job_id.startswith(REPLAY) else job_id


def _run(name: str, call: Call, end: End, started_at: float, took_s: float) -> Run:
    return Run(
        name,
        call.job_id,
        call.lane,
        call.worker,
        call.attempt,
        call.enqueued_at or started_at,
        started_at,
        took_s,
        end.kind,
        str(end.outcome),
        end.error,
        trace.trace_id(call.traceparent),
    )


def in_words(error: BaseException, deps: Deps) -> str:
    """What went wrong and what to do, in one line."""
    if isinstance(error, mongo.OUTAGES):
        return f"MongoDB does not answer at {deps.settings.mongo.shown}; is it running? ({type(error).__name__})"
    if isinstance(error, redis.OUTAGES):
        return f"Redis does not answer at {deps.settings.redis.shown}; is it running? ({type(error).__name__})"
    if isinstance(error, ServiceError):
        return str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        return "the job ran longer than its timeout"
    return f"{type(error).__name__}: {error}"


def _plain(text: str) -> str:
    """`text` as UTF-8 can hold it: lone surrogates, which foreign file names bring, are spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


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
