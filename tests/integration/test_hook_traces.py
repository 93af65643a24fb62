"""Whose trace a request to the hook belongs to."""

from collections.abc import Iterator

import pytest
from opentelemetry.trace import StatusCode

from src.settings import Settings
from tests.harness.hooks import messaging, open_door, with_hooks
from tests.harness.spans import Spans, is_below, recording, trace_id

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
CALLER = f"00-{'ab' * 16}-{'cd' * 8}-"


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Every trace is recorded."""
    with recording() as spans:
        yield spans


@pytest.mark.parametrize("flags", ["00", "01"])
async def test_the_caller_of_the_hook_decides_where_it_says_so(settings: Settings, spans: Spans, flags: str) -> None:
    """A proxy in front of us may have begun the trace, or have left it out."""
    async with open_door(with_hooks(settings, "100")) as door:
        spans.clear()
        answer = await door.post(messaging(page_id="100"), headers={"traceparent": CALLER + flags})
        assert answer.status_code == 200
    assert spans.asked == []
    if flags == "00":
        assert spans.all == ()
        return
    request = spans.one("POST /hooks")
    assert request.parent is not None
    assert (f"{trace_id(request):032x}", f"{request.parent.span_id:016x}") == ("ab" * 16, "cd" * 8)
    assert is_below(spans.one("enqueue ingest_pancake_event"), request)


@pytest.mark.parametrize(
    "given", ["", "x", CALLER + "zz", f"00-{'0' * 32}-{'0' * 16}-01", f"00-{'g' * 32}-{'1' * 16}-01"]
)
async def test_what_is_no_traceparent_is_as_none(settings: Settings, spans: Spans, given: str) -> None:
    """It comes from outside: the event is taken, in a trace of our own."""
    async with open_door(with_hooks(settings, "100")) as door:
        spans.clear()
        answer = await door.post(messaging(page_id="100"), headers={"traceparent": given})
        assert answer.status_code == 200
    request = spans.one("POST /hooks")
    assert request.parent is None
    assert is_below(spans.one("enqueue ingest_pancake_event"), request)


async def test_strangers_begin_no_trace(settings: Settings, spans: Spans) -> None:
    """Who does not know the address can neither fill the collector nor use up what may be traced."""
    async with open_door(with_hooks(settings, "100")) as door:
        spans.clear()
        answer = await door.client.post("/hooks/pancake/guess", headers={"traceparent": CALLER + "01"}, json={})
        assert answer.status_code == 404
    assert (spans.all, spans.asked) == ((), [])


async def test_a_refusal_of_the_hook_is_no_failure_of_ours(settings: Settings, spans: Spans) -> None:
    """A bad body is the caller's fault; Redis being away is ours."""
    async with open_door(with_hooks(settings, "100")) as door:
        await door.client.post(door.url, content=b"{")
    request = spans.one("POST /hooks")
    assert (request.attributes or {})["http.response.status_code"] == 400
    assert request.status.status_code is StatusCode.UNSET
