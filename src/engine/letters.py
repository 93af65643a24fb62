"""Dead letters on their way to MongoDB: what is kept of a job that failed for good, and under which id."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loguru import logger

from ..clients import mongo, redis
from ..deps import Deps
from ..rules.redact import redact
from ..tracing import current, is_sampled
from .declaration import Declaration

TRACEBACK_KEPT = 8_000  # characters, the last ones
TEXT_KEPT = 2_000  # characters of an error or an outcome: they stand in logs, results and the history too
SHOWN_KEPT = 100_000  # characters of what MongoDB cannot hold as it is
REPLAY = "replay:"  # what the ids of replayed jobs start with: `replay:<job id>:<number>`

Attempts = list[dict[str, Any]]


async def _no_attempts() -> Attempts:
    return []


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt of a job: under which id, in which lane, the how-manieth (1-based), enqueued when (Unix seconds).

    `schedule`: the name of the schedule that started it, or "", and the tick (Unix seconds) it stands for. `fence`: a
    number higher than that of every holder the job had before (0 outside the lanes): what writes with it can tell a
    holder that was thought dead. `due_at`: when it was to run at the earliest (Unix seconds), or 0. `link`: the
    traceparent of a run whose work it does again. `past` gives the attempts that failed before it, oldest first, each
    with `at`, `error` and `worker`, and `tp` where it was traced.
    """

    job_id: str
    lane: str
    attempt: int = 1
    enqueued_at: float = 0.0
    traceparent: str = ""
    worker: str = ""
    schedule: str = ""
    tick_at: float | None = None
    fence: int = 0
    due_at: float = 0.0
    link: str = ""
    past: Callable[[], Awaitable[Attempts]] = _no_attempts

    @property
    def ready_at(self) -> float:
        """Since when it waits for a slot: since it was enqueued, or since it fell due after a delay or a snooze."""
        return max(self.enqueued_at, self.due_at)


#: The attempt that runs in this context; for jobs that are to know their own id.
current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to be kept; `raw` is the job as it was queued, where that is to be replayed. Texts are redacted."""

    job: str
    lane: str
    letter_id: str
    arguments: dict[str, Any]
    error: str
    traceback: str
    raw: bytes | None = None


async def keep(letter: Letter, deps: Deps, call: Call) -> bool:
    """Store it, with every attempt; False where MongoDB (or Redis, for the past attempts) is away. Safe to repeat.

    What MongoDB refuses to hold, too large or too deep, is kept as text, cut where it must be.
    """
    here = current.get()
    last = failed_try(letter.error, call.worker, here if is_sampled(here) else "")
    stored: dict[str, Any] = {
        "job": letter.job,
        "lane": letter.lane,
        "letter_id": letter.letter_id,
        "job_id": call.job_id,
        "error": letter.error,
        "traceback": plain(letter.traceback[-TRACEBACK_KEPT:], TRACEBACK_KEPT),
    }
    try:
        stored["attempts"] = [*await call.past(), last]
        try:
            await deps.dead_letters.add_job(arguments=letter.arguments, raw=letter.raw, **stored)
        except (*mongo.UNENCODABLE, *mongo.REFUSALS) as e:
            if isinstance(e, mongo.OUTAGES):
                raise
            shown = {"shown": redact(ascii(letter.arguments))[:SHOWN_KEPT]}
            await deps.dead_letters.add_job(arguments=shown, **stored)
    except (*mongo.FAILURES, *mongo.UNENCODABLE, *redis.OUTAGES) as e:
        logger.error("dead letter could not be written", error=letter.error, because=type(e).__name__)
        return False
    return True


def failed_try(error: str, worker: str, traceparent: str) -> dict[str, str]:
    """A try that failed now, as it is kept. `traceparent`: its span, or "" where none was recorded."""
    attempt = {"at": datetime.now(UTC).isoformat(), "error": error, "worker": worker}
    return {**attempt, **({"tp": traceparent} if traceparent else {})}


def letter_id(declaration: Declaration[Any], job_id: str, arguments: dict[str, Any], schedule: str = "") -> str:
    """One letter for one failing thing, however often it is tried: a page's pass, or a schedule whatever the tick."""
    job_id = original(job_id)
    if schedule and schedule != declaration.name:
        return f"{declaration.name}@{schedule}"
    with suppress(TypeError):
        is_tick = job_id.startswith(f"{declaration.name}:") and arguments == declaration.scheduled_arguments
        return declaration.key(**arguments) or (declaration.name if is_tick else job_id)
    return job_id


def original(job_id: str) -> str:
    """The job whose replay this is, or the job itself: a replay that fails belongs to the letter it came from."""
    return job_id.removeprefix(REPLAY).rpartition(":")[0] if job_id.startswith(REPLAY) else job_id


def traced_as(letter: Mapping[str, Any]) -> str:
    """The traceparent of the last try that a letter tells of and that was traced, or ""."""
    return next((str(past["tp"]) for past in reversed(letter.get("attempts") or []) if past.get("tp")), "")


def plain(text: str, most: int = TEXT_KEPT) -> str:
    """`text` cut, and as UTF-8 can hold it: lone surrogates, which foreign file names bring, are spelt out."""
    return text[:most].encode("utf-8", "backslashreplace").decode()
