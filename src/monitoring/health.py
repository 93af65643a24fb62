"""Servers, Pancake, channels and the addresses of MONITOR_HEALTH_URLS: looked at each minute, all at once.

A change is told after MONITOR_HEALTH_FAILURES looks in a row. How things stand is kept in MongoDB, so a restart or
another worker goes on where the last look stopped. While Redis is away no job runs and nothing can be told from here;
while MongoDB is away, `away` tells of it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from ..alerts.notices import close_notice, open_notice
from ..clients import mongo, redis
from ..clients.probe import status_of
from ..deps import Deps
from ..engine.boundary import in_words
from ..errors import PageUnavailable, Permanent, RateLimited, ServiceError, Snooze
from ..rules.health import Found, Health, HealthUrl, judged
from ..rules.recipients import recipient_of
from ..rules.redact import redact
from .quiet import end_quietly

SERVER_ANSWERS_S = 5.0  # Redis and MongoDB
STORED_S = 8.0  # for what is looked up and stored
CHANNELS_EVERY_S = 300.0  # providers are asked no more often
NOT_LOOKED_AT_S = 3_600.0  # what was not looked at for so long is no longer set up
ENOUGH_S = 30.0  # for what keeps a deadline of its own
LONGEST_ERROR = 300  # characters
CHANNEL = "channel:"
MONGODB = "mongodb"

Probe = Callable[[], Awaitable[None]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Looked:
    """How a look ended: how many are well, how many are down, and how many notices it opened and closed."""

    up: int
    down: int
    told: int
    back: int


class MongoAway(Exception):
    """Nothing can be looked up or stored; the words say what MongoDB lacks."""


async def look_around(deps: Deps) -> Looked:
    """Look at everything once, and have changes told. Safe to repeat and to kill. Raises MongoAway."""
    of_mongo = await _tried(deps, partial(_mongo, deps), SERVER_ANSWERS_S)
    if of_mongo is None or of_mongo.error is not None:
        raise MongoAway(of_mongo.error if of_mongo else "?")
    known = await _bounded(deps, deps.health_checks.all())
    are_channels_due = _channels_are_due(known, deps.now())
    others, channels = await asyncio.gather(_look(deps), _channels(deps) if are_channels_due else _nothing())
    now, monitor = deps.now(), deps.settings.monitor
    seen = {
        name: judged(
            known.get(name, Health()), one, now, failures=monitor.health_failures, recoveries=monitor.health_recoveries
        )
        for name, one in {MONGODB: of_mongo, **others, **channels}.items()
    }
    await _bounded(deps, deps.health_checks.save(seen))
    return await _bounded(deps, _tell(deps, {**known, **seen}))


async def _bounded(deps: Deps, asked: Awaitable[T]) -> T:
    """What is asked of MongoDB. Its driver would wait for so long that the job ran out of its time."""
    try:
        async with asyncio.timeout(STORED_S):
            return await asked
    except TimeoutError as e:
        raise MongoAway(f"no answer in {STORED_S:g} s") from e
    except mongo.FAILURES as e:
        raise MongoAway(redact(in_words(e, deps))[:LONGEST_ERROR]) from e


async def _nothing() -> dict[str, Found]:
    return {}


def notice_key(name: str) -> str:
    """What the notice about something that is looked at is found by."""
    return f"health:{name}"


async def _look(deps: Deps) -> dict[str, Found]:
    monitor = deps.settings.monitor
    probes: dict[str, tuple[Probe, float]] = {
        "redis": (partial(_redis, deps), SERVER_ANSWERS_S),
    }
    for url in monitor.health_urls:
        probes[f"url:{url.name}"] = partial(_url, url, monitor.health_timeout_seconds), ENOUGH_S
    if deps.settings.pancake.access_token is not None or deps.settings.pancake.page_tokens:
        probes["pancake"] = (partial(_pancake, deps), ENOUGH_S)
    looks = await asyncio.gather(*(_tried(deps, probe, limit_s) for probe, limit_s in probes.values()))
    return {name: one for name, one in zip(probes, looks, strict=True) if one is not None}


async def _tried(deps: Deps, probe: Probe, limit_s: float) -> Found | None:
    """What one look found; None where it could not tell, for nothing there says anything about it."""
    started, error = time.perf_counter(), None
    try:
        async with asyncio.timeout(limit_s):
            await probe()
    except TimeoutError:
        error = f"no answer in {limit_s:g} s"
    except Unknowable:
        return None
    except (ServiceError, *mongo.FAILURES, *redis.OUTAGES, OSError) as e:
        error = redact(in_words(e, deps))[:LONGEST_ERROR]
    return Found(error, round((time.perf_counter() - started) * 1000, 1))


class Unknowable(Exception):
    """It cannot be looked at now, and that is nobody's fault."""


async def _redis(deps: Deps) -> None:
    await deps.redis.ping()


async def _mongo(deps: Deps) -> None:
    await deps.database.command("ping")


async def _pancake(deps: Deps) -> None:
    """The cheapest call there is, of one page. A refusal for volume, or of that page alone, is an answer too."""
    try:
        page_ids = await deps.pages.to_sync(deps.settings.pancake.page_ids)
    except mongo.FAILURES as e:
        raise Unknowable from e
    if not page_ids:
        raise Unknowable
    try:
        async with asyncio.timeout(deps.settings.monitor.health_timeout_seconds):
            await deps.limiter.acquire(page_ids[0])
    except (Snooze, TimeoutError) as e:  # its calls are held back by us, which says nothing of Pancake
        raise Unknowable from e
    try:
        await deps.pancake.tags(page_ids[0], tries=1)
    except (RateLimited, PageUnavailable):
        return
    except (Snooze, *mongo.FAILURES, *redis.OUTAGES) as e:  # held back by us; or the page's token could not be read
        raise Unknowable from e


async def _url(url: HealthUrl, timeout_s: float) -> None:
    """Raises Permanent for an answer that is not well."""
    status = await status_of(url.url, timeout_s)
    is_well = status == url.status if url.status else 200 <= status < 400
    if not is_well:
        wanted = f", not with {url.status}" if url.status else ""
        raise Permanent(f"it answers with {status}{wanted}")


async def _channels(deps: Deps) -> dict[str, Found]:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(deps.settings.monitor.health_timeout_seconds + SERVER_ANSWERS_S):
            checked = await deps.channels.check()
    except TimeoutError:  # which of them, nobody knows: each has a deadline of its own
        return {}
    took_ms = round((time.perf_counter() - started) * 1000, 1)
    return {
        CHANNEL + name: Found(None if is_ok else redact(said)[:LONGEST_ERROR], took_ms) for name, is_ok, said in checked
    }


def _channels_are_due(known: Mapping[str, Health], now: float) -> bool:
    last = [health.checked_at for name, health in known.items() if name.startswith(CHANNEL)]
    return not last or now - max(last) >= CHANNELS_EVERY_S - 1  # the ticks of a minute are not exact


async def _tell(deps: Deps, known: Mapping[str, Health]) -> Looked:
    """Bring the notices in step with how things stand, whatever was told before."""
    notices = await deps.alerts.by_key(notice_key(name) for name in known)
    gone = [name for name, health in known.items() if deps.now() - health.checked_at > NOT_LOOKED_AT_S]
    there = {name: health for name, health in known.items() if name not in gone}
    down = {name: health for name, health in there.items() if health.state == "down"}
    told = [await _open(deps, name, health) for name, health in down.items()]
    back = [
        await close_notice(deps, notice_key(name))
        for name, health in there.items()
        if health.state == "up" and notice_key(name) in notices
    ]
    await end_quietly(deps, [notices[notice_key(name)] for name in gone if notice_key(name) in notices], "removed")
    await deps.health_checks.forget(gone)
    return Looked(sum(health.state == "up" for health in there.values()), len(down), sum(told), sum(back))


async def _open(deps: Deps, name: str, health: Health) -> bool:
    channel = name.removeprefix(CHANNEL) if name.startswith(CHANNEL) else None
    addresses = deps.settings.alerts.operations_to
    return await open_notice(
        deps,
        notice_key(name),
        kind="unhealthy",
        severity="critical" if name in ("redis", MONGODB, "pancake") else "high",
        facts={"name": name.removeprefix("url:").removeprefix(CHANNEL), "error": health.last_error or "?"},
        since=health.since,
        but=next((to for to in addresses if channel and recipient_of(to).channel == channel), None),
    )
