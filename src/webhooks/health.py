"""What calls tell of an endpoint: warned of, disabled, and what was parked let go when it is well again."""

from datetime import UTC, datetime, timedelta

from loguru import logger

from .. import meters
from ..clients.merchants.gate import Exit
from ..deps import Deps
from ..rules.delivery import Verdict
from ..store.webhook_endpoints import Endpoint
from ..store.webhook_records import Choice

AT_ONCE = 200  # deliveries released together
MOST_RELEASED = 5_000  # by one call; the others look by themselves soon after
PACE_S = 0.01  # between two that are let go; the gate and the cap hold them to what the endpoint stands
WARNED_AT = 0.5  # of the days after which it is disabled
FEW_FAILURES = 3  # in a row, below which nothing is disabled however long ago the last success was


async def after(deps: Deps, endpoint: Endpoint, left: Exit, verdict: Verdict) -> None:
    """Note what a call says of its endpoint. Safe to repeat."""
    if verdict.disables:
        await disable(deps, endpoint, verdict.disables)
    if verdict.kind == "delivered":
        if endpoint.failing_since:
            await deps.merchants.endpoints.recovered(endpoint.endpoint_id)
            logger.info("webhook endpoint works again", endpoint_id=endpoint.endpoint_id)
        if left.state == "recovered":
            await release(deps, endpoint)
    elif verdict.kind == "failed":
        if left.state == "closed":
            meters.GATES_CLOSED.add()
            logger.warning(
                "webhook endpoint is left alone for a while",
                endpoint_id=endpoint.endpoint_id,
                merchant_id=endpoint.merchant_id,
                seconds=round(left.closed_s, 1),
                failures=left.failures,
            )
        await _failed(deps, endpoint, is_telling=left.failures >= FEW_FAILURES or verdict.is_alive)


async def disable(deps: Deps, endpoint: Endpoint, reason: str) -> None:
    """Call it no more, and say so."""
    is_disabled = await deps.merchants.endpoints.disable(endpoint.endpoint_id, reason)
    await deps.merchants.gate.changed()
    if is_disabled:
        logger.error(
            "webhook endpoint disabled",
            endpoint_id=endpoint.endpoint_id,
            merchant_id=endpoint.merchant_id,
            because=reason,
            to_do=f"when it is well: webhook endpoint enable {endpoint.endpoint_id}",
        )


async def release(deps: Deps, endpoint: Endpoint) -> None:
    """Let what is parked for it go, oldest first, one after the other. Safe to repeat."""
    pace_s = max(PACE_S, 1 / endpoint.rate_per_second if endpoint.rate_per_second else 0)
    due: list[tuple[str, float]] = []
    count = 0
    choice = Choice(endpoint_id=endpoint.endpoint_id, statuses=("parked",))
    async for delivery in deps.merchants.deliveries.chosen(choice, MOST_RELEASED):
        due.append((delivery.job_id, count * pace_s))
        count += 1
        if len(due) == AT_ONCE:
            await deps.hands.hurry(due)
            due = []
    await deps.hands.hurry(due)
    if count:
        logger.info("parked webhooks are let go", endpoint_id=endpoint.endpoint_id, count=count)


async def _failed(deps: Deps, endpoint: Endpoint, *, is_telling: bool) -> None:
    days, now = deps.settings.webhooks.disable_after_days, datetime.now(UTC)
    if endpoint.failing_since is None:
        await deps.merchants.endpoints.failed(endpoint.endpoint_id, now)
        return
    if not days or not is_telling:
        return
    failing = now - endpoint.failing_since
    if failing >= timedelta(days=days):
        await disable(deps, endpoint, f"no call has succeeded for {failing.total_seconds() / 86_400:.1f} days")
    elif (
        failing >= timedelta(days=days * WARNED_AT)
        and endpoint.warned_at is None
        and await deps.merchants.endpoints.warned(endpoint.endpoint_id, now)
    ):
        logger.warning(
            "webhook endpoint will be disabled unless a call succeeds",
            endpoint_id=endpoint.endpoint_id,
            merchant_id=endpoint.merchant_id,
            at=(endpoint.failing_since + timedelta(days=days)).isoformat(timespec="minutes"),
        )
