"""Runs a job here and now to its end, its children included: what the command line does instead of enqueueing."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from secrets import token_hex
from typing import Any, NamedTuple

from ..deps import Deps, NoHands
from ..errors import Misuse
from .boundary import End, run_job
from .job import Job
from .letters import Attempts, Call, failed_try
from .queue import Queue
from .trace import to_send

AT_ONCE = 8  # children that run side by side
PERSON_WAITS_S = 1.0  # between tries: the client has waited with jitter already


class _Spawned(NamedTuple):
    name: str
    arguments: dict[str, Any]
    job_id: str | None
    traceparent: str


@dataclass(slots=True)
class Ran:
    """A job that was run, and the children it spawned."""

    name: str
    arguments: dict[str, Any]
    end: End
    children: list["Ran"] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether the job and every child of it are done."""
        return self.end.kind == "done" and all(child.is_ok for child in self.children)

    def report(self) -> dict[str, Any]:
        """JSON-able: job, outcome (`failed` where it or a child failed), details, error, and each failed child."""
        failed = [child.report() for child in self.children if not child.is_ok]
        report: dict[str, Any] = {
            "job": self.name,
            "outcome": str(self.end.outcome) if self.is_ok else "failed",
            **self.arguments,
            **getattr(self.end.outcome, "details", {}),
        }
        if self.end.error:
            report["error"] = self.end.error
        if self.children:
            report["children"] = len(self.children)
            for name in ("calls", "rows", "set_aside", "deleted"):
                report[name] = sum(child.report().get(name) or 0 for child in self.children)
        if failed:
            report["failed"] = failed
        return report


async def run_to_end(
    jobs: Mapping[str, Job[Any]],
    deps: Deps,
    name: str,
    arguments: dict[str, Any],
    *,
    sleep: Callable[[float], Awaitable[None]] | None = None,
    max_tries: int | None = None,
    job_id: str | None = None,
    traceparent: str = "",
) -> Ran:
    """Run job `name`: retried, snoozed and followed through as in a worker. Raises Misuse on a wrong name or argument.

    `max_tries` takes the place of the jobs' own, for a person who waits. `job_id`: the id its parent gave it, and
    `traceparent` the trace it belongs to.
    """
    job = known(jobs, name)
    declaration = job.declaration
    if max_tries is not None:
        job = replace(job, declaration=replace(declaration, max_tries=min(declaration.max_tries, max_tries)))
    declaration.checked(arguments)
    spawned: dict[str, _Spawned] = {}

    class Here(NoHands):
        async def spawn(
            self, name: str, arguments: dict[str, Any], *, job_id: str | None = None, group: str = ""
        ) -> bool:
            child = known(jobs, name).declaration
            key = job_id or child.key(**arguments) or f"{name}:{len(spawned)}"
            if key not in spawned:
                spawned[key] = _Spawned(name, arguments, job_id, to_send(name, child.lane))
            return spawned[key][:3] == (name, arguments, job_id)

        async def wait(self, job_ids: Sequence[str]) -> set[str]:
            return await Queue(deps.redis, {}).waits(job_ids)

    job_id = job_id or _own_id(job, arguments)
    here = replace(deps, hands=Here())
    traceparent = traceparent or to_send(name, declaration.lane)
    call = Call(job_id, declaration.lane, traceparent=traceparent, worker=this_process())
    end = await _to_end(job, call, here, arguments, sleep or partial(_sleep, deps))
    ran = Ran(name, arguments, end)
    slots = asyncio.Semaphore(AT_ONCE)

    async def run_child(child: str, child_arguments: dict[str, Any], child_id: str | None, tp: str) -> Ran:
        async with slots:
            return await run_to_end(
                jobs, deps, child, child_arguments, sleep=sleep, max_tries=max_tries, job_id=child_id, traceparent=tp
            )

    ran.children = list(await asyncio.gather(*(run_child(*each) for each in spawned.values())))
    return ran


def this_process() -> str:
    """What stands in the history for the worker of a job that was run here."""
    return f"{socket.gethostname()}:{os.getpid()}:here"


def known(jobs: Mapping[str, Job[Any]], name: str) -> Job[Any]:
    """The job of that name. Raises Misuse with the names there are."""
    if name not in jobs:
        raise Misuse(f"there is no job {name!r}; there are {', '.join(sorted(jobs))}")
    return jobs[name]


def _own_id(job: Job[Any], arguments: dict[str, Any]) -> str:
    """An id that says what is done; where nothing says that two calls do the same, no other call has it."""
    key = job.declaration.key(**arguments)
    return f"here:{key or job.name}" if key or not arguments else f"here:{job.name}:{token_hex(8)}"


async def _to_end(
    job: Job[Any],
    call: Call,
    deps: Deps,
    arguments: dict[str, Any],
    sleep: Callable[[float], Awaitable[None]],
) -> End:
    past: Attempts = []

    async def asked() -> Attempts:
        return past

    while True:
        end = await run_job(job, deps, arguments, replace(call, attempt=len(past) + 1, past=asked))
        if end.kind in ("done", "dead") or deps.stopping.is_set():
            return end
        if end.kind == "retry":
            past.append(failed_try(end.error, call.worker, end.traceparent))
        await sleep(min(end.again_in_s, PERSON_WAITS_S) if end.kind == "retry" else end.again_in_s)


async def _sleep(deps: Deps, seconds: float) -> None:
    """Sleep, but no longer than until the process is asked to end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await deps.stopping.wait()
