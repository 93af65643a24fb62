"""What rooms count while they work, by what really happened."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from src import meters
from src.alerts.send import send_all
from src.deps import Deps
from src.engine.boundary import run_job
from src.engine.letters import Call
from src.errors import RateLimited, Transient
from src.meters import Meter
from src.settings import Settings
from src.store.outbox import Item
from tests.harness.alerts import Hands, Post
from tests.harness.jobs import job
from tests.harness.merchants import yard
from tests.simulators.merchant import ok, status

pytestmark = pytest.mark.anyio

AT = datetime(2026, 5, 14, tzinfo=UTC)
OFFICE = "telegram:-9"


class Since:
    """What a meter counted since this was made, as far as it counted."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._before = dict(meter.items())

    def __call__(self) -> dict[tuple[str, ...], float]:
        now = {values: count - self._before.get(values, 0) for values, count in self._meter.items()}
        return {values: count for values, count in now.items() if count}


async def test_rows_are_counted_by_what_became_of_them(deps: Deps) -> None:
    """New, changed, older than what is stored, and unreadable."""
    rows = Since(meters.ROWS)

    def row(psid: str, second: int) -> dict[str, Any]:
        return {"psid": psid, "pageId": "1", "updatedAt": second}

    await deps.customers.upsert([row("a", 10), row("b", 10)], AT)
    await deps.customers.upsert([row("a", 20), row("b", 5)], AT)
    await deps.customers.upsert([], AT)
    await deps.dead_letters.add_row(stream="customers", page_id="1", row_id="c", error="no id", raw="{}")
    assert rows() == {
        ("customers", "inserted"): 2,
        ("customers", "updated"): 1,
        ("customers", "known"): 1,
        ("customers", "set_aside"): 1,
    }


async def test_calls_to_merchants_are_counted_by_what_followed(settings: Settings) -> None:
    """Two failures close the gate, a success after them opens it again."""
    calls, closings = Since(meters.WEBHOOK_CALLS), Since(meters.GATES_CLOSED)
    async with yard(settings, backoff_base_seconds=0.1, breaker_failures=2, breaker_max_open_seconds=0.2) as here:
        await here.endpoint("shop", status(500), status(500), ok())
        event_id = await here.send()
        await here.ended(event_id)
    assert calls() == {("retry",): 2, ("delivered",): 1}
    assert closings() == {(): 1}


async def test_messages_of_alerts_are_counted_by_channel(deps: Deps) -> None:
    """A channel that fails once, then for good, then works again."""
    sent = Since(meters.ALERTS)
    post = Post(faults={OFFICE: [Transient("busy"), Transient("busy")]})
    deps = replace(deps, channels=post, hands=Hands())  # type: ignore[arg-type]
    await deps.outbox.add([Item("alert-1", "open", OFFICE, "agent", "high", 0.0, {"agent": "till"})])
    for is_last_try in (False, True):
        with pytest.raises(Transient):
            await send_all(deps, OFFICE, is_last_try=is_last_try)
    assert sent() == {("telegram", "retry"): 1, ("telegram", "failed"): 1}
    await deps.outbox.retry_failed(OFFICE)
    await send_all(deps, OFFICE, is_last_try=True)
    assert sent()["telegram", "sent"] == 1


async def test_a_try_that_failed_is_counted_by_what_was_at_fault(deps: Deps) -> None:
    """Once a try; what is not tried again is no retry."""

    async def chore(deps: Deps) -> str:
        raise RateLimited("429")

    retries, chores = Since(meters.RETRIES), job(chore, lane="sync", max_tries=2)
    for attempt in (1, 2):
        await run_job(chores, deps, {}, Call("id-1", "sync", attempt))
    assert retries() == {("chore", "rate_limited"): 1}
