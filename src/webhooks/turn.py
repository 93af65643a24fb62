"""Before the call: a delivery's turn at its endpoint, and the note that its call begins."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from random import uniform
from typing import Any, NoReturn

from ..clients.merchants.turnstile import Closed, Crowded, Permit
from ..deps import Deps
from ..errors import Snooze
from ..store.webhook_endpoints import Endpoint
from ..store.webhook_records import Change, Delivery, Sending
from .accept import Accepted, now_ms, sending_now
from .attempt import insist, interrupted, limits_of

LONGEST_TURN_S = 10.0  # in line, in this process
JOB_S = 28.0  # of the job's own time, which has to do for the turn and the call
OTHERS_S = (60.0, 300.0)  # when those look again that wait for how the scout's call ends: they are called before
ELSEWHERE_S = 3.0  # until the next look at a delivery somebody else is sending


async def permit_for(
    deps: Deps, delivery: Delivery, accepted: Accepted, endpoint: Endpoint, sending: Sending | None, job_id: str
) -> Permit:
    """Wait for the delivery's turn, without a slot. Raises Snooze where that takes long or the endpoint is closed."""
    try:
        async with asyncio.timeout(min(LONGEST_TURN_S, JOB_S - deps.settings.webhooks.timeout_seconds)):
            return await _turn(deps, delivery, endpoint, len(accepted.event.body))
    except asyncio.CancelledError:
        if sending:  # in line, and the note says that it calls
            with suppress(Exception):
                change = Change(delivery.delivery_id, next_try_at=now_ms(), only_from=sending)
                await deps.merchants.deliveries.settle(change)
        raise
    except Closed as e:
        await _parked(deps, delivery, endpoint, e, sending, job_id)
    except (Crowded, TimeoutError) as e:
        if sending:
            change = Change(delivery.delivery_id, next_try_at=now_ms())
            await insist(lambda: deps.merchants.deliveries.settle(change))
            delivery = replace(delivery, sending=None)
        raise sent_away(deps, delivery, accepted, job_id) from e


def sent_away(deps: Deps, delivery: Delivery, accepted: Accepted, job_id: str) -> Snooze:
    """For one that finds no room to wait: it is called back. As nothing of it changes, it is kept at hand."""
    deps.merchants.aside.put(job_id, replace(accepted, deliveries=[delivery]), len(accepted.event.body))
    in_s = deps.merchants.turnstile.sent_away(delivery.endpoint_id, job_id)
    return Snooze("its endpoint has all the calls it may have at once", after_s=in_s, is_usual=True)


async def _turn(deps: Deps, delivery: Delivery, endpoint: Endpoint, size: int) -> Permit:
    """Its turn, and a slot after it; where we do not live to have the slot, the turn is given back."""
    turnstile, had = deps.merchants.turnstile, list[Permit]()

    async def entered() -> Permit:
        limits = limits_of(deps, endpoint)
        had.append(await turnstile.enter(endpoint.endpoint_id, delivery.delivery_id, limits, size=size))
        return had[0]

    try:
        return await deps.hands.off_slot(entered())
    except BaseException:
        for permit in had:
            with suppress(Exception):
                await turnstile.leave(permit, None, how="none")
        raise


async def _parked(
    deps: Deps, delivery: Delivery, endpoint: Endpoint, closed: Closed, sending: Sending | None, job_id: str
) -> NoReturn:
    """Note that it waits for its endpoint, and raise Snooze; it has cost no try."""
    why = "its endpoint asked for a pause" if closed.why == "hold" else "its endpoint fails and is left alone"
    in_s = closed.wait_s + (0.0 if closed.is_scout else uniform(*OTHERS_S))  # noqa: S311
    again_at = now_ms() + timedelta(seconds=in_s)
    held: dict[str, Any] = {"only_from": sending, "only_idle": sending is None}
    if sending is None and (was := delivery.sending) and not is_alive(was, job_id):
        held = {"only_from": was, "attempts": (interrupted(delivery, was),)}
    change = Change(delivery.delivery_id, "parked", next_try_at=again_at, error=why, **held)
    await insist(lambda: deps.merchants.deliveries.settle(change))
    # it may have become well before this was to be read, and then nobody calls us
    _, closed_until = (await deps.merchants.gate.closed([endpoint.endpoint_id]))[endpoint.endpoint_id]
    if not closed_until:
        in_s = uniform(0.0, 0.5)  # noqa: S311
    raise Snooze(why, after_s=in_s, is_usual=True)


def is_alive(was: Sending, job_id: str) -> bool:
    """Whether somebody else may be calling; what our own job has left there is from a worker that died."""
    return was.job_id != job_id and was.until > now_ms()


async def begun(deps: Deps, delivery: Delivery, permit: Permit, job_id: str) -> Sending:
    """Note that its call begins; what a dead caller did not write down is written down with it."""
    was = delivery.sending
    sending = sending_now(deps, job_id)
    try:
        if not (was and is_alive(was, job_id)):
            lost = interrupted(delivery, was) if was else None
            if await deps.merchants.deliveries.begin(delivery, sending, lost):
                return sending
    except BaseException:
        with suppress(Exception):
            await deps.merchants.turnstile.leave(permit, None, how="none")
        raise
    await deps.merchants.turnstile.leave(permit, None, how="none")
    raise Snooze("somebody else is sending it", after_s=ELSEWHERE_S)
