"""`doctor`: looks at every outside system the way a job would, and says what to do where something is wrong."""

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

from redis.exceptions import ResponseError

from .clients import mongo
from .clients.pancake.models import Page
from .clients.redis import open_redis
from .deps import Deps, open_deps
from .engine.boundary import in_words
from .errors import Permanent, ServiceError
from .rules.coverage import has_history
from .rules.policy import ASSIGNEE
from .rules.recipients import recipient_of
from .settings import Settings
from .store.webhook_records import Choice, Status
from .sync.customers import NAME as CUSTOMERS

Say = Callable[[str], None]
LATE_AFTER_S = 900  # three ticks of the incremental schedule


async def examine(settings: Settings, say: Say) -> bool:
    """Check everything, one line a finding; returns whether all is well. Makes no token; creates missing indexes."""
    say("ok    settings")
    checks = [
        await _tried(say, "Redis", lambda: _redis(settings)),
        await _tried(say, "MongoDB", lambda: _mongo(settings)),
    ]
    if not all(checks):
        return False
    async with AsyncExitStack() as stack:
        deps = await stack.enter_async_context(open_deps(settings, may_mint=False))
        try:
            found = await _pages(deps, say)
        except ServiceError as e:
            say(f"WRONG Pancake: {e}")
            return False
        checks += [await _tried(say, f"page {page_id}", partial(_page, deps, page_id)) for page_id in found]
        checks.append(await _tried(say, "webhooks", partial(_webhooks, deps)))
        checks.append(await _tried(say, "alerts", partial(_alerts, deps)))
        checks += [_said(say, *finding) for finding in await deps.channels.check()]
        if letters := await deps.dead_letters.count():
            say(f"note  {letters} dead letters wait to be read (collection dead_letters)")
    return all(checks)


async def _tried(say: Say, what: str, check: Callable[[], Awaitable[str]]) -> bool:
    try:
        say(f"ok    {what}: {await check()}")
    except ServiceError as e:
        say(f"WRONG {what}: {e}")
        return False
    return True


async def _redis(settings: Settings) -> str:
    async with open_redis(settings.redis) as redis:
        try:
            policy = (await redis.config_get("maxmemory-policy")).get("maxmemory-policy", "?")
            has_aof = (await redis.config_get("appendonly")).get("appendonly") == "yes"
        except ResponseError:
            return f"{settings.redis.shown}; it does not show its settings: make sure of noeviction and persistence"
    advice = []
    if policy != "noeviction":
        advice.append(f"maxmemory-policy is {policy}: set noeviction, or Redis drops jobs when memory is short")
    if not has_aof:
        advice.append("appendonly is off: jobs that wait are lost when Redis restarts; set appendonly yes")
    return "; ".join([settings.redis.shown, *advice])


async def _mongo(settings: Settings) -> str:
    async with mongo.open_database(settings.mongo) as database:
        hello = await database.command("hello")
    alone = "" if hello.get("setName") else "; a single server, no replica set: a crash may lose the last writes"
    return settings.mongo.shown + alone


async def _pages(deps: Deps, say: Say) -> list[str]:
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


async def _webhooks(deps: Deps) -> str:
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


def _said(say: Say, channel: str, is_well: bool, sentence: str) -> bool:
    say(f"{'ok   ' if is_well else 'WRONG'} channel {channel}: {sentence}")
    return is_well


async def _alerts(deps: Deps) -> str:
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


async def _page(deps: Deps, page_id: str) -> str:
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
