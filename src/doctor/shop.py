"""The shop: Pancake and its pages, merchants' webhooks, alerts."""

import time

from ..clients import mongo
from ..clients.pancake.models import Page
from ..deps import Deps
from ..engine.boundary import in_words
from ..errors import Permanent
from ..rules.coverage import has_history
from ..rules.policy import ASSIGNEE
from ..rules.recipients import recipient_of
from ..store.webhook_records import Choice, Status
from ..sync.customers import NAME as CUSTOMERS
from .findings import Say

LATE_AFTER_S = 900  # three ticks of the incremental schedule


async def pages(deps: Deps, say: Say) -> list[str]:
    """The pages that are to be synced. Raises Permanent where there is none, or the settings name one there is not."""
    listed: list[Page] = []
    if deps.settings.pancake.access_token is not None or not deps.settings.pancake.page_tokens:
        listed = [page for page, _ in await deps.pancake.pages()]
        say(f"ok    Pancake: {deps.settings.pancake.base_url} lists {len(listed)} pages")
    wanted = deps.settings.pancake.page_ids
    names = {page.id for page in listed if page.is_activated} | set(deps.settings.pancake.page_tokens)
    if not names:
        raise Permanent("no page: is PANCAKE_ACCESS_TOKEN that of the shop's administrator?")
    if unknown := sorted(set(wanted) - names):
        raise Permanent(f"PANCAKE_PAGE_IDS names {', '.join(unknown)}, which Pancake does not list as active")
    return sorted(names & set(wanted) if wanted else names)


async def webhooks(deps: Deps) -> str:
    """Raises Permanent for a secret that no key opens."""
    endpoints = await deps.merchants.endpoints.all()
    if not endpoints:
        return "no endpoint yet: `webhook endpoint add` makes one"
    for endpoint in endpoints:
        for secret in endpoint.secrets:
            deps.merchants.vault.open(secret.sealed)
    shown = [f"{len(endpoints)} endpoints"]
    if disabled := sum(not endpoint.is_enabled for endpoint in endpoints):
        shown.append(f"{disabled} disabled")
    if failing := sum(endpoint.is_enabled and endpoint.failing_since is not None for endpoint in endpoints):
        shown.append(f"{failing} failing")
    words: dict[Status, str] = {"parked": "parked", "dead": "given up"}
    for status, word in words.items():
        if count := await deps.merchants.deliveries.count(Choice(statuses=(status,))):
            shown.append(f"{count} deliveries {word}")
    if not deps.settings.webhooks.secrets_key:
        shown.append("secrets are stored as they are: set WEBHOOK_SECRETS_KEY (`webhook key` makes one)")
    return ", ".join(shown)


async def alerts(deps: Deps) -> str:
    """Raises Permanent for a policy that does not count."""
    settings = deps.settings.alerts
    book = await deps.policies.load(settings.policy(deps.settings.service.zone))
    if book.faults:
        raise Permanent("; ".join(f"the policy of page {page_id}: {fault}" for page_id, fault in book.faults.items()))
    policies = [book.default, *book.pages.values()]
    addresses = {to for policy in policies for step in policy.steps for to in step.to} - {ASSIGNEE}
    shown = [f"{len(book.pages)} pages with a policy of their own, {len(addresses)} addresses"]
    for address in sorted(addresses):
        recipient = recipient_of(address)
        lacking = None if recipient.channel in ("app", "webhook") else deps.channels.configured(recipient)
        if lacking:
            raise Permanent(f"{address} would not be told: {lacking}")
    if not addresses:
        shown.append("nobody is told but in the app: set ALERT_TO, or --to of `policy set`")
    if any(policy.calendar.is_always_open for policy in policies):
        shown.append("waiting counts at every hour, nights too: set ALERT_HOURS, or --hours of `policy set`")
    if waiting := len(await deps.alerts.latest(most=1_000)):
        shown.append(f"{waiting} open (`alerts list`)")
    return ", ".join(shown)


async def page(deps: Deps, page_id: str) -> str:
    """How far one is read. Raises our errors where Pancake refuses it."""
    try:
        await deps.pancake.tags(page_id)
    except mongo.FAILURES as e:
        raise Permanent(in_words(e, deps)) from e
    rate = await deps.limiter.current(page_id)
    state = await deps.sync_states.load(CUSTOMERS, page_id)
    shown = [f"{await deps.customers.count(page_id)} customers"]
    if state.mark is None:
        shown.append("never synced: run `sync customers`, or start the worker")
    else:
        late_s = int(time.time()) - state.mark
        shown.append(f"read up to {late_s} s ago" + (", LATE: is a worker running?" if late_s > LATE_AFTER_S else ""))
        shown.append("history complete" if has_history(state) else "history incomplete")
    shown.append(f"{await deps.conversations.rows.count(page_id)} conversations")
    shown.append(f"{await deps.waiting.count(page_id)} customers wait")
    if unread := await deps.conversations.count_unread(page_id):
        shown.append(f"messages of {unread} conversations are still to be read")
    if rate is not None:
        limit = f", refused at {rate.bad:.1f}" if rate.bad else ""
        shown.append(f"{rate.rate:.1f} calls/s of {deps.settings.pancake.max_calls_per_second:g}{limit}")
    return ", ".join(shown)
