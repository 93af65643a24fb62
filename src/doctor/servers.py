"""Redis and MongoDB: that they answer, keep what they are given, and agree on the time."""

from collections.abc import Mapping

from redis.exceptions import ResponseError

from ..clients import mongo
from ..clients.redis import in_time, open_redis
from ..deps import Deps
from ..settings import Settings
from .findings import Note

APART_S = 2.0


async def redis(settings: Settings) -> str:
    """Raises Transient or Permanent where it does not answer or refuses us."""
    async with open_redis(settings.redis) as opened:
        try:
            policy = (await opened.config_get("maxmemory-policy")).get("maxmemory-policy", "?")
            has_aof = (await opened.config_get("appendonly")).get("appendonly") == "yes"
        except ResponseError:
            return f"{settings.redis.shown}; it does not show its settings: make sure of noeviction and persistence"
    advice = []
    if policy != "noeviction":
        advice.append(f"maxmemory-policy is {policy}: set noeviction, or Redis drops jobs when memory is short")
    if not has_aof:
        advice.append("appendonly is off: jobs that wait are lost when Redis restarts; set appendonly yes")
    return "; ".join([settings.redis.shown, *advice])


async def mongodb(settings: Settings) -> str:
    """Raises Transient or Permanent where it does not answer or refuses us."""
    async with mongo.open_database(settings.mongo) as database:
        hello = await database.command("hello")
    alone = "" if hello.get("setName") else "; a single server, no replica set: a crash may lose the last writes"
    return settings.mongo.shown + alone


async def clocks(deps: Deps) -> str | Note:
    """How far the servers' clocks are from ours: ticks go by Redis', check-ins by MongoDB's, the rest by ours."""
    async with in_time():
        before = deps.now()
        seconds, micros = await deps.redis.time()
        after = deps.now()
    ahead = {"Redis": seconds + micros / 1e6 - (before + after) / 2}
    before = deps.now()
    at = (await deps.agents.clock()).timestamp()
    ahead["MongoDB"] = at - (before + deps.now()) / 2
    return judged(ahead)


def judged(ahead: Mapping[str, float]) -> str | Note:
    """`ahead`: how many seconds each server's clock is ahead of ours."""
    shown = [f"{name}'s is {abs(by):.1f} s {'ahead' if by > 0 else 'behind'}" for name, by in ahead.items()]
    if max(map(abs, ahead.values())) > APART_S:
        return Note(
            f"{', '.join(shown)} of this machine: jobs fire, time out and are told of as late by so much; "
            "let all machines keep time (chrony, timedatectl)"
        )
    return f"Redis, MongoDB and this machine agree within {APART_S:g} s"
