"""Endpoints as people manage them: command line and HTTP call the same functions."""

import secrets as randomness
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlsplit

from ..catalog import send_webhook
from ..clients.merchants.guard import examine
from ..deps import Deps
from ..engine.letters import REPLAY, original
from ..engine.queue import NewJob, Queue
from ..errors import Misuse, Permanent
from ..rules import signing
from ..rules.vault import Vault
from ..rules.webhook_event import LONGEST_MERCHANT, is_pattern, order_group
from ..rules.webhook_url import check_url
from ..store.webhook_endpoints import Endpoint, Secret
from ..store.webhook_records import Choice, Delivery
from .accept import now_ms

T = TypeVar("T")
SECRET_BYTES = 32
MOST_SECRETS = 6  # that sign at the same time
AT_ONCE = 200
PER_S = 20.0  # parked deliveries that fall due in a second when an endpoint is enabled


@dataclass(frozen=True, slots=True)
class Shown:
    """An endpoint and what is shown this once: `secret` (`whsec_`); `public_key` (`whpk_`) where it signs with a key.

    `warning`: what does not stand in the way, and should be looked at.
    """

    endpoint: Endpoint
    secret: str
    public_key: str | None = None
    warning: str | None = None


async def add(
    deps: Deps,
    *,
    merchant_id: str,
    url: str,
    events: Sequence[str] = (),
    secret: str | None = None,
    with_key: bool = False,
    rate_per_second: float | None = None,
    max_in_flight: int | None = None,
) -> Shown:
    """Store a new endpoint, enabled, subscribed to `events` (none = all). `secret`: the merchant's own, else a new one.

    `with_key`: sign with an ed25519 key (v1a) besides. Raises Misuse for a URL that cannot be called, and for all else
    that is wrong.
    """
    _check(merchant_id, events, rate_per_second, max_in_flight)
    shown = _shared(secret)
    warning = await examine(url, deps.settings.webhooks)
    texts = [shown]
    if with_key:
        texts.append(signing.new_key(randomness.token_bytes(SECRET_BYTES)))
    endpoint = Endpoint(
        endpoint_id=f"ep_{randomness.token_hex(12)}",
        merchant_id=merchant_id,
        url=check_url(url, allow_http=deps.settings.webhooks.allow_http).url,
        secrets=tuple(Secret(deps.merchants.vault.seal(text)) for text in texts),
        events=tuple(dict.fromkeys(events)),
        rate_per_second=rate_per_second,
        max_in_flight=max_in_flight,
        created_at=now_ms(),
    )
    await _change(deps, deps.merchants.endpoints.add(endpoint))
    return Shown(endpoint, shown, signing.public_key(texts[1]) if with_key else None, warning)


async def known(deps: Deps, endpoint_id: str) -> Endpoint:
    """The endpoint of that id. Raises Misuse where there is none."""
    endpoint = await deps.merchants.endpoints.get(endpoint_id)
    if endpoint is None:
        raise Misuse(f"there is no endpoint {endpoint_id!r}; `webhook endpoint list` shows them")
    return endpoint


async def enable(deps: Deps, queue: Queue, endpoint_id: str) -> int:
    """Call it again, and send what was parked, `PER_S` a second; returns how many those are. Safe to repeat."""
    endpoint = await known(deps, endpoint_id)
    await _change(deps, deps.merchants.endpoints.enable(endpoint_id))
    await deps.merchants.gate.forget(endpoint_id)
    await deps.merchants.deliveries.wake(endpoint_id, now_ms())
    count, batch = 0, list[Delivery]()
    async for delivery in deps.merchants.deliveries.chosen(
        Choice(endpoint_id=endpoint.endpoint_id, statuses=("parked",))
    ):
        batch.append(delivery)
        if len(batch) == AT_ONCE:
            count += await resend(deps, queue, batch, count, PER_S)
            batch = []
    return count + await resend(deps, queue, batch, count, PER_S)


async def disable(deps: Deps, endpoint_id: str, reason: str) -> bool:
    """Call it no more; its deliveries are parked. False where that was so already."""
    await known(deps, endpoint_id)
    return await _change(deps, deps.merchants.endpoints.disable(endpoint_id, reason))


async def rotate(deps: Deps, endpoint_id: str, *, secret: str | None = None, overlap_s: float | None = None) -> Shown:
    """Sign with a new secret; the old one signs beside it for `overlap_s` seconds (default: the settings').

    Raises Misuse where too many old ones still sign. A key (v1a) is exchanged too, where the endpoint has one.
    """
    endpoint, now = await known(deps, endpoint_id), datetime.now(UTC)
    if overlap_s is None:
        overlap_s = deps.settings.webhooks.secret_overlap_hours * 3600
    old = [each for each in endpoint.secrets if each.expires_at is None or each.expires_at > now]
    if len(old) >= MOST_SECRETS:
        raise Misuse(f"{endpoint_id} signs with {len(old)} secrets already: wait until the oldest has run out")
    shown = _shared(secret)
    vault = deps.merchants.vault
    has_key = any(_is_key(vault, each) for each in old)
    texts = [shown, *([signing.new_key(randomness.token_bytes(SECRET_BYTES))] if has_key else [])]
    ends = now_ms() + timedelta(seconds=overlap_s)
    ending = [replace(each, expires_at=min(each.expires_at or ends, ends)) for each in old if overlap_s > 0]
    secrets = [*(Secret(vault.seal(text)) for text in texts), *ending]
    if not await _change(deps, deps.merchants.endpoints.set_secrets(endpoint, secrets)):
        raise Misuse(f"{endpoint_id}: somebody else has changed its secrets this moment: look, and rotate again")
    return Shown(replace(endpoint, secrets=tuple(secrets)), shown, signing.public_key(texts[1]) if has_key else None)


async def reseal(deps: Deps) -> int:
    """Seal every stored secret with the first key of WEBHOOK_SECRETS_KEY; returns how many that changed.

    Safe to repeat. Raises Misuse where there is no key, and Permanent where a secret that still signs cannot be opened
    or was exchanged at this moment: the others are sealed then.
    """
    if not deps.settings.webhooks.secrets_key:
        raise Misuse("WEBHOOK_SECRETS_KEY is not set: `webhook key` makes a key")
    count, left, now = 0, list[str](), datetime.now(UTC)
    for endpoint in await deps.merchants.endpoints.all():
        fresh, why = list[Secret](), ""
        for secret in endpoint.secrets:
            try:
                fresh.append(replace(secret, sealed=deps.merchants.vault.reseal(secret.sealed) or secret.sealed))
            except Permanent as e:
                fresh.append(secret)
                why = why if secret.expires_at and secret.expires_at <= now else str(e)
        changed = sum(new != old for new, old in zip(fresh, endpoint.secrets, strict=True))
        if changed and not await deps.merchants.endpoints.set_secrets(endpoint, fresh):
            changed, why = 0, "somebody else has changed its secrets this moment: run it again"
        count += changed
        if why:
            left.append(f"{endpoint.endpoint_id}: {why}")
    if left:
        raise Permanent(f"{count} secrets were sealed, but not all; " + "; ".join(left))
    return count


async def _change(deps: Deps, write: Awaitable[T]) -> T:
    """Do a write, and have every worker see it at once."""
    try:
        return await write
    finally:
        await deps.merchants.gate.changed()


def _shared(secret: str | None) -> str:
    """The given secret in its normal form, or a new one. Raises Misuse for what is none."""
    if secret is None:
        return signing.new_secret(randomness.token_bytes(SECRET_BYTES))
    try:
        shown = signing.checked_secret(secret)
    except ValueError as e:
        raise Misuse(f"--secret: {e}") from e
    if not shown.startswith("whsec_"):
        raise Misuse("--secret: is to be a shared secret (whsec_...); for an ed25519 key there is --with-key")
    return shown


def _is_key(vault: Vault, secret: Secret) -> bool:
    """Whether it is an ed25519 key. One that cannot be opened any more is the reason to rotate, not a hindrance."""
    try:
        return vault.open(secret.sealed).startswith("whsk_")
    except Permanent:
        return False


async def resend(
    deps: Deps,
    queue: Queue,
    deliveries: Sequence[Delivery],
    before: int,
    per_s: float,
    replay_id: str | None = None,
    links: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Open deliveries again, and enqueue a job for each, `per_s` falling due each second; `before` went before them.

    `links`: delivery -> traceparent of the try that it does again, where that was traced. Safe to kill: what is open
    again without a job is found by the reconciler.
    """
    if not deliveries:
        return 0
    waits = [(before + number) / per_s for number in range(len(deliveries))]
    round_ = replay_id or f"enable-{randomness.token_hex(4)}"
    job_ids = [f"{REPLAY}{original(each.job_id)}:{round_}" for each in deliveries]
    at = [now_ms() + timedelta(seconds=wait_s) for wait_s in waits]
    await deps.merchants.deliveries.reopen(deliveries, at, job_ids, replay_id)
    jobs = [
        _job(queue, delivery, job_id, wait_s, replay_id, links.get(delivery.delivery_id, ""))
        for delivery, job_id, wait_s in zip(deliveries, job_ids, waits, strict=True)
    ]
    await queue.put(jobs)
    return len(jobs)


def _job(queue: Queue, delivery: Delivery, job_id: str, wait_s: float, replay_id: str | None, link: str) -> NewJob:
    arguments = {"delivery_id": delivery.delivery_id, **({"replay_id": replay_id} if replay_id else {})}
    group = order_group(delivery.endpoint_id, delivery.order_key)
    delay_s = 0 if group else wait_s
    return queue.prepare(send_webhook.name, arguments, job_id=job_id, delay_s=delay_s, group=group, link=link)


def _check(merchant_id: str, events: Sequence[str], rate: float | None, cap: int | None) -> None:
    if not 0 < len(merchant_id) <= LONGEST_MERCHANT:
        raise Misuse(f"--merchant has 1 to {LONGEST_MERCHANT} characters")
    for event in events:
        if not is_pattern(event):
            raise Misuse(f"--event {event[:140]!r}: write payment.completed, payment.* or *")
    if rate is not None and not 0.001 <= rate <= 10_000:
        raise Misuse("--rate: calls a second, 0.001 to 10000")
    if cap is not None and not 1 <= cap <= 1_000:
        raise Misuse("--max-in-flight: 1 to 1000")


def shown_url(url: str) -> str:
    """The URL for logs: merchants put tokens into queries."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
