"""What is wrong with the service itself: late data, agents that are gone, servers and channels that fail.

Each is told once when it begins and once when it ends, to ALERT_OPERATIONS_TO and in the app.
"""

from collections.abc import Mapping
from typing import Any

from ..deps import Deps
from ..rules.recipients import recipient_of
from ..store.alerts import Alert
from .outgoing import IN_APP, RESOLVED, items_of, resolved_items, spawn_senders

OPENED = "opened"


async def open_notice(
    deps: Deps,
    key: str,
    *,
    kind: str,
    severity: str,
    facts: Mapping[str, Any],
    page_id: str | None = None,
    since: float | None = None,
    but: str | None = None,
) -> bool:
    """Something is wrong, since `since` or now. Returns whether that is news; called as long as it is, by any worker.

    `key` names it (`agent:7`, `health:redis`), `kind` the words it is told in (`rules/alert_text.py`), which take the
    `facts`. `but` is an address that is not told: the one that cannot be reached. A call that was cut off between
    noting and telling is made good by the next one.
    """
    now = deps.now()
    alert = Alert(
        f"{key}@{int(now * 1000)}",
        key,
        kind,
        severity,
        now if since is None else since,
        page_id=page_id,
        facts=dict(facts),
        opened_at=now,
    )
    stored = await deps.alerts.open_one(alert)
    if OPENED in stored.steps:
        return False
    to = [address for address in deps.settings.alerts.operations_to if address != but]
    items = items_of(stored, OPENED, severity, to, {**stored.facts, "since": stored.since}, now)
    await deps.outbox.add([item for item in items if item.to != but])
    await deps.alerts.record([(stored.alert_id, OPENED, severity)])
    await spawn_senders(deps, (item.to for item in items if item.to != but))
    return True


async def close_notice(deps: Deps, key: str, *, facts: Mapping[str, Any] | None = None) -> bool:
    """It is over. Returns whether it was open. Safe to repeat; one that was never told of ends without a word."""
    now = deps.now()
    found = (await deps.alerts.by_key([key])).get(key)
    if found is None:
        return False
    # first, so that whatever a sender takes up from now on has been told of, or never is
    await deps.outbox.drop_pending([found.alert_id], but_step=RESOLVED)
    over = await resolved_items(deps, {found.alert_id: {**(facts or {}), "until": now}}, now)
    await deps.outbox.add(over)
    await deps.alerts.resolve([found.alert_id], now, "over")
    await spawn_senders(deps, (item.to for item in over))
    return True


async def tell(deps: Deps, to: str, *, note_id: str, title: str, text: str) -> None:
    """Send a plain message once per `note_id` and address: a report, a warning. Safe to repeat.

    Raises ValueError where `to` is no address.
    """
    recipient_of(to)
    alert = Alert(note_id, note_id, "plain", "info", deps.now())
    items = items_of(alert, "note", "info", [to], {"title": title, "text": text}, deps.now())
    await deps.outbox.add([item for item in items if item.to == to or to == IN_APP])
    await spawn_senders(deps, [to])
