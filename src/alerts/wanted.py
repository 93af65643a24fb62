"""Whether what waits in the outbox is still to be told: it may have waited for hours, and the customer no longer."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..deps import Deps
from ..rules.recipients import Recipient
from ..store.alerts import WAITING, Alert
from ..store.outbox import Item
from ..store.reply_policies import PolicyBook
from ..store.waiting import Waiter
from .monitor import end_of
from .outgoing import RESOLVED, released


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known now of the customers that some rows are about. `heard`: alerts this address was told of."""

    alerts: dict[str, Alert]
    waiters: dict[str, Waiter]
    heard: set[str]
    policies: PolicyBook
    now: float

    def is_over(self, item: Item) -> bool:
        """Whether nobody needs to be told of this row any more."""
        alert = self.alerts.get(item.alert_id)
        if item.kind != WAITING and alert is None:  # a report, or a message of its own
            return False
        if item.step == RESOLVED:  # the end of what was never told, or of what has begun again
            return item.alert_id not in self.heard or (alert is not None and alert.is_open)
        if alert is None or not alert.is_open:
            return True
        if item.kind != WAITING:
            return False
        policy = self.policies.of(item.page_id or "")
        return end_of(alert, self.waiters.get(item.conversation_id or ""), policy, self.now) is not None

    def not_before(self, item: Item) -> float:
        """When a wait may be told: not while it is acknowledged or put off, nor in the address' quiet hours."""
        alert = self.alerts.get(item.alert_id)
        quiet_until = alert.quiet_until if alert is not None and alert.is_open and item.step != RESOLVED else 0.0
        return max(quiet_until, released(self.policies.of(item.page_id or ""), item.to, self.now))


async def still_wanted(deps: Deps, to: Recipient, items: Sequence[Item]) -> list[Item]:
    """Those of `items`, all to one address, that are to be told now; the others are dropped or put back."""
    settings, alert_ids = deps.settings, {item.alert_id for item in items}
    known = _Known(
        alerts=await deps.alerts.get(alert_ids),
        waiters=await deps.waiting.get(item.conversation_id for item in items if item.conversation_id),
        heard=await deps.outbox.heard(str(to), alert_ids),
        policies=await deps.policies.load(settings.alerts.policy(settings.service.zone)),
        now=deps.now(),
    )
    over = [item for item in items if known.is_over(item)]
    if over:
        await deps.outbox.drop(over)
    gone = {item.item_id for item in over}
    for item in items:
        if item.kind != WAITING or item.item_id in gone:
            continue
        if (later := known.not_before(item)) > known.now:
            await deps.outbox.put_back([item], later)
            gone.add(item.item_id)
    return [item for item in items if item.item_id not in gone]
