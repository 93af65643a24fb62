"""From what is wrong to rows of the outbox: who is told, when at the earliest, and with which facts."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..deps import Deps
from ..rules.policy import Policy
from ..store.alerts import WAITING, Alert
from ..store.outbox import Item

IN_APP = "app:all"  # everything that is told can be read there, whatever else is set
RESOLVED = "resolved"


def items_of(
    alert: Alert, step: str, severity: str, to: Iterable[str], facts: Mapping[str, Any], release_at: float
) -> list[Item]:
    """One row for each address, the app's own list among them."""
    return [
        Item(
            alert.alert_id,
            step,
            address,
            alert.kind,
            severity,
            release_at,
            dict(facts),
            alert.page_id if alert.kind == WAITING else None,  # the page's rows wait for a look at it
            alert.conversation_id,
        )
        for address in dict.fromkeys((*to, IN_APP))
    ]


def released(policy: Policy, address: str, now: float) -> float:
    """When an address may be told: now, or when its quiet hours are over."""
    hours = policy.quiet.get(address)
    return hours.next_open(now) or now if hours is not None and not hours.is_open(now) else now


async def spawn_senders(deps: Deps, addresses: Iterable[str]) -> int:
    """Have each address told what waits for it. One that is being told already goes on to the new rows by itself."""
    started = [
        await deps.hands.spawn("send_alerts", {"to": address})
        for address in sorted(set(addresses), key=lambda to: to == IN_APP)
    ]
    return sum(started)


async def resolved_items(deps: Deps, alerts: Mapping[str, Mapping[str, Any]], now: float) -> list[Item]:
    """Rows that say to whoever was told of these alerts that they are over; `alerts` maps ids to the facts."""
    told = await deps.outbox.told(alerts)
    found: dict[str, Item] = {}
    for item in told:
        if item.step == RESOLVED:
            continue
        over = Item(
            item.alert_id,
            RESOLVED,
            item.to,
            item.kind,
            "info",
            now,
            {**item.facts, **alerts[item.alert_id]},
            item.page_id,
            item.conversation_id,
        )
        found[over.item_id] = over
    return list(found.values())
