"""One call to a merchant's endpoint: signed, sent, judged, and written down before and after."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import random, uniform
from time import monotonic
from typing import Any, Literal

from loguru import logger

from .. import __version__, meters, tracing
from ..clients import mongo, redis
from ..clients.merchants.gate import Exit, Limits
from ..clients.merchants.sender import Answer
from ..clients.merchants.turnstile import Permit
from ..clients.mongo import Document
from ..deps import Deps
from ..errors import Permanent, Snooze
from ..rules.delivery import Verdict, judge
from ..rules.retry import wait_s
from ..rules.signing import body_signature, signature_header
from ..rules.webhook_event import rfc3339
from ..store.webhook_endpoints import Endpoint
from ..store.webhook_events import Event
from ..store.webhook_records import Change, Delivery, Sending
from . import health
from .accept import now_ms

INSIST_S = 8.0  # an answer is worth this much patience with a MongoDB that is away; then the call is made again
UNSIGNED_S = 60.0  # until a secret that cannot be opened is tried again
DISABLED_S = 60.0  # nobody in line calls what wants no more: by then all of them see that it is disabled
MOST_OURS = 20  # attempts of a delivery that may be our fault; a name nobody can look up is not for ever
OURS_S = (2.0, 10.0)  # wait after a fault of ours, at least and at most
AGENT = f"folkform-webhooks/{__version__}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a delivery stands after a call. `again_in_s`: to the next, where there is to be one."""

    kind: Literal["delivered", "retry", "dead", "parked", "ours"]
    error: str = ""
    again_in_s: float = 0.0


async def attempt(
    deps: Deps, delivery: Delivery, event: Event, endpoint: Endpoint, permit: Permit, sending: Sending
) -> Ended:
    """Call the endpoint; `sending` is stored already. The permit is given back. Raises the outages of the servers."""
    number = delivery.attempts + 1
    left = False
    try:
        headers, at = await _signed(deps, delivery, event, endpoint, number), now_ms()
        answer = await deps.merchants.sender.send(endpoint.url, headers, event.body)
        verdict = judge(
            answer.status,
            retry_after=answer.retry_after,
            control=answer.control,
            is_ours=answer.is_ours and delivery.attempts - delivery.tries < MOST_OURS,
            now=datetime.now(UTC),
        )
        meters.WEBHOOK_SECONDS.add((), answer.ms / 1000)
        row = _row(answer, at, number, counts=verdict.kind == "failed" and not permit.is_probe)
        left = True
        if verdict.kind == "delivered":
            meters.WEBHOOK_CALLS.add("delivered")
            change = Change(delivery.delivery_id, "delivered", attempts=(row,), only_from=sending)
            exit_, _ = await asyncio.gather(_leave(deps, permit, answer, verdict), _settled(deps, change))
            await health.after(deps, endpoint, exit_, verdict)
            _log(event, endpoint, row)
            return Ended("delivered")
        exit_ = await _leave(deps, permit, answer, verdict)
        ended = _after(deps, delivery, row, verdict, exit_, is_probe=permit.is_probe)
        meters.WEBHOOK_CALLS.add(ended.kind)
        await _settled(deps, _change(delivery, row, ended, sending))
        await health.after(deps, endpoint, exit_, verdict)
        _log(event, endpoint, row, ended)
        return ended
    finally:
        if not left:
            await asyncio.shield(deps.merchants.turnstile.leave(permit, None, how="none"))


def interrupted(delivery: Delivery, was: Sending) -> Document:
    """The attempt of a caller that did not live to write it down. It costs the merchant nothing."""
    return {
        "at": was.at,
        "number": delivery.attempts + 1,
        "status": None,
        "ms": None,
        "error": "the worker died while it called: whether an answer came is not known",
        "response": "",
        "counts": False,
    }


def limits_of(deps: Deps, endpoint: Endpoint) -> Limits:
    """How this endpoint may be called."""
    settings = deps.settings.webhooks
    return Limits(
        cap=endpoint.max_in_flight or settings.max_in_flight_per_endpoint,
        rate_per_second=endpoint.rate_per_second,
        longest_s=settings.timeout_seconds + 5.0,
        breaker_failures=settings.breaker_failures,
        closed_s=max(settings.backoff_base_seconds, 0.1),
        closed_most_s=settings.breaker_max_open_seconds,
    )


async def _signed(
    deps: Deps, delivery: Delivery, event: Event, endpoint: Endpoint, number: int
) -> list[tuple[str, str]]:
    """The headers. Raises Snooze where a secret cannot be opened: that is our setting, and the merchant has no part."""
    try:
        return _headers(deps, event, endpoint, number)
    except Permanent as e:
        again_at = now_ms() + timedelta(seconds=UNSIGNED_S)
        await _settled(deps, Change(delivery.delivery_id, "pending", next_try_at=again_at, error=str(e)))
        logger.error("webhook cannot be signed", endpoint_id=endpoint.endpoint_id, because=str(e))
        raise Snooze(str(e), after_s=UNSIGNED_S) from e


def _headers(deps: Deps, event: Event, endpoint: Endpoint, number: int) -> list[tuple[str, str]]:
    now = datetime.now(UTC)
    timestamp = int(now.timestamp())
    secrets = [deps.merchants.vault.open(sealed) for sealed in endpoint.signing(now)]
    headers = [
        ("content-type", "application/json"),
        ("user-agent", AGENT),
        ("webhook-id", event.event_id),
        ("webhook-timestamp", str(timestamp)),
        ("X-Webhook-Event", event.event),
        ("X-Webhook-Timestamp", rfc3339(now)),
        ("X-Webhook-Attempt", str(number)),
    ]
    if secrets:
        headers.append(("webhook-signature", signature_header(secrets, event.event_id, timestamp, event.body)))
    if symmetric := next((secret for secret in secrets if secret.startswith("whsec_")), None):
        headers.append(("X-Webhook-Signature", body_signature(symmetric, event.body)))
    return headers


def _row(answer: Answer, at: datetime, number: int, *, counts: bool) -> Document:
    error = answer.error
    if not error and answer.status is not None and not 200 <= answer.status < 300:
        error = f"it answered {answer.status}"
        if 300 <= answer.status < 400:
            error += ": redirects are not followed"
    run = tracing.current.get()
    return {
        "at": at,
        "number": number,
        "status": answer.status,
        "ms": round(answer.ms, 1),
        "error": error or None,
        "response": answer.response,
        "counts": counts,
        **({"tp": run} if tracing.is_sampled(run) else {}),  # what sends it again is linked to this
    }


def _log(event: Event, endpoint: Endpoint, row: Document, ended: Ended | None = None) -> None:
    """One line a call; `attempt` is the delivery's, for the job may have been tried without a call. No body in it."""
    fields = {
        "merchant_id": event.merchant_id,
        "event": event.event,
        "event_id": event.event_id,
        "endpoint_id": endpoint.endpoint_id,
        "attempt": row["number"],
        "duration_ms": round(row["ms"]),
    }
    if ended is None:
        logger.info("Webhook delivered successfully", **fields)
    else:
        logger.warning("webhook not delivered", **fields, status=row["status"], error=ended.error, end=ended.kind)


async def _leave(deps: Deps, permit: Permit, answer: Answer, verdict: Verdict) -> Exit:
    how: Literal["ok", "fail", "none"] = "fail"
    if verdict.kind == "delivered":
        how = "ok"
    elif verdict.kind == "ours" or (verdict.is_alive and not (permit.is_probe and verdict.kind == "failed")):
        how = "none"
    pause_s = DISABLED_S if verdict.disables else verdict.hold_s
    try:
        return await deps.merchants.turnstile.leave(
            permit, answer.ms / 1000, how=how, pause_s=pause_s, is_overloaded=verdict.is_overloaded
        )
    except redis.OUTAGES:  # the answer is worth writing down whether or not the gate hears of it
        return Exit("open", 0.0, 0)


def _after(deps: Deps, delivery: Delivery, row: Document, verdict: Verdict, exit_: Exit, *, is_probe: bool) -> Ended:
    """What a call that did not succeed means for the delivery."""
    settings = deps.settings.webhooks
    error = str(row["error"])
    if verdict.kind == "ours":
        return Ended("ours", error, uniform(*OURS_S))  # noqa: S311
    if verdict.kind == "given_up":
        return Ended("dead", f"{error}; it asked for no more tries")
    if is_probe:
        return Ended("parked", error, max(exit_.closed_s, verdict.hold_s, 0.1))
    tries = delivery.tries + 1
    if tries >= settings.max_tries:
        return Ended("dead", f"{error} (try {tries} of {settings.max_tries})")
    base_s, cap_s = settings.backoff_base_seconds, settings.backoff_max_seconds
    return Ended("retry", error, max(wait_s(tries, random, base_s=base_s, cap_s=cap_s), verdict.hold_s))


def _change(delivery: Delivery, row: Document, ended: Ended, sending: Sending) -> Change:
    status: Any = {"retry": "pending", "ours": "pending"}.get(ended.kind, ended.kind)
    again_at = datetime.now(UTC) + timedelta(seconds=ended.again_in_s)
    return Change(
        delivery.delivery_id,
        status,
        next_try_at=None if ended.kind == "dead" else again_at,
        attempts=(row,),
        tries=int(row["counts"]),
        error=ended.error,
        only_from=sending,
    )


async def _settled(deps: Deps, change: Change) -> None:
    await insist(lambda: deps.merchants.deliveries.settle(change))


async def insist(write: Callable[[], Awaitable[None]]) -> None:
    """Do a write that is safe to repeat, through a short outage of MongoDB. Raises the outage when it lasts."""
    until = monotonic() + INSIST_S
    while True:
        try:
            return await write()
        except mongo.OUTAGES:
            if monotonic() > until:
                raise
            await asyncio.sleep(0.2)
