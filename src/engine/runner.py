"""What happens to one claimed job: read, run through the boundary, and how Redis is to be told."""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from random import random
from typing import Any

import orjson
from loguru import logger

from ..deps import Deps
from ..rules.retry import wait_s
from .boundary import End, bury, run_job, run_of
from .claims import Claimed, Claims, Finish, again, ended, given_back
from .declaration import Declaration
from .job import Job
from .letters import Call, failed_try
from .wire import Envelope, read_job, write_result

KILLS = 3  # workers a job we do not know may kill before it is taken out
BURY_AGAIN_S = 30.0  # where MongoDB did not take the dead letter
BUG_S = 5.0
UNKNOWN_TRIES = 5  # a job that is not known here may be known to a newer worker
UNREADABLE = "the job is in a format this worker does not know: give its sender the serializer of engine/wire"
GONE = "the job's content is gone from Redis: it waited for more than 30 days, or Redis evicts (use noeviction)"


class Runner:
    """Runs claimed jobs of `jobs`. `token`: who we are; `claims`: where the past of a job is to be asked for."""

    def __init__(self, deps: Deps, jobs: Mapping[str, Job[Any]], claims: Claims, token: str) -> None:
        self._deps = deps
        self._jobs = jobs
        self._claims = claims
        self._token = token
        self._keep_s = deps.settings.worker.keep_result_seconds

    async def run(self, claimed: Claimed) -> Finish:
        """Run one attempt. Never raises: cancelled, by a shutdown, the job is given back."""
        try:
            return await self._run(claimed)
        except asyncio.CancelledError:
            return given_back(claimed)
        except Exception as e:  # noqa: BLE001 - a bug of ours must not cost the job
            logger.opt(exception=e).error("the lanes hit a bug", job_id=claimed.job_id)
            return again(claimed, BUG_S, claimed.tries, "", 0, claimed.lane)

    def stopped(self, claimed: Claimed, ran_s: float) -> Finish:
        """The end of a job that somebody stopped after `ran_s` seconds. Nothing of it is left to be replayed."""
        now_ms = time.time_ns() // 1_000_000
        try:
            envelope = read_job(claimed.payload or b"")
        except ValueError:
            envelope = _nameless(now_ms)
        job, call = self._jobs.get(envelope.name), self._call(claimed, envelope)
        end = End("cancelled", error="it was stopped while it ran")
        page = {"page_id": envelope.kwargs["page_id"]} if "page_id" in envelope.kwargs else {}
        logger.warning(
            "job stopped",
            job=envelope.name,
            job_id=claimed.job_id,
            lane=claimed.lane,
            attempt=call.attempt,
            duration_ms=int(ran_s * 1000),
            **page,
        )
        days = job.declaration.history_days if job else None
        self._deps.record(run_of(envelope.name, call, end, time.time() - ran_s, ran_s, envelope.kwargs, days))
        return self._finish(claimed, envelope, job.declaration if job else None, end, now_ms - int(ran_s * 1000))

    async def _run(self, claimed: Claimed) -> Finish:
        started_ms = time.time_ns() // 1_000_000
        call = Call(claimed.job_id, claimed.lane, claimed.failed + 1, worker=self._token)
        if claimed.payload is None:
            return await self._bury(claimed, call, _nameless(started_ms), GONE)
        try:
            envelope = read_job(claimed.payload)
        except ValueError:
            return await self._bury(claimed, call, _nameless(started_ms), UNREADABLE)
        call = self._call(claimed, envelope)
        job = self._jobs.get(envelope.name)
        if claimed.killed >= (job.declaration.max_kills if job else KILLS):
            return await self._bury(
                claimed, call, envelope, f"poisoned: {claimed.killed} workers died while they ran it"
            )
        if job is None:
            return await self._unknown(claimed, call, envelope)
        if claimed.failed >= job.declaration.max_tries:  # it failed for good, and MongoDB was away
            past = await call.past()
            return await self._bury(claimed, call, envelope, past[-1]["error"] if past else "it failed for good")
        arguments = job.declaration.named(envelope.args, envelope.kwargs)
        end = await run_job(job, self._deps, arguments, call)
        return self._finish(claimed, envelope, job.declaration, end, started_ms)

    def _call(self, claimed: Claimed, envelope: Envelope) -> Call:
        return Call(
            claimed.job_id,
            claimed.lane,
            claimed.failed + 1,
            envelope.enqueued_ms / 1000,
            envelope.traceparent,
            self._token,
            envelope.schedule,
            envelope.tick_at,
            claimed.fence,
            float(claimed.score) / 1000,
            envelope.link,
            partial(self._claims.past, claimed.job_id),
        )

    async def _unknown(self, claimed: Claimed, call: Call, envelope: Envelope) -> Finish:
        """Another worker may know it, a newer one; meeting us has cost it no try."""
        error = f"there is no job {envelope.name!r} in this worker"
        met = 1 + sum(past.get("error") == error for past in await call.past())
        if met >= UNKNOWN_TRIES:
            return await self._bury(claimed, call, envelope, error)
        logger.warning("job is not known here", error=error, job_id=claimed.job_id, lane=claimed.lane)
        in_s = wait_s(met, random, base_s=5.0)
        return again(claimed, in_s, claimed.tries, self._attempt(error), envelope.priority, claimed.lane)

    async def _bury(self, claimed: Claimed, call: Call, envelope: Envelope, error: str) -> Finish:
        arguments = {**envelope.kwargs, **({"args": envelope.args} if envelope.args else {})}
        raw = claimed.payload.encode() if isinstance(claimed.payload, str) else claimed.payload or b""
        end = await bury(envelope.name, claimed.lane, self._deps, arguments, error, call, raw)
        return self._finish(claimed, envelope, None, end, int(time.time() * 1000))

    def _finish(
        self, claimed: Claimed, envelope: Envelope, declaration: Declaration[Any] | None, end: End, started_ms: int
    ) -> Finish:
        if end.kind == "snoozed":
            return again(claimed, end.again_in_s, claimed.tries, "", envelope.priority, claimed.lane)
        if end.kind == "retry":
            lane = (declaration.retry_lane if declaration else None) or claimed.lane
            return self._again(claimed, envelope, end, lane)
        if not end.is_kept:
            tries = f"{max(claimed.failed + 1, declaration.max_tries if declaration else 0)}:{claimed.killed}"
            attempt = self._attempt(end.error, end.traceparent)
            return again(claimed, BURY_AGAIN_S, tries, attempt, envelope.priority, claimed.lane)
        result = ""
        if self._keep_s:
            result = write_result(
                envelope,
                claimed.job_id,
                claimed.lane,
                attempt=claimed.failed + 1,
                outcome=end.outcome,
                error=end.error,
                started_ms=started_ms,
                finished_ms=time.time_ns() // 1_000_000,
                is_cancelled=end.kind == "cancelled",
            ).decode()
        return ended(claimed, result, self._keep_s, envelope.unique, is_failed=end.kind == "dead")

    def _again(self, claimed: Claimed, envelope: Envelope, end: End, lane: str) -> Finish:
        tries = f"{claimed.failed + 1}:{claimed.killed}"
        return again(claimed, end.again_in_s, tries, self._attempt(end.error, end.traceparent), envelope.priority, lane)

    def _attempt(self, error: str, traceparent: str = "") -> str:
        return orjson.dumps(failed_try(error, self._token, traceparent)).decode()


def _nameless(now_ms: int) -> Envelope:
    return Envelope("unknown", [], {}, now_ms, 0, "", "")
