"""What Redis knows of a lane or of a job, read from the answers to `queue`'s questions."""

from dataclasses import dataclass
from typing import Any, Literal

from .wire import deserialize

State = Literal["pending", "scheduled", "retry", "active", "done", "dead", "cancelled"]


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One lane. `pending`: due and waiting; `scheduled`: due later; `retry`: failed and waiting for the next try.

    `latency_s`: how long the first in line has waited. `processed` and `failed` (for good) count since Redis was
    empty; `dead` are the dead letters that nobody has replayed or dropped.
    """

    pending: int
    active: int
    scheduled: int
    retry: int
    dead: int
    paused: bool
    latency_s: float
    processed: int
    failed: int


@dataclass(frozen=True, slots=True)
class JobInfo:
    """One job. Instants are Unix seconds or None; `attempt` is 1 for a job that never failed.

    `page_id`: of the page it is about, where it is about one.
    """

    state: State
    job: str
    lane: str
    attempt: int
    enqueued_at: float
    started_at: float | None = None
    finished_at: float | None = None
    outcome: str | None = None
    error: str | None = None
    page_id: str | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of a job that was to be stopped; of one that waited also what it was, for whoever records its end."""

    word: Literal["removed", "running", "unknown"]
    lane: str = ""
    payload: bytes | str = b""
    fence: int = 0


def as_text(value: bytes | str) -> str:
    """A name as text: the app's connection may decode it or not."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def stats_of(row: list[Any], now: int, head_start: int) -> QueueStats:
    """One lane's row of `stats.lua`; `now` in Unix ms, `head_start` of a priority of 1 in ms."""
    pending, active, scheduled, retry, paused, score, payload, processed, failed, dead = row
    latency_s = 0.0
    if payload:
        job = _readable(payload)
        due = float(score) + float(job.get("p") or 0) * head_start
        # above now: it fell due this moment, and has not had its head start yet
        since = max(due if due <= now else float(score), float(job.get("et") or 0))
        latency_s = max(0.0, (now - since) / 1000)
    return QueueStats(pending, active, scheduled, retry, dead, bool(paused), latency_s, processed, failed)


def _readable(payload: bytes) -> dict[str, Any]:
    """The job's dictionary; empty for one in a format we do not know."""
    try:
        return deserialize(payload)
    except ValueError:
        return {}


def info_of(row: list[Any], lanes: list[str], now_ms: int) -> JobInfo | None:
    """One job from its result, payload, tries, start, last failed attempt, and its score in each of `lanes`."""
    result, payload, tries, started, last, *scores = row
    if result:
        return _ended(_readable(result))
    found = [(lane, score) for lane, score in zip(lanes, scores, strict=True) if score is not None]
    if not (payload and found):
        return None
    failed = int(as_text(tries or "0").partition(":")[0])
    lane, score = found[0]
    state: State = "active" if started else "pending" if score <= now_ms else "retry" if last else "scheduled"
    return _waiting(_readable(payload), state, lane, failed + 1, int(started or 0), last)


def _waiting(job: dict[str, Any], state: State, lane: str, attempt: int, started_ms: int, last: Any) -> JobInfo:
    error = (deserialize(last).get("error") or None) if last else None
    started_at = started_ms / 1000 if started_ms > 1 else None
    enqueued_at = (job.get("et") or 0) / 1000
    page_id = _page_of(job)
    name = str(job.get("f", "?"))
    return JobInfo(state, name, lane, attempt, enqueued_at, started_at=started_at, error=error, page_id=page_id)


def _page_of(job: dict[str, Any]) -> str | None:
    """The page it is about, where it says so."""
    arguments = job.get("k")
    page_id = arguments.get("page_id") if isinstance(arguments, dict) else None
    return page_id if isinstance(page_id, str) else None


def _ended(job: dict[str, Any]) -> JobInfo:
    if not {"s", "f", "t", "et", "st", "ft", "r"} <= job.keys():
        return JobInfo("done", "?", "", 1, 0.0, error="its result is in a format we do not know")
    is_done = bool(job["s"])
    return JobInfo(
        "done" if is_done else "cancelled" if job.get("x") else "dead",
        str(job["f"]),
        str(job.get("q", "")),
        int(job["t"]),
        job["et"] / 1000,
        started_at=job["st"] / 1000,
        finished_at=job["ft"] / 1000,
        outcome=str(job["r"]) if is_done else None,
        error=None if is_done else str(job["r"]),
        page_id=_page_of(job),
    )
