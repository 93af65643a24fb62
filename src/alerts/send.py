"""The outbox: everything that waits for one address becomes one message, and goes out by its channel.

A message is written down before its call, with what it is made of. Whoever finds one whose sender died sends it again,
marked as a repeat where the first may have arrived: a customer told of twice does less harm than one not told of.
Channels that take an id (webhooks, the app, e-mail) get the same one again.
"""

from collections.abc import Sequence
from typing import Any

from loguru import logger

from .. import meters
from ..catalog import CATALOG
from ..clients.channels import Note, Unsure
from ..deps import Deps
from ..engine.boundary import in_words
from ..engine.letters import REPLAY, current_call
from ..engine.queue import Queue, new_id
from ..errors import Misuse, Permanent, ServiceError, Transient
from ..rules.alert_text import RANK, Line, Text, compose
from ..rules.recipients import Recipient, recipient_of
from ..store.outbox import Item, Parcel
from ..webhooks.submit import submit
from .notices import close_notice, open_notice
from .outgoing import RESOLVED
from .wanted import still_wanted

HOUR_S = 3600.0


async def send_all(deps: Deps, to: str, *, is_last_try: bool) -> tuple[int, int]:
    """Send one address all that waits for it; returns (messages, things told). Safe to repeat and to kill.

    Raises what the channel raises: Transient to be run again, Permanent where no try will help. With `is_last_try` a
    message that cannot be sent is given up: it waits as failed for a replay.
    """
    try:
        recipient = recipient_of(to)
    except ValueError as e:
        raise Permanent(str(e)) from e
    call = current_call.get()
    if call is not None and call.job_id.startswith(REPLAY):
        await deps.outbox.retry_failed(to)
    messages = told = 0
    while parcel := await _next(deps, to):
        sent = await _send(deps, recipient, parcel, is_last_try=is_last_try)
        messages, told = messages + bool(sent), told + sent
    if messages and await close_notice(deps, f"channel:{to}") and await deps.outbox.retry_failed(to):
        more = await send_all(deps, to, is_last_try=is_last_try)  # what could not be sent while the channel failed
        return messages + more[0], told + more[1]
    return messages, told


async def _next(deps: Deps, to: str) -> Parcel | None:
    """A message left over, or a new one; None where nothing waits or the address has had its share of the hour."""
    now = deps.now()
    left = await deps.outbox.take_up(to, now)
    if left is not None:
        return left
    most = deps.settings.alerts.max_messages_per_hour
    if not to.startswith("app:") and await deps.outbox.sent_since(to, now - HOUR_S) >= most:
        logger.warning("address has had its messages of the hour; the rest waits", channel=to.partition(":")[0])
        return None
    return await deps.outbox.begin(to, f"msg_{new_id()}", now)


async def _send(deps: Deps, recipient: Recipient, parcel: Parcel, *, is_last_try: bool) -> int:
    """Send one message; returns how many things it told, 0 where none is wanted any more."""
    items = await still_wanted(deps, recipient, await deps.outbox.items(parcel.message_id))
    if not items:
        await deps.outbox.finish(parcel, "dropped", deps.now())
        return 0
    text = compose(_lines(items, deps.now()), _language(items, deps), is_repeat=parcel.was_sending)
    await deps.outbox.sending(parcel, f"{text.title}\n{text.body}")
    try:
        sent_id = await _deliver(deps, recipient, parcel, text, items)
    except ServiceError as e:
        is_over = is_last_try or not isinstance(e, Transient)
        meters.ALERTS.add(recipient.channel, "failed" if is_over else "retry")
        await _not_sent(deps, parcel, e, is_over=is_over)
        raise
    meters.ALERTS.add(recipient.channel, "sent")
    await deps.outbox.finish(parcel, "sent", deps.now(), sent_id=sent_id)
    return len(items)


async def _not_sent(deps: Deps, parcel: Parcel, error: ServiceError, *, is_over: bool) -> None:
    words = in_words(error, deps)
    if not is_over:
        await deps.outbox.let_go(parcel, words, is_unsure=parcel.was_sending or isinstance(error, Unsure))
        return
    await deps.outbox.finish(parcel, "failed", deps.now(), error=words)
    facts = {"address": parcel.to, "error": words}
    await open_notice(deps, f"channel:{parcel.to}", kind="channel", severity="critical", facts=facts, but=parcel.to)


def _language(items: Sequence[Item], deps: Deps) -> str:
    """That of the first page that has one of its own: a message may be about several."""
    return next(
        (str(item.facts["language"]) for item in items if "language" in item.facts), deps.settings.alerts.language
    )


def _lines(items: Sequence[Item], now: float) -> list[Line]:
    """One line an alert: of several steps the gravest."""
    lines: dict[tuple[str, bool], Line] = {}
    for item in items:
        is_over = item.step == RESOLVED
        since = float(item.facts.get("since") or now)
        until = float(item.facts.get("until") or now) if is_over else now
        line = Line(item.kind, item.severity, is_over, max(0.0, until - since) / 60, item.facts)
        known = lines.get((item.alert_id, is_over))
        if known is None or RANK.get(known.severity, 0) <= RANK.get(item.severity, 0):
            lines[item.alert_id, is_over] = line
    return list(lines.values())


async def _deliver(deps: Deps, recipient: Recipient, parcel: Parcel, text: Text, items: Sequence[Item]) -> str | None:
    if recipient.channel == "app":
        await deps.notifications.add([_notification(recipient, item, deps) for item in items])
        return None
    if recipient.channel == "webhook":
        event = "alert.resolved" if all(item.step == RESOLVED for item in items) else "alert.raised"
        try:
            submitted = await submit(
                deps,
                Queue(deps.redis, CATALOG),
                merchant_id=recipient.target,
                event=event,
                payload={"message": text.title, "alerts": [_listed(item, deps.now()) for item in items]},
                idempotency_key=parcel.message_id,
            )
        except Misuse:
            if parcel.was_sending:  # it is stored already, and said then how long they had waited
                return None
            raise
        return submitted.event_id
    note = Note(
        note_id=parcel.message_id,
        title=text.title,
        text=text.body,
        link=text.links[0][1] if text.links else None,
        severity=text.severity,
        is_repeat=parcel.was_sending,
        links=text.links,
    )
    return await deps.channels.send(recipient, note)


def _listed(item: Item, now: float) -> dict[str, Any]:
    line = _lines([item], now)[0]
    return {
        "alertId": item.alert_id,
        "kind": item.kind,
        "step": item.step,
        "severity": item.severity,
        "pageId": item.page_id,
        "conversationId": item.conversation_id,
        "minutes": round(line.minutes, 1),
        **{name: value for name, value in item.facts.items() if isinstance(value, str | int | float | bool)},
    }


def _notification(recipient: Recipient, item: Item, deps: Deps) -> dict[str, Any]:
    text = compose(_lines([item], deps.now()), _language([item], deps))
    return {
        "_id": item.item_id,
        "userId": recipient.target,
        "alertId": item.alert_id,
        "kind": item.kind,
        "step": item.step,
        "severity": item.severity,
        "pageId": item.page_id,
        "conversationId": item.conversation_id,
        "assigneeIds": item.facts.get("assigneeIds") or [],
        "title": text.title,
        "text": text.body,
        "link": item.facts.get("link"),
    }
