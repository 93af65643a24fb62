"""One trace from whoever set something going to what was done in the end, and nothing in it that others may not see."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import SecretStr

from src import tracing
from src.deps import Deps
from src.engine import dead_letters
from src.engine.boundary import bury
from src.engine.inline import run_to_end
from src.engine.letters import Call, traced_as
from src.errors import Permanent, Transient
from src.jobs import ALL_JOBS
from src.settings import Settings
from src.store.dead_letters import Wanted
from src.webhooks import replay
from tests.harness.hooks import SECRET, messaging, open_door, with_hooks
from tests.harness.jobs import job as job_of
from tests.harness.lanes import House, serving, until
from tests.harness.merchants import yard
from tests.harness.spans import Spans, is_below, links, recording, span_id, trace_id
from tests.simulators.merchant import ok, status
from tests.simulators.pancake import RealClock, World, running

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
SOON: dict[str, Any] = {"retry_base_s": 0.01, "retry_cap_s": 0.02}


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Every trace is recorded."""
    with recording() as spans:
        yield spans


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


@asynccontextmanager
async def shop(settings: Settings) -> AsyncIterator[tuple[World, Settings]]:
    """A simulated Pancake with one page, and settings that speak with it."""
    world = World(pages=1, customers=5, clock=RealClock())
    (page,) = world.pages.values()
    async with running(world) as simulator:
        pancake = {
            "base_url": simulator.base_url,
            "access_token": SecretStr(world.user_token),
            "page_tokens": {page.page_id: SecretStr(page.token)},
        }
        changed = settings.replace(pancake=settings.pancake.model_copy(update=pancake))
        yield world, with_hooks(changed, page.page_id)


async def test_an_event_of_pancake_is_one_trace_from_the_request_to_the_row(settings: Settings, spans: Spans) -> None:
    """Who asks why a message came late finds in one place: the request, each wait, each run, each call they made."""
    async with shop(settings) as (world, ours), serving(ours, *ALL_JOBS.values()) as house, open_door(ours) as door:
        page_id = next(iter(world.pages))
        spans.clear()
        assert (await door.post(messaging(page_id=page_id))).status_code == 200
        await until(lambda: _has(spans, "run sync_page_conversations"))
        await house.settled()
        tokens = [world.user_token, *(page.token for page in world.pages.values())]
    request = spans.one("POST /hooks/pancake/{secret}")
    assert (request.kind, request.parent) == (SpanKind.SERVER, None)
    assert attributes(request)["http.response.status_code"] == 200
    assert [span.name for span in spans.all if trace_id(span) != trace_id(request)] == []
    above = request
    for name in ("ingest_pancake_event", "sync_page_conversations"):
        enqueued, waited, run = (spans.one(f"{word} {name}") for word in ("enqueue", "wait", "run"))
        assert is_below(enqueued, above)
        assert is_below(waited, enqueued)
        assert is_below(run, enqueued)
        assert (enqueued.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
        assert (waited.end_time or 0) <= (run.start_time or 0) + 1_000
        assert attributes(run)["folkform.job.attempt"] == 1
        assert attributes(run)["messaging.destination.name"] == "sync"
        above = run
    (asked, *_) = spans.named("GET Pancake conversations")
    assert is_below(asked, above)
    assert asked.kind is SpanKind.CLIENT
    assert attributes(asked)["http.response.status_code"] == 200
    assert attributes(asked)["server.address"] == "127.0.0.1"
    stored = [span for span in spans.named("update messages") if is_below(span, spans.one("run ingest_pancake_event"))]
    assert stored
    assert attributes(stored[0])["db.collection.name"] == "messages"
    assert [secret for secret in (SECRET, "access_token", "còn hàng", *tokens) if secret in spans.text] == []


async def _has(spans: Spans, name: str) -> bool:
    return bool(spans.named(name))


async def fail_twice(deps: Deps) -> str:
    await deps.database["things"].insert_one({})
    if await deps.database["things"].count_documents({}) < 3:
        raise Transient("not yet, says token=abcdef0123456789abcdef0123456789")
    return "done"


async def break_down(deps: Deps, page_id: str) -> str:
    raise Permanent("there is nothing of that name")


def runs_of(spans: Spans, name: str) -> list[ReadableSpan]:
    """By their attempts."""
    return sorted(spans.named(f"run {name}"), key=lambda span: span.start_time or 0)


def assert_linked_tries(runs: list[ReadableSpan]) -> None:
    first, second, third = runs
    assert [attributes(run)["folkform.job.attempt"] for run in runs] == [1, 2, 3]
    assert len({trace_id(run) for run in runs}) == 1
    assert (links(second), links(third)) == ([span_id(first)], [span_id(second)])
    assert [run.status.status_code for run in runs] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]


async def test_each_try_is_in_the_trace_and_linked_to_the_one_before(settings: Settings, spans: Spans) -> None:
    """Its error stands where it happened, without the secret in its words; the job waited once."""
    async with serving(settings, job_of(fail_twice, **SOON)) as house:
        assert (await house.ended(await house.enqueue("fail_twice"))).attempt == 3
    runs = runs_of(spans, "fail_twice")
    assert_linked_tries(runs)
    assert all(is_below(run, spans.one("enqueue fail_twice")) for run in runs)
    assert len(spans.named("wait fail_twice")) == 1
    assert (runs[0].status.description or "").startswith("not yet")
    assert "abcdef0123456789" not in spans.text
    assert [is_below(insert, run) for insert, run in zip(spans.named("insert things"), runs, strict=True)] == [True] * 3


async def test_tries_of_a_job_from_an_app_without_traces_are_linked_too(settings: Settings) -> None:
    """Nobody decided before the first worker that met it did."""
    async with serving(settings, job_of(fail_twice, **SOON)) as house:
        new = house.queue.prepare("fail_twice", {})  # nothing is recorded yet: it is written as that app would
        with recording() as spans:
            (job_id,) = await house.queue.put([new])
            await house.ended(job_id)
    assert_linked_tries(runs_of(spans, "fail_twice"))
    assert spans.named("enqueue") == []


async def test_a_replay_is_a_trace_of_its_own_linked_to_the_try_that_failed(settings: Settings, spans: Spans) -> None:
    """Days may lie between; one leads to the other, and a backend need not hold a trace open for them."""
    async with serving(settings, job_of(break_down)) as house:
        job_id = await house.enqueue("break_down", page_id="100")
        await house.ended(job_id)
        again = await dead_letters.replay_one(house.deps, house.queue, job_id)
        await house.ended(again)
        await until(lambda: _ran(spans, 2))
        third = await _replayed_all(house)
        await house.ended(third)
    first, second, last = runs_of(spans, "break_down")
    assert len({trace_id(run) for run in (first, second, last)}) == 3
    assert (links(first), links(second), links(last)) == ([], [span_id(first)], [span_id(second)])
    assert attributes(second)["folkform.job.id"] == again


async def test_a_job_that_is_not_run_any_more_says_so_in_its_trace(deps: Deps, spans: Spans) -> None:
    """The tries that killed their workers left nothing of their own; a replay is linked to this."""
    asked = tracing.new_traceparent("01")
    call = Call("1", "default", 1, time.time() - 1, asked)
    end = await bury("crash", "default", deps, {}, "poisoned: 3 workers died while they ran it", call, b"")
    run = spans.one("run crash")
    assert f"{trace_id(run):032x}" == asked[3:35]
    assert run.status.description == end.error
    (letter,) = [letter async for letter in deps.dead_letters.jobs(Wanted())]
    assert traced_as(letter)[36:52] == f"{span_id(run):016x}"


async def test_a_webhook_that_is_sent_again_is_linked_to_the_call_that_failed(settings: Settings, spans: Spans) -> None:
    """Whoever looks at the second call finds the first, and its answer."""
    async with yard(settings, max_tries=1) as here:
        await here.endpoint("shop", status(500), ok())
        event_id = await here.send()
        await here.have("dead", 1)
        await here.house.settled()
        assert (await replay.replay_one(here.deps, here.queue, event_id)).enqueued == 1
        await here.have("delivered", 1)
        await here.house.settled()
        # one that arrived
        assert (await replay.replay_one(here.deps, here.queue, event_id, ("delivered",))).enqueued == 1
        await here.have("delivered", 1)
        await here.house.settled()
    failed = spans.one("run deliver_webhook")
    again, once_more = spans.named("run send_webhook")
    assert (links(again), links(once_more)) == ([span_id(failed)], [span_id(again)])
    assert trace_id(again) != trace_id(failed)
    calls = sorted(spans.named("POST merchant"), key=lambda span: span.start_time or 0)
    assert [is_below(call, run) for call, run in zip(calls, (failed, again, once_more), strict=True)] == [True] * 3
    assert [attributes(call)["http.response.status_code"] for call in calls] == [500, 200, 200]


async def _ran(spans: Spans, count: int) -> bool:
    return len(spans.named("run break_down")) == count


async def _replayed_all(house: House) -> str:
    replayed = await dead_letters.replay(house.deps, house.queue, Wanted(job="break_down"), per_s=1000)
    assert replayed.enqueued == 1
    (letter,) = [letter async for letter in house.deps.dead_letters.jobs(Wanted(with_replayed=True))]
    return str(letter["replayedAs"])


async def test_a_trace_that_is_not_recorded_leaves_nothing_anywhere(settings: Settings) -> None:
    """It is decided once, where it begins: no child begins a trace of its own."""
    with recording(share=0.0) as spans:
        async with shop(settings) as (world, ours), serving(ours, *ALL_JOBS.values()) as house, open_door(ours) as door:
            spans.clear()
            assert (await door.post(messaging(page_id=next(iter(world.pages))))).status_code == 200
            await house.settled()
    assert spans.all == ()
    assert spans.asked == ["POST /hooks/pancake/{secret}"]


async def test_an_app_without_traces_is_decided_for_once(settings: Settings) -> None:
    """What its job spawns and calls keeps to that, whichever way it was."""

    async def spawns(deps: Deps) -> str:
        await deps.hands.spawn("child", {})
        return "spawned"

    async def child(deps: Deps) -> str:
        return "done"

    async with serving(settings, job_of(spawns), job_of(child)) as house:
        for share in (0.0, 1.0):
            new = house.queue.prepare("spawns", {})
            with recording(share=share) as spans:
                await house.queue.put([new])
                await house.settled()
                assert len(spans.asked) == 1
                assert sorted(spans.names) == (
                    ["enqueue child", "run child", "run spawns", "wait child", "wait spawns"] if share else []
                )
                assert len(spans.traces) == int(share)


async def test_a_trace_that_grows_too_long_gets_no_more(settings: Settings) -> None:
    """A pass over everything, or a job of ten thousand children: all is done, and the beginning of it can be seen."""

    async def much(deps: Deps) -> str:
        for _ in range(5):
            await deps.database["things"].insert_one({})
        await deps.hands.spawn("child", {})
        return "done"

    async def child(deps: Deps) -> str:
        await deps.database["things"].insert_one({})
        return "done"

    with recording(most_in_trace=5) as spans:
        async with serving(settings, job_of(much), job_of(child)) as house:
            await house.enqueue("much")
            await house.settled()
            assert await house.deps.database["things"].count_documents({}) == 6
    assert sorted(spans.names) == ["enqueue much", "insert things", "insert things", "run much", "wait much"]
    assert [attributes(span).get("folkform.trace.is_full") for span in spans.named("insert")] == [None, True]


async def test_what_a_command_does_here_and_now_is_one_trace(deps: Deps, spans: Spans) -> None:
    """As in a worker: children below their parent, tries linked."""

    async def spawns(deps: Deps) -> str:
        await deps.hands.spawn("fail_twice", {})
        return "spawned"

    async def at_once(_: float) -> None:
        pass

    jobs = {job.name: job for job in (job_of(spawns), job_of(fail_twice))}
    assert (await run_to_end(jobs, deps, "spawns", {}, sleep=at_once)).is_ok
    assert len(spans.traces) == 1
    assert is_below(spans.one("run spawns"), spans.one("enqueue spawns"))
    assert is_below(spans.one("enqueue fail_twice"), spans.one("run spawns"))
    runs = runs_of(spans, "fail_twice")
    assert_linked_tries(runs)
    assert all(is_below(run, spans.one("enqueue fail_twice")) for run in runs)


async def test_a_tick_is_a_trace_that_begins_where_it_is_run(settings: Settings, spans: Spans) -> None:
    """Every worker writes its job and one is taken: the others are to leave nothing."""

    async def tick(deps: Deps) -> str:
        return "done"

    async with serving(settings, job_of(tick)) as house:
        due: dict[str, Any] = {"job_id": "nightly:1", "tick": ("nightly", 1.0)}
        one, other = (house.queue.prepare("tick", {}, **due) for _ in range(2))
        assert spans.all == ()
        await house.queue.put([one])
        await house.queue.put([other])
        await house.ended("nightly:1")
    assert sorted(spans.names) == ["run tick", "wait tick"]
    run = spans.one("run tick")
    assert run.parent is None
    assert attributes(run)["folkform.schedule"] == "nightly"
    assert is_below(spans.one("wait tick"), run)
