"""When the next step of each wait is due: computed once by the page's policy, and again when that changes."""

from collections.abc import Sequence
from dataclasses import replace

from loguru import logger

from ..deps import Deps
from ..rules.policy import Policy, Step, applies, is_too_old, steps_due
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
    dues = [due for _, due in steps_left(waiter.since, policy, known)]
    return Plan(waiter, min(dues, default=None), policy.version, known.alert_id if known else None)


def steps_left(since: int, policy: Policy, alert: Alert | None) -> list[tuple[Step, float]]:
    """What is still to be told of a wait, and when. `alert` is its open one, or None before the first step.

    One that was acknowledged or put off has nothing to tell until then; then it comes again, as its last step, if the
    customer waits still: whoever said that they would take care may have forgotten.
    """
    if alert is None:
        return steps_due(policy, since)
    left = [
        (step, max(due, alert.quiet_until)) for step, due in steps_due(policy, since) if step.name not in alert.steps
    ]
    told = [step for step in policy.steps if step.name in alert.steps]
    again = f"again {int(alert.quiet_until)}"
    if alert.quiet_until and told and again not in alert.steps:
        last = max(told, key=lambda step: step.offset_s)
        left.append((replace(last, name=again), alert.quiet_until))
    return sorted(left, key=lambda each: each[1])


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
    plans, now = list[Plan](), deps.now()
    for waiter in waiters:
        try:
            plans.append(plan_of(waiter, policy, alerts.get(key_of(waiter.conversation_id)), now))
        except Exception as e:  # noqa: BLE001 - whatever is wrong with one conversation stops no other
            logger.opt(exception=e).error("conversation cannot be planned", conversation_id=waiter.conversation_id)
            plans.append(Plan(waiter, now + LOOK_AGAIN_S, policy.version))
    await deps.waiting.plan(plans)
