"""When the next step of each wait is due: computed once by the page's policy, and again when that changes."""

from collections.abc import Sequence

from ..deps import Deps
from ..rules.policy import Policy, applies, is_too_old, steps_due
from ..store.alerts import Alert
from ..store.waiting import Plan, Waiter

BATCH = 500
LOOK_AGAIN_S = 900.0  # at one that is left out by a tag, which somebody may take away


def key_of(conversation_id: str) -> str:
    """What the open alert of a conversation is found by."""
    return f"waiting:{conversation_id}"


def is_same_wait(waiter: Waiter, alert: Alert) -> bool:
    """Whether an alert is about the wait that is open now.

    It is while no human answered since its first message, even where an earlier first message has turned up.
    """
    if waiter.since is None:
        return False
    return waiter.message_id == alert.message_id or waiter.replied_at is None or waiter.replied_at < alert.since


def plan_of(waiter: Waiter, policy: Policy, alert: Alert | None, now: float) -> Plan:
    """When to look at `waiter` next. `alert` is its open one, or None."""
    if waiter.since is None or is_too_old(policy, waiter.since, now):
        return Plan(waiter, None, policy.version)
    if not applies(policy, waiter.type, waiter.tags, waiter.tag_names):
        return Plan(waiter, now + LOOK_AGAIN_S, policy.version)
    known = alert if alert is not None and is_same_wait(waiter, alert) else None
    done = known.steps if known else ()
    dues = [due for step, due in steps_due(policy, waiter.since) if step.name not in done]
    if not dues:
        return Plan(waiter, None, policy.version, known.alert_id if known else None)
    quiet_until = known.quiet_until if known else 0.0
    return Plan(waiter, max(min(dues), quiet_until), policy.version, known.alert_id if known else None)


async def plan_page(deps: Deps, page_id: str, policy: Policy) -> int:
    """Plan every wait of the page that has no plan by this policy; returns how many. Safe to repeat."""
    planned: set[str] = set()
    while waiters := await deps.waiting.unplanned(page_id, policy.version, BATCH):
        await store_plans(deps, waiters, policy)
        before = len(planned)
        planned.update(waiter.conversation_id for waiter in waiters)
        if len(waiters) < BATCH or len(planned) == before:  # none is new: they change faster than they are planned
            break
    return len(planned)


async def store_plans(deps: Deps, waiters: Sequence[Waiter], policy: Policy) -> None:
    """Plan these, whatever plan they had."""
    alerts = await deps.alerts.by_key(key_of(waiter.conversation_id) for waiter in waiters)
    now = deps.now()
    await deps.waiting.plan(
        [plan_of(waiter, policy, alerts.get(key_of(waiter.conversation_id)), now) for waiter in waiters]
    )
