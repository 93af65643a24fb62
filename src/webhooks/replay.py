"""Sending again what was sent, given up or never tried: same `webhook-id`, new time and signature."""

import secrets as randomness
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ..deps import Deps
from ..engine.dead_letters import possible_rate, recount
from ..engine.letters import original, traced_as
from ..engine.queue import Queue
from ..errors import Misuse
from ..rules.webhook_event import subscribes
from ..store.webhook_endpoints import Endpoint
from ..store.webhook_records import Choice, Delivery, Status
from .accept import now_ms
from .endpoints import AT_ONCE, PER_S, known, resend

LONGEST_DAYS = 7.0  # that a replay may take
NOT_DELIVERED: tuple[Status, ...] = ("dead", "parked", "pending")


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay: how many deliveries fit, how many were enqueued; `replay_id` cancels what it has not tried yet."""

    replay_id: str
    matching: int
    enqueued: int


async def replay_one(deps: Deps, queue: Queue, any_id: str, statuses: tuple[Status, ...] = NOT_DELIVERED) -> Replay:
    """Send one event's deliveries, or one delivery, again, now. Raises Misuse where there is none of that id."""
    event_id, _, endpoint_id = any_id.partition(":")
    found = await deps.merchants.deliveries.of_event(event_id)
    if not any(endpoint_id in ("", each["endpointId"]) for each in found):
        raise Misuse(f"there is no event or delivery {any_id!r}; `webhook show` shows what there is")
    wanted = [
        f"{each['eventId']}:{each['endpointId']}"
        for each in found
        if each["status"] in statuses and endpoint_id in ("", each["endpointId"])
    ]
    deliveries = [each for each in [await deps.merchants.deliveries.get(wanted_id) for wanted_id in wanted] if each]
    replay_id = _new_id()
    return Replay(replay_id, len(deliveries), await _sent(deps, queue, deliveries, 0, PER_S, replay_id))


async def replay(deps: Deps, queue: Queue, choice: Choice, *, per_s: float = PER_S, dry_run: bool = False) -> Replay:
    """Send again all that fits, `per_s` falling due each second; successes where they are named. `dry_run` only counts.

    Safe to kill: what is open again is sent, the rest is as it was.
    """
    possible_rate(per_s)
    until = min(choice.until or datetime.now(UTC), datetime.now(UTC))
    choice = replace(choice, until=until, statuses=choice.statuses or NOT_DELIVERED)
    matching = await deps.merchants.deliveries.count(choice)
    replay_id = _new_id()
    _check_pace(matching, per_s)
    if dry_run:
        return Replay(replay_id, matching, 0)
    count = await _all_sent(deps, queue, deps.merchants.deliveries.chosen(choice), per_s, replay_id)
    return Replay(replay_id, matching, count)


async def replay_missing(
    deps: Deps,
    queue: Queue,
    endpoint_id: str,
    since: datetime,
    until: datetime,
    *,
    per_s: float = PER_S,
    dry_run: bool = False,
) -> Replay:
    """Send an endpoint the events of its merchant, accepted from `since` to before `until`, that it was never sent.

    For an endpoint that is new, or was disabled. Raises Misuse for an unknown or disabled one.
    """
    possible_rate(per_s)
    endpoint, replay_id = await known(deps, endpoint_id), _new_id()
    if not endpoint.is_enabled:
        raise Misuse(f"{endpoint_id} is disabled: `webhook endpoint enable {endpoint_id}` first")
    matching = 0
    async for _ in _missing(deps, endpoint, since, until, replay_id):
        matching += 1
    _check_pace(matching, per_s)
    if dry_run:
        return Replay(replay_id, matching, 0)
    count = await _all_sent(
        deps, queue, _made(deps, _missing(deps, endpoint, since, until, replay_id)), per_s, replay_id
    )
    return Replay(replay_id, matching, count)


async def cancel(deps: Deps, replay_id: str) -> int:
    """Put back what a replay has not tried yet; returns how many those are. Safe to repeat."""
    put_back = await deps.merchants.deliveries.cancel(replay_id)
    await deps.dead_letters.reopened([original(job_id) for job_id in put_back])
    await recount(deps)
    return len(put_back)


def _check_pace(count: int, per_s: float) -> None:
    days = count / per_s / 86_400
    if days > LONGEST_DAYS:
        raise Misuse(
            f"{count} deliveries would take {days:.0f} days: raise --per-second above {per_s:g}, or ask for fewer"
        )


def _new_id() -> str:
    return f"rpl_{randomness.token_hex(8)}"


async def _all_sent(deps: Deps, queue: Queue, deliveries: AsyncIterator[Delivery], per_s: float, replay_id: str) -> int:
    count, batch = 0, list[Delivery]()
    async for delivery in deliveries:
        batch.append(delivery)
        if len(batch) == AT_ONCE:
            count += await _sent(deps, queue, batch, count, per_s, replay_id)
            batch = []
    return count + await _sent(deps, queue, batch, count, per_s, replay_id)


async def _sent(deps: Deps, queue: Queue, deliveries: list[Delivery], before: int, per_s: float, replay_id: str) -> int:
    # read before the jobs can fail again, so that a letter which is written anew meanwhile stays open
    letters = {
        delivery.delivery_id: letter
        for delivery in deliveries
        if delivery.status == "dead" and (letter := await deps.dead_letters.get(original(delivery.job_id)))
    }
    links = {delivery.delivery_id: delivery.traceparent for delivery in deliveries}
    links |= {delivery_id: link for delivery_id, letter in letters.items() if (link := traced_as(letter))}
    count = await resend(deps, queue, deliveries, before, per_s, replay_id, links)
    for letter in letters.values():
        await deps.dead_letters.replayed(letter, replay_id)
    if count:
        await recount(deps)
    return count


async def _missing(
    deps: Deps, endpoint: Endpoint, since: datetime, until: datetime, replay_id: str
) -> AsyncIterator[Delivery]:
    at, last = since, ""
    while events := await deps.merchants.events.after(endpoint.merchant_id, at, last, until, AT_ONCE):
        for event in events:
            delivery_id = f"{event.event_id}:{endpoint.endpoint_id}"
            if subscribes(endpoint.events, event.event) and not await deps.merchants.deliveries.get(delivery_id):
                yield Delivery(
                    *(event.event_id, endpoint.endpoint_id, event.merchant_id, event.event, delivery_id),
                    event.created_at,
                    next_try_at=now_ms(),
                    replay_id=replay_id,
                    order_key=event.order_key,
                )
        at, last = events[-1].created_at, events[-1].event_id


async def _made(deps: Deps, deliveries: AsyncIterator[Delivery]) -> AsyncIterator[Delivery]:
    async for delivery in deliveries:
        if await deps.merchants.deliveries.add(delivery):
            yield delivery
