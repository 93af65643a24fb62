"""Runs a job here and now to its end, its children included: what the command line does instead of enqueueing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from secrets import token_hex
from typing import Any

from ..deps import Deps, NoHands
from ..errors import Misuse
from .boundary import End, run_job
from .job import Job
from .letters import Call
from .queue import Queue

AT_ONCE = 8  # children that run side by side
PERSON_WAITS_S = 1.0  # between tries: the client has waited with jitter already


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
) -> Ran:
    """Run job `name`: retried, snoozed and followed through as in a worker. Raises Misuse on a wrong name or argument.

    `max_tries` takes the place of the jobs' own, for a person who waits. `job_id`: the id its parent gave it.
    """
    job = known(jobs, name)
    declaration = job.declaration
    if max_tries is not None:
        job = replace(job, declaration=replace(declaration, max_tries=min(declaration.max_tries, max_tries)))
    declaration.checked(arguments)
    spawned: dict[str, tuple[str, dict[str, Any], str | None]] = {}

    class Here(NoHands):
        async def spawn(
            self, name: str, arguments: dict[str, Any], *, job_id: str | None = None, group: str = ""
        ) -> bool:
            key = job_id or known(jobs, name).declaration.key(**arguments) or f"{name}:{len(spawned)}"
            return spawned.setdefault(key, (name, arguments, job_id)) == (name, arguments, job_id)

        async def wait(self, job_ids: Sequence[str]) -> set[str]:
            return await Queue(deps.redis, {}).waits(job_ids)

    job_id = job_id or _own_id(job, arguments)
    end = await _to_end(job, job_id, replace(deps, hands=Here()), arguments, sleep or partial(_sleep, deps))
    ran = Ran(name, arguments, end)
    slots = asyncio.Semaphore(AT_ONCE)

    async def run_child(child: str, child_arguments: dict[str, Any], child_id: str | None) -> Ran:
        async with slots:
            return await run_to_end(
                jobs, deps, child, child_arguments, sleep=sleep, max_tries=max_tries, job_id=child_id
            )

    ran.children = list(await asyncio.gather(*(run_child(*each) for each in spawned.values())))
    return ran


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
    job_id: str,
    deps: Deps,
    arguments: dict[str, Any],
    sleep: Callable[[float], Awaitable[None]],
) -> End:
    attempt = 1
    while True:
        end = await run_job(job, deps, arguments, Call(job_id, job.declaration.lane, attempt))
        if end.kind in ("done", "dead") or deps.stopping.is_set():
            return end
        attempt += end.kind == "retry"
        await sleep(min(end.again_in_s, PERSON_WAITS_S) if end.kind == "retry" else end.again_in_s)


async def _sleep(deps: Deps, seconds: float) -> None:
    """Sleep, but no longer than until the process is asked to end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await deps.stopping.wait()
