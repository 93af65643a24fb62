"""Where a job's exceptions become decisions. Jobs raise; only this module retries, and only it writes dead letters."""

import asyncio
import random
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from loguru import logger

from .. import meters, tracing
from ..clients import mongo, redis
from ..deps import Deps
from ..errors import ServiceError, Snooze, Transient
from ..rules.redact import redact
from ..rules.retry import wait_s
from ..store.run_document import Run
from . import trace
from .causes import cause_of
from .declaration import Declaration
from .job import Job
from .letters import Call, Letter, current_call, keep, letter_id, original, plain

NOTICED_S = 5.0  # a wait that somebody who watches would wonder about


@dataclass(frozen=True, slots=True)
class End:
    """How one attempt of a job ended.

    `done`: `outcome` says how. `retry`: it failed and is to run again in `again_in_s`. `snoozed`: it did not fail and
    is to run again in `again_in_s`; no try is spent. `dead`: it failed for good and is kept as a dead letter, unless
    `is_kept` is false: MongoDB did not take the letter, and the job must stay in the queue. `cancelled`: somebody
    stopped it. `traceparent`: the span of the attempt, where one was recorded.
    """

    kind: Literal["done", "retry", "snoozed", "dead", "cancelled"]
    outcome: str = ""
    error: str = ""
    again_in_s: float = 0.0
    is_kept: bool = True
    is_usual: bool = False
    traceparent: str = ""


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
    span = await _begun(declaration.name, call, started_at) if _may_be_traced(declaration.name, call) else None
    inside = call.traceparent if span is None else span.traceparent
    if span is not None:
        call = replace(call, traceparent=inside)
    token, call_token = tracing.current.set(tracing.decided(inside)), current_call.set(call)
    with logger.contextualize(**_fields(declaration.name, call, arguments, span)):
        # a line more for each of thousands would hide the rest; what a schedule starts is asked for by its beginning
        logger.log("INFO" if call.schedule else "DEBUG", "job started")
        try:
            outcome = await _called(job, deps, arguments)
        except Snooze as e:
            end = End("snoozed", again_in_s=e.after_s, error=plain(redact(str(e))), is_usual=e.is_usual)
        except Exception as e:  # noqa: BLE001 - the boundary is where every failure is decided
            end = await _failed(declaration, deps, arguments, e, call, random_)
        else:
            word = plain(str(outcome))
            end = End("done", outcome=outcome if outcome == word else word)  # as it is, it may have details
        finally:
            tracing.current.reset(token)
            current_call.reset(call_token)
            if span is not None and sys.exc_info()[0] is not None:
                span.end("it was stopped, or given back to the queue")
        took_s = time.perf_counter() - started
        _log(end, duration_ms=round(took_s * 1000))
    if span is not None:
        end = _ended(span, end)
    deps.record(run_of(declaration.name, call, end, started_at, took_s, arguments, declaration.history_days))
    return end


def _may_be_traced(name: str, call: Call) -> bool:
    # a first try that is not recorded, as nearly all are in a storm, is to cost next to nothing
    return tracing.is_on() and (call.attempt > 1 or tracing.wants(name, call.traceparent))


async def _begun(name: str, call: Call, started_at: float) -> tracing.Span | None:
    """The span of this attempt, linked to the one before it, or to what it does again."""
    above, link = call.traceparent, call.link
    if call.attempt > 1:
        if not above.endswith(tracing.NOT_SAMPLED):
            with suppress(*redis.OUTAGES):
                if traced := [past["tp"] for past in await call.past() if past.get("tp")]:
                    # where its sender decided nothing, the first try did, and is what the trace begins with
                    above, link = (above if tracing.is_sampled(above) else traced[0]), traced[-1]
        if not tracing.wants(name, above):
            return None
    about: dict[str, tracing.Value] = {"folkform.job.id": call.job_id, "folkform.job.attempt": call.attempt}
    if call.worker:
        about["folkform.worker"] = call.worker
    if call.schedule:
        about["folkform.schedule"] = call.schedule
    return trace.begin_run(
        name, call.lane, above, started_at=started_at, enqueued_at=call.ready_at, about=about, link=link
    )


def _ended(span: tracing.Span, end: End) -> End:
    span.set("folkform.job.end", end.kind)
    if end.outcome:
        span.set("folkform.job.outcome", str(end.outcome))
    span.end(end.error if end.kind in ("retry", "dead") else "")
    return replace(end, traceparent=span.traceparent)


def _fields(name: str, call: Call, arguments: Mapping[str, Any], span: tracing.Span | None) -> dict[str, Any]:
    """What stands in every line the job logs."""
    fields: dict[str, Any] = {"job": name, "job_id": call.job_id, "lane": call.lane, "attempt": call.attempt}
    if "page_id" in arguments:
        fields["page_id"] = arguments["page_id"]
    if span is not None:
        fields["trace_id"] = trace.trace_id(span.traceparent)
    return fields


async def _called(job: Job[Any], deps: Deps, arguments: dict[str, Any]) -> str:
    """The job's outcome; what asyncio would take for the process' own affair is made a failure of the job."""
    accepted = job.declaration.checked(arguments)
    timer = asyncio.timeout(job.declaration.timeout_s or deps.settings.worker.default_timeout_seconds)
    try:
        async with timer:
            return await job.run(deps, **accepted)
    except TimeoutError as e:
        if timer.expired():
            raise Transient("the job ran longer than its timeout") from e
        raise
    except asyncio.CancelledError as e:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        raise Transient("something the job waited for was cancelled, and the job did not handle it") from e
    except SystemExit as e:
        raise RuntimeError(f"the job called sys.exit({e.code})") from e


async def bury(name: str, lane: str, deps: Deps, arguments: dict[str, Any], error: str, call: Call, raw: bytes) -> End:
    """The end of a job that is not to be run: unknown, unreadable, or killing its workers. `raw` is what was queued."""
    span = await _begun(name, call, time.time()) if _may_be_traced(name, call) else None
    token = tracing.current.set(span.traceparent if span else "")
    with logger.contextualize(job=name, job_id=call.job_id, lane=lane, attempt=call.attempt):
        letter = Letter(name, lane, original(call.job_id), arguments, error, "", raw)
        end = End("dead", error=error, is_kept=await keep(letter, deps, call))
        _log(end, duration_ms=0)
    tracing.current.reset(token)
    if span is not None:
        end = _ended(span, end)
    deps.record(run_of(name, call, end, time.time(), 0.0, arguments))
    return end


async def _failed(
    declaration: Declaration[Any],
    deps: Deps,
    arguments: dict[str, Any],
    error: Exception,
    call: Call,
    random_: Callable[[], float],
) -> End:
    _settle()
    text = plain(redact(in_words(error, deps)))
    if _is_transient(error) and call.attempt < declaration.max_tries:
        hint_s, base_s, cap_s = getattr(error, "retry_after_s", None), declaration.retry_base_s, declaration.retry_cap_s
        wait = wait_s(call.attempt, random_, hint_s=hint_s, base_s=base_s, cap_s=cap_s)
        if hint_s is not None and getattr(error, "is_exact", False):
            wait = hint_s
        meters.RETRIES.add(declaration.name, cause_of(error))
        return End("retry", error=text, again_in_s=wait)
    if not isinstance(error, ServiceError):
        logger.opt(exception=error).error("job panic recovered", panic=text)
    letter = Letter(
        declaration.name,
        declaration.lane,
        letter_id(declaration, call.job_id, arguments, call.schedule),
        arguments,
        text,
        redact("".join(traceback.format_exception(error))),
    )
    return End("dead", error=text, is_kept=await keep(letter, deps, call))


def _settle() -> None:
    """Before Python 3.11.3 a TaskGroup that failed leaves its task marked as being cancelled, and no asyncio.timeout in
    it ends as a TimeoutError any more (python/cpython#102780). The failure has been told: nothing is being cancelled.
    """
    task = asyncio.current_task()
    while task and task.cancelling():
        task.uncancel()


def run_of(
    name: str,
    call: Call,
    end: End,
    started_at: float,
    took_s: float,
    arguments: Mapping[str, Any],
    history_days: float | None = None,
) -> Run:
    """What is recorded of one attempt."""
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
        arguments,
        call.schedule,
        call.tick_at,
        history_days,
        call.fence,
        getattr(end.outcome, "details", None),
        ready_at=call.ready_at,
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
        return "something the job waited for took too long (TimeoutError)"
    return f"{type(error).__name__}: {error}"


def _is_transient(error: Exception) -> bool:
    return isinstance(error, (Transient, TimeoutError, *mongo.OUTAGES, *redis.OUTAGES))


def _log(end: End, *, duration_ms: int) -> None:
    if end.kind == "done":
        details = getattr(end.outcome, "details", {})
        logger.info("job done", outcome=str(end.outcome), duration_ms=duration_ms, **details)
    elif end.kind == "snoozed":
        level = "DEBUG" if end.is_usual else "WARNING" if end.again_in_s > NOTICED_S else "INFO"
        logger.log(
            level, "job goes on later", because=end.error, in_s=round(end.again_in_s, 1), duration_ms=duration_ms
        )
    elif end.kind == "retry":
        logger.warning(
            "job failed, will retry", error=end.error, in_s=round(end.again_in_s, 1), duration_ms=duration_ms
        )
    else:
        logger.error("job failed for good", error=end.error, duration_ms=duration_ms)
