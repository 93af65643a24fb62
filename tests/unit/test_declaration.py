"""A job's declaration: what its callers may pass, what is written of it, and that it says the truth about the job."""

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.catalog import CATALOG
from src.deps import Deps
from src.engine.declaration import Declaration, declare
from src.errors import Misuse
from src.jobs import ALL_JOBS
from src.rules.lanes import LANES
from src.settings import ScheduleSettings
from tests.harness.jobs import job as job_of

SECRET = "s3cr3t-0f-n0body"


@declare(lane="sync", retry_lane="webhooks_retry", timeout_s=3.0)
def send(
    page_id: str, mode: Literal["one", "all"] = "one", rows: int = 5, payload: dict[str, Any] | None = None
) -> None:
    """Send."""


@declare(lane="reports")
def book(at: datetime, amount: Decimal, data: bytes = b"") -> None:
    """Book."""


def test_a_stub_says_all_there_is_to_know() -> None:
    """Name and parameters are those of the stub, limits those beside it; what is not said has its default."""
    assert (send.name, send.lane, send.retry_lane, send.timeout_s, send.max_tries) == (
        *("send", "sync", "webhooks_retry", 3.0, 5),
    )
    assert str(send).startswith("send(page_id: str, mode: ")


def test_defaults_are_the_workers_not_the_callers() -> None:
    """What the caller leaves out is not written: a later worker with another default applies its own."""
    assert send.written({"page_id": "1"}) == {"page_id": "1"}
    assert send.checked({"page_id": "1"}) == {"page_id": "1", "mode": "one", "rows": 5, "payload": None}


@pytest.mark.parametrize(
    ("given_arguments", "accepted"),
    [
        ({"page_id": "1", "mode": "all", "rows": "7"}, {"page_id": "1", "mode": "all", "rows": 7}),
        ({"page_id": 100}, {"page_id": "100", "mode": "one", "rows": 5}),
    ],
    ids=["from text", "to text"],
)
def test_arguments_become_what_the_coroutine_wants(given_arguments: dict[str, Any], accepted: dict[str, Any]) -> None:
    """The command line and JSON know text only; the job gets its types, and its defaults."""
    assert send.checked(given_arguments) == {**accepted, "payload": None}


@pytest.mark.parametrize(
    ("given_arguments", "words"),
    [
        ({}, "page_id: field required"),
        ({"page_id": "1", "mode": "sideways"}, "mode: "),
        ({"page_id": "1", "rows": SECRET}, "rows: "),
        ({"page_id": "1", "pageid": SECRET}, "pageid: "),
        ({"page_id": None}, "page_id: "),
    ],
    ids=["missing", "not one of", "no number", "unknown", "null"],
)
def test_a_wrong_argument_is_named(given_arguments: dict[str, Any], words: str) -> None:
    """With the signature beside it, and without the value, which may be anybody's."""
    with pytest.raises(Misuse) as caught:
        send.checked(given_arguments)
    assert words in str(caught.value)
    assert str(caught.value).startswith("send(page_id: str, ")
    assert SECRET not in str(caught.value)


async def work(deps: Deps, page_id: str, mode: str = "one") -> str:
    return "worked"


@pytest.mark.anyio
async def test_a_child_is_handed_on_under_its_own_key() -> None:
    """Named by job and key, so that a second one for the same page is seen to be one; arguments go by name."""
    seen: list[tuple[str, dict[str, Any]]] = []

    async def spawn(name: str, arguments: dict[str, Any]) -> bool:
        seen.append((name, arguments))
        return len(seen) == 1

    deps = cast("Deps", SimpleNamespace(hands=SimpleNamespace(spawn=spawn)))
    job = job_of(work, unique_key=lambda page_id, mode="one": f"{page_id}:{mode}")
    assert await job.spawn(deps, page_id="1", mode="all")
    assert not await job.spawn(deps, "1", "all")
    assert seen == [("work", {"page_id": "1", "mode": "all"})] * 2
    assert job.declaration.key("1", "all") == "work:1:all"
    assert job_of(work).declaration.key("1") is None


def test_what_json_has_no_word_for_is_written_in_one_it_has() -> None:
    """And comes back as it was: an instant, an amount, some bytes."""
    arguments = {"at": datetime(2026, 5, 14, 12, tzinfo=UTC), "amount": Decimal("0.10"), "data": b"abc"}
    written = book.written(arguments)
    assert written == {"at": "2026-05-14T12:00:00Z", "amount": "0.10", "data": "abc"}
    assert book.checked(written) == arguments


@given(
    st.fixed_dictionaries(
        {"page_id": st.text(max_size=5) | st.integers()},
        optional={
            "mode": st.sampled_from(["one", "all"]),
            "rows": st.integers(-(2**53), 2**53),
            "payload": st.none() | st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3)),
        },
    )
)
def test_writing_changes_nothing_for_the_job(arguments: dict[str, Any]) -> None:
    """Enqueued or run here and now, a job gets the same arguments; written twice is written once."""
    written = send.written(arguments)
    assert send.checked(written) == send.checked(arguments)
    assert send.written(written) == written


@pytest.mark.parametrize(
    "value", [b"\xff", object(), lambda: None], ids=["bytes that are no text", "object", "function"]
)
def test_what_json_cannot_hold_at_all_is_said(value: object) -> None:
    """At the call, with the job's signature and without the value."""
    with pytest.raises(Misuse, match=r"send\(page_id: str"):
        send.written({"page_id": "1", "payload": {"deep": [value]}})


def test_a_payload_that_holds_itself_is_said() -> None:
    """A mistake of the caller's, not an endless loop of ours."""
    payload: dict[str, Any] = {}
    payload["self"] = payload
    with pytest.raises(Misuse):
        send.written({"page_id": "1", "payload": payload})


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ([], {"page_id": "1"}, {"page_id": "1"}),
        (["1"], {}, {"page_id": "1"}),
        (["1", "all"], {"rows": 7}, {"page_id": "1", "mode": "all", "rows": 7}),
        (["1", "all", 7, None], {}, {"page_id": "1", "mode": "all", "rows": 7, "payload": None}),
    ],
    ids=["by name", "by place", "both", "all"],
)
def test_arguments_by_place_get_their_names(args: list[Any], kwargs: dict[str, Any], named: dict[str, Any]) -> None:
    """arq's own clients pass arguments by place; letters, logs and unique keys know names only."""
    assert send.named(args, kwargs) == named
    send.checked(named)


@given(st.integers(5, 9))
def test_too_many_arguments_are_refused_by_place(count: int) -> None:
    """None is dropped in silence."""
    with pytest.raises(Misuse, match="argument_1: "):
        send.checked(send.named(["1", "all", 7, None, *range(count - 4)], {}))


def test_an_argument_given_twice_is_refused() -> None:
    """By place and by name: Python itself would not choose for the caller."""
    with pytest.raises(Misuse, match="page_id"):
        send.checked(send.named(["1"], {"page_id": "2"}))


@pytest.mark.parametrize("name", ALL_JOBS)
def test_a_job_does_what_its_declaration_says(name: str) -> None:
    """Callers see the declaration alone: its name and parameters are those of the coroutine, but for `deps`."""
    job = ALL_JOBS[name]
    (first, deps), *parameters = inspect.signature(job.run).parameters.items()
    assert inspect.iscoroutinefunction(job.run)
    assert (first, deps.annotation) == ("deps", Deps)
    assert job.run.__name__ == job.declaration.name == name
    assert dict(parameters) == dict(job.declaration.signature.parameters)


def test_every_job_is_in_the_catalog() -> None:
    """What a worker runs, an app can enqueue, under the same declaration."""
    assert {name: job.declaration for name, job in ALL_JOBS.items()}.items() <= CATALOG.items()


@pytest.mark.parametrize("declaration", CATALOG.values(), ids=CATALOG)
def test_every_declaration_is_sound(declaration: Declaration[Any]) -> None:
    """Its lanes are served, its limits are limits, and its key takes the job's arguments."""
    assert CATALOG[declaration.name] is declaration
    assert declaration.lane in LANES
    assert declaration.retry_lane is None or declaration.retry_lane in LANES
    assert declaration.timeout_s is None or declaration.timeout_s > 0
    assert declaration.max_tries >= 1
    assert 0 < declaration.retry_base_s <= declaration.retry_cap_s
    if declaration.unique_key:
        assert _parameters(declaration.unique_key) == _parameters(declaration.signature)


@pytest.mark.parametrize("name", ScheduleSettings.model_fields)
def test_every_schedule_calls_a_job_as_it_wants_to_be_called(name: str) -> None:
    """A wrong scheduled argument would be found at the first tick, in the night."""
    declaration = CATALOG[name]
    assert declaration.written(declaration.scheduled_arguments) == declaration.scheduled_arguments
    declaration.checked(declaration.scheduled_arguments)


def _parameters(of: Callable[..., Any] | inspect.Signature) -> dict[str, Any]:
    signature = of if isinstance(of, inspect.Signature) else inspect.signature(of)
    return {name: (parameter.annotation, parameter.default) for name, parameter in signature.parameters.items()}
