"""Where a job's exceptions become decisions: done, again, later, dead."""

import asyncio
from dataclasses import MISSING, fields
from typing import Any, Literal, cast

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import AutoReconnect, OperationFailure, ServerSelectionTimeoutError
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from src.deps import Deps
from src.engine.boundary import End, run_job
from src.engine.inline import known
from src.engine.job import Job, Outcome
from src.engine.letters import Call
from src.errors import (
    Malformed,
    Misuse,
    PageUnavailable,
    Permanent,
    RateLimited,
    Snooze,
    TokenRejected,
    Transient,
)
from src.settings import load_settings
from tests.harness.jobs import job as job_of

SECRET = "s3cr3t-0f-n0body"
URL = f"https://pages.test/x?page_access_token={SECRET}"


class Letters:
    """Dead letters, kept in memory; or a store that fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.kept: list[dict[str, Any]] = []
        self._failure = failure

    async def add_job(self, **letter: Any) -> None:
        if self._failure is not None:
            raise self._failure
        self.kept.append(letter)


def deps_with(letters: Letters) -> Deps:
    """Dependencies of which only settings and dead letters are there: the boundary needs no more."""
    missing = cast("Any", None)
    needed = {each.name: missing for each in fields(Deps) if each.default is each.default_factory is MISSING}
    given = {"settings": load_settings(None), "dead_letters": cast("Any", letters)}
    return Deps(**{**needed, **given})


def failing(error: BaseException) -> Job[Any]:
    async def chore(deps: Deps) -> str:
        raise error

    return job_of(chore, lane="sync")


async def ran(
    job: Job[Any],
    letters: Letters,
    arguments: dict[str, Any] | None = None,
    *,
    attempt: int = 1,
    chance: float = 0.5,
) -> End:
    async def past() -> list[dict[str, Any]]:
        return [{"error": "before"}] * (attempt - 1)

    call = Call("id-1", "sync", attempt, past=past)
    return await run_job(job, deps_with(letters), arguments or {}, call, random_=lambda: chance)


@pytest.mark.anyio
async def test_a_job_that_returns_is_done() -> None:
    """The outcome, with its details, comes through; nothing is kept."""

    async def chore(deps: Deps, rows: int) -> str:
        return Outcome("synced", rows=rows)

    letters = Letters()
    end = await ran(job_of(chore, lane="sync"), letters, {"rows": "12"})
    assert (end.kind, end.outcome, end.error) == ("done", "synced", "")
    assert getattr(end.outcome, "details", None) == {"rows": 12}
    assert letters.kept == []


BACKOFF_S = 5.0  # the default base: attempt 1 at chance 0.5: half of the base, doubled


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "again_in_s", "words"),
    [
        (Transient("GET /x: Pancake failed (500)"), BACKOFF_S, "Pancake failed (500)"),
        (Transient("GET /x: Pancake failed (503)", retry_after_s=30), 33, "503"),
        (RateLimited("GET /x: too many calls (429)", retry_after_s=60), 66, "429"),
        (TimeoutError(), BACKOFF_S, "something the job waited for took too long"),
        (AutoReconnect("a.test:27017 closed"), BACKOFF_S, "MongoDB does not answer at mongodb://localhost:27017"),
        (ServerSelectionTimeoutError("no primary"), BACKOFF_S, "MongoDB does not answer"),
        (RedisConnectionError("refused"), BACKOFF_S, "Redis does not answer at redis://localhost:6379/0"),
        (RedisTimeoutError("slow"), BACKOFF_S, "Redis does not answer"),
        (BusyLoadingError("loading"), BACKOFF_S, "Redis does not answer"),
    ],
    ids=[
        *("transient", "transient with a hint", "rate limited", "timeout within"),
        *("mongodb away", "mongodb not found", "redis away", "redis slow", "redis loading"),
    ],
)
async def test_what_may_pass_is_tried_again(error: Exception, again_in_s: float, words: str) -> None:
    """With jittered backoff, or after the other side's own number; no dead letter yet."""
    letters = Letters()
    end = await ran(failing(error), letters)
    assert end.kind == "retry"
    assert end.again_in_s == pytest.approx(again_in_s)
    assert words in end.error
    assert letters.kept == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Permanent("GET /x: refused (404)"), "GET /x: refused (404)"),
        (Malformed("no list of customers"), "no list of customers"),
        (TokenRejected("set PANCAKE_PAGE_TOKENS"), "set PANCAKE_PAGE_TOKENS"),
        (PageUnavailable("subscription is over"), "subscription is over"),
        (Misuse("there is no job"), "there is no job"),
        (ValueError("a bug"), "ValueError: a bug"),
        (KeyError("rows"), "KeyError: 'rows'"),
        (OperationFailure("not allowed", 13), "OperationFailure: not allowed"),
    ],
    ids=["permanent", "malformed", "token", "page", "misuse", "bug", "another bug", "mongodb refuses"],
)
async def test_what_stays_wrong_is_kept_for_a_human(error: Exception, words: str) -> None:
    """At the first attempt: a try more would only say the same again."""
    letters = Letters()
    end = await ran(failing(error), letters)
    assert end.kind == "dead"
    assert words in end.error
    (letter,) = letters.kept
    assert words in letter["error"]
    assert type(error).__name__ in letter["traceback"]
    assert (letter["job"], letter["job_id"], letter["lane"], len(letter["attempts"])) == ("chore", "id-1", "sync", 1)


@pytest.mark.anyio
@pytest.mark.parametrize(("attempt", "kind"), [(1, "retry"), (4, "retry"), (5, "dead"), (6, "dead")])
async def test_tries_are_counted(attempt: int, kind: str) -> None:
    """The last try that fails ends in a dead letter which tells how many there were."""
    letters = Letters()
    end = await ran(failing(Transient("again")), letters, attempt=attempt)
    assert end.kind == kind
    assert [len(letter["attempts"]) for letter in letters.kept] == ([attempt] if kind == "dead" else [])


@pytest.mark.anyio
@pytest.mark.parametrize("attempt", [1, 5, 50])
async def test_a_snooze_is_no_failure(attempt: int) -> None:
    """Work that is not finished goes on later, however often, and spends no try."""
    letters = Letters()
    end = await ran(failing(Snooze("the pass goes on", after_s=12.0)), letters, attempt=attempt)
    assert (end.kind, end.again_in_s) == ("snoozed", 12.0)
    assert letters.kept == []


@pytest.mark.anyio
async def test_a_job_past_its_timeout_is_stopped_and_tried_again() -> None:
    """The job's own timeout counts before that of the settings."""
    stopped = False

    async def chore(deps: Deps) -> str:
        nonlocal stopped
        try:
            await asyncio.Event().wait()
        finally:
            stopped = True
        return "never"

    letters = Letters()
    job = job_of(chore, lane="sync", timeout_s=0.01)
    end = await ran(job, letters)
    assert stopped
    assert (end.kind, end.error) == ("retry", "the job ran longer than its timeout")
    assert (await ran(job, letters, attempt=5)).kind == "dead"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "arguments",
    [{}, {"page_id": "1", "mode": "sideways"}, {"page_id": "1", "page": "2"}],
    ids=["none", "value", "name"],
)
async def test_a_wrong_argument_is_dead_with_a_line_that_says_how_to_call(arguments: dict[str, Any]) -> None:
    """Not one try is spent on a call that cannot be right."""
    letters = Letters()
    end = await ran(PAGE_JOB, letters, arguments)
    assert end.kind == "dead"
    assert "sync_one(page_id: str, mode:" in end.error
    assert "\n" not in end.error
    assert len(letters.kept) == 1
    assert letters.kept[0]["arguments"] == arguments


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error",
    [Permanent(f"failed at {URL}"), ValueError(f"failed at {URL}"), Transient(f"mongodb://u:{SECRET}@a.test/x")],
    ids=["ours", "bug", "address"],
)
async def test_no_secret_is_kept(error: Exception) -> None:
    """Dead letters are read by people and copied into mails."""
    letters = Letters()
    error.__cause__ = ConnectionError(URL)
    end = await ran(failing(error), letters, attempt=5)
    assert SECRET not in end.error
    assert SECRET not in repr(letters.kept)
    assert "ConnectionError" in letters.kept[0]["traceback"]


@pytest.mark.anyio
async def test_a_failure_beside_others_leaves_nothing_behind() -> None:
    """What runs next in the same task can time out as it should, whatever the Python."""

    async def wait() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        raise ValueError("a bug")

    async def chore(deps: Deps) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(fail())
        return "never"

    assert (await ran(job_of(chore), Letters())).kind == "dead"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await wait()


@pytest.mark.anyio
async def test_a_job_cannot_end_the_process() -> None:
    """`sys.exit()` somewhere in a library is that job's bug, kept under its name."""
    letters = Letters()
    end = await ran(failing(SystemExit(3)), letters)
    assert (end.kind, end.error) == ("dead", "RuntimeError: the job called sys.exit(3)")
    assert len(letters.kept) == 1


@pytest.mark.anyio
async def test_cancellation_passes_through() -> None:
    """A worker that gives a job back at its end has not failed it."""
    letters, began = Letters(), asyncio.Event()

    async def chore(deps: Deps) -> str:
        began.set()
        await asyncio.Event().wait()
        return "never"

    task = asyncio.create_task(ran(job_of(chore, lane="sync"), letters))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert letters.kept == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    "failure",
    [
        AutoReconnect("away"),
        OperationFailure("read only", 13),
        InvalidDocument("Key names must not contain the NULL byte"),
        OverflowError("MongoDB can only handle up to 8-byte ints"),
    ],
    ids=["away", "refused", "unencodable name", "unencodable number"],
)
async def test_a_dead_letter_that_cannot_be_written_is_said(failure: Exception) -> None:
    """The boundary never raises, and whoever holds the job learns that it must stay in the queue."""
    end = await ran(failing(Permanent("refused")), Letters(failure))
    assert (end.kind, end.error, end.is_kept) == ("dead", "refused", False)


def test_an_unknown_job_is_named_beside_those_there_are() -> None:
    """A typing slip is found without looking into the code."""
    with pytest.raises(Misuse, match=r"no job 'sink'; there are chore, sync_one"):
        known({"sync_one": PAGE_JOB, "chore": PAGE_JOB}, "sink")


async def sync_one(
    deps: Deps, page_id: str, mode: Literal["incremental", "backfill"] = "incremental", rows: int = 5
) -> str:
    return "synced"


def by_page(page_id: str, mode: str = "incremental", rows: int = 5) -> str:
    return f"{page_id}:{mode}"


PAGE_JOB: Job[Any] = job_of(sync_one, lane="sync", unique_key=by_page)
