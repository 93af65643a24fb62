"""One look at one page: plan what is new, make sure that what is due is still so, end what is over, tell of the rest.

Everything is written so that it may be cut off anywhere and done again by another worker: rows of the outbox have ids
of their own, steps are recorded in the alert after their rows, and the conversation's plan moves last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from loguru import logger

from ..deps import Deps
from ..rules.policy import Policy, Step, applies, is_too_old
from ..store.alerts import WAITING, Alert
from ..store.outbox import Item
from ..store.waiting import Plan, Waiter
from .fresh import known_until, refresh, tell_lateness
from .outgoing import RESOLVED, items_of, released, resolved_items, spawn_senders
from .plan import BATCH, LOOK_AGAIN_S, is_same_wait, key_of, plan_of, plan_page, steps_left, store_plans

TOO_OLD = "too old"  # nobody is told of it any more, and nothing has ended
MOST_AT_ONCE = 20 * BATCH  # of one page in one look; the rest is the next one's


@dataclass(slots=True)
class Looked:
    """What a look at a page did. `due`: conversations of which something may be told; `held`: of these, not known well
    enough for that.
    """

    planned: int = 0
    due: int = 0
    told: int = 0
    resolved: int = 0
    held: int = 0
    faulty: int = 0
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class _Due:
    waiter: Waiter
    alert: Alert
    steps: tuple[Step, ...]


async def look_at_page(deps: Deps, page_id: str, policy: Policy) -> Looked:
    """Bring the alerts of a page up to date. Safe to repeat, to kill, and to run twice at once."""
    looked, page = Looked(), await deps.pages.name(page_id) or page_id
    looked.planned = await plan_page(deps, page_id, policy)
    asked = None
    # what was held back by quiet hours or a cap needs a look as what is due now does
    if await deps.waiting.due(page_id, deps.now(), 1) or await deps.outbox.addresses(deps.now(), page_id):
        asked = await refresh(deps, page_id)
        looked.planned += await plan_page(deps, page_id, policy)
    looked.is_late = await tell_lateness(deps, page_id, page, asked or await known_until(deps, page_id))
    looked.resolved = await _resolve(deps, page_id, policy)
    if asked is None:
        looked.due = looked.held = len(await deps.waiting.due(page_id, deps.now(), BATCH))
        return looked
    await _tell_due(deps, page_id, page, policy, asked, looked)
    await spawn_senders(deps, await deps.outbox.addresses(deps.now(), page_id))
    return looked


async def _tell_due(deps: Deps, page_id: str, page: str, policy: Policy, until: float, looked: Looked) -> None:
    """Hand the due steps to the outbox, batch by batch: the longest due first."""
    seen: set[str] = set()
    while len(seen) < MOST_AT_ONCE:
        waiters = await deps.waiting.due(page_id, deps.now(), BATCH + len(seen))  # those that are held stay due
        fresh = [waiter for waiter in waiters if waiter.conversation_id not in seen]
        if not fresh:
            break
        seen.update(waiter.conversation_id for waiter in fresh)
        looked.due += len(fresh)
        known = [each for each in fresh if _is_known(each, until, deps.settings.alerts.freshness_seconds)]
        looked.held += len(fresh) - len(known)
        await _tell(deps, page, policy, known, until, looked)


def _is_known(waiter: Waiter, until: float, freshness_s: float) -> bool:
    """Whether a wait is known until its step was due.

    One whose messages alone cannot be read, for so long that a page would be late, is told of as it was known last.
    """
    due = waiter.next_step_at or 0.0
    return due <= until and (not waiter.messages_due or until - due > freshness_s)


async def _tell(deps: Deps, page: str, policy: Policy, waiters: Sequence[Waiter], until: float, looked: Looked) -> None:
    now = deps.now()
    alerts = await deps.alerts.by_key(key_of(waiter.conversation_id) for waiter in waiters)
    due, rest = list[_Due](), list[Waiter]()
    for waiter in waiters:
        try:
            found = _due_of(waiter, policy, alerts.get(key_of(waiter.conversation_id)), min(now, until))
        except Exception as e:  # noqa: BLE001 - whatever is wrong with one conversation stops no other
            looked.faulty += 1
            logger.opt(exception=e).error("conversation cannot be judged", conversation_id=waiter.conversation_id)
            await deps.waiting.plan([Plan(waiter, now + LOOK_AGAIN_S, policy.version)])
            continue
        if found is None:
            rest.append(waiter)
        else:
            steps, alert = found
            due.append(_Due(waiter, alert or _new_alert(waiter, deps, page, steps[-1].severity, now), steps))
    due = await _opened(deps, due)
    await deps.alerts.anchor([(each.alert.alert_id, each.waiter.message_id, each.waiter.since or 0) for each in due])
    names = await deps.staff.names(due[0].waiter.page_id) if due else {}
    items = list(chain.from_iterable(_items(each, policy, names, now) for each in due))
    await deps.outbox.add(items)
    await deps.alerts.record([(each.alert.alert_id, step.name, step.severity) for each in due for step in each.steps])
    done = {each.waiter.conversation_id: replace(each.alert, steps=_names(each)) for each in due}
    await deps.waiting.plan([plan_of(each.waiter, policy, done[each.waiter.conversation_id], now) for each in due])
    await store_plans(deps, rest, policy)
    _log(due, now)
    looked.told += sum(len(each.steps) for each in due)


async def _opened(deps: Deps, due: Sequence[_Due]) -> list[_Due]:
    """Open their alerts; without those who were answered meanwhile, and whose alert another worker opened otherwise."""
    there = await deps.waiting.get(each.waiter.conversation_id for each in due)
    still = [each for each in due if _is_still(each.waiter, there.get(each.waiter.conversation_id))]
    await deps.alerts.open([each.alert for each in still if not each.alert.steps])
    found = await deps.alerts.by_key(each.alert.key for each in still)
    return [each for each in still if each.alert.key in found and found[each.alert.key].alert_id == each.alert.alert_id]


def _is_still(waiter: Waiter, now: Waiter | None) -> bool:
    return now is not None and (now.since, now.message_id) == (waiter.since, waiter.message_id)


def _log(due: Sequence[_Due], now: float) -> None:
    """Who is alerted about, whether or not a message can go out; no name and no word of theirs."""
    for each in due:
        logger.warning(
            "conversation not answered",
            conversation_id=each.waiter.conversation_id,
            page_id=each.waiter.page_id,
            waiting_minutes=round((now - (each.waiter.since or now)) / 60),
            steps=[step.name for step in each.steps],
        )


def _names(due: _Due) -> tuple[str, ...]:
    return (*due.alert.steps, *(step.name for step in due.steps))


def _due_of(
    waiter: Waiter, policy: Policy, alert: Alert | None, at: float
) -> tuple[tuple[Step, ...], Alert | None] | None:
    """What is due of a wait, as far as it is known until `at`, and its open alert; None where nothing is."""
    if waiter.since is None or not applies(policy, waiter.type, waiter.tags, waiter.tag_names):
        return None
    if is_too_old(policy, waiter.since, at):
        return None
    if alert is not None and not is_same_wait(waiter, alert):
        return None  # the one before it has to end first; the next look tells of this one
    steps = tuple(step for step, due in steps_left(waiter.since, policy, alert) if due <= at)
    return (steps, alert) if steps else None


def _new_alert(waiter: Waiter, deps: Deps, page: str, severity: str, now: float) -> Alert:
    template = deps.settings.alerts.link_template
    link = template.replace("{page}", waiter.page_id).replace("{conversation}", waiter.conversation_id)
    return Alert(
        alert_id=f"{waiter.conversation_id}:{waiter.message_id}",
        key=key_of(waiter.conversation_id),
        kind=WAITING,
        severity=severity,
        since=float(waiter.since or 0),
        page_id=waiter.page_id,
        conversation_id=waiter.conversation_id,
        message_id=waiter.message_id,
        facts={"customer": waiter.customer_name, "page": page, "link": link, "type": waiter.type},
        opened_at=now,
    )


def _items(due: _Due, policy: Policy, names: Mapping[str, str], now: float) -> list[Item]:
    items: list[Item] = []
    for step in due.steps:
        to = told_by(step, policy, due.waiter.assignee_ids)
        facts = {
            **due.alert.facts,
            "since": due.waiter.since,
            "language": policy.language,
            "assigneeIds": list(due.waiter.assignee_ids),
            "assignees": [names[user_id] for user_id in due.waiter.assignee_ids if user_id in names],
            "late": step.offset_s >= 0,
        }
        items += [
            replace(item, release_at=released(policy, item.to, now))
            for item in items_of(due.alert, step.name, step.severity, to, facts, now)
        ]
    return items


def told_by(step: Step, policy: Policy, assignee_ids: Sequence[str]) -> list[str]:
    """The addresses a step goes to: its own, and those of the assignees where it names them."""
    found: list[str] = []
    for to in step.to:
        if to == "assignee":
            found += chain.from_iterable(policy.staff.get(user_id, ()) for user_id in assignee_ids)
        else:
            found.append(to)
    return list(dict.fromkeys(found))


async def _resolve(deps: Deps, page_id: str, policy: Policy) -> int:
    """End alerts of the page whose wait is over, and say so to whoever was told of them."""
    alerts = await deps.alerts.open_of(page_id)
    waiters = await deps.waiting.get(alert.conversation_id for alert in alerts if alert.conversation_id)
    ended: dict[str, list[Alert]] = {}
    facts: dict[str, dict[str, object]] = {}
    now = deps.now()
    for alert in alerts:
        waiter = waiters.get(alert.conversation_id or "")
        reason = end_of(alert, waiter, policy, now)
        if reason is None:
            continue
        ended.setdefault(reason, []).append(alert)
        until = waiter.replied_at if waiter and reason == "answered" and waiter.replied_at else now
        facts[alert.alert_id] = {"until": until, "answered": reason == "answered", "silent": reason == TOO_OLD}
    if not facts:
        return 0
    over = []
    if deps.settings.alerts.send_resolved:
        over = await resolved_items(deps, {key: about for key, about in facts.items() if not about["silent"]}, now)
        over = [replace(item, release_at=released(policy, item.to, now)) for item in over]
        await deps.outbox.add(over)
    await deps.outbox.drop_pending(list(facts), but_step=RESOLVED)
    for reason, those in ended.items():
        await deps.alerts.resolve([alert.alert_id for alert in those], now, reason)
    await deps.waiting.forget_alerts(
        {each.alert_id: each.conversation_id for each in alerts if each.alert_id in facts and each.conversation_id}
    )
    await spawn_senders(deps, (item.to for item in over if item.release_at <= now))  # when all of it is written
    return len(facts)


def end_of(alert: Alert, waiter: Waiter | None, policy: Policy, now: float) -> str | None:
    """Why an alert is over; None where it is not."""
    if waiter is None:
        return "gone"
    if not is_same_wait(waiter, alert):
        return "answered" if waiter.replied_at is not None and waiter.replied_at >= alert.since else "taken back"
    if not applies(policy, waiter.type, waiter.tags, waiter.tag_names):
        return "left out"
    return TOO_OLD if waiter.since is not None and is_too_old(policy, waiter.since, now) else None
