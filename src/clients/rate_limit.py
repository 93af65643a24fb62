"""A rate limit per key that all processes share, corrected by what the other side refuses.

Redis holds one hash per key: the controller's state (`rules.rate`) and the time of the next free slot. A caller
reserves the next slot in one round trip, on Redis' own clock, and sleeps until it comes: evenly spaced calls, first
come first served, no burst (the GCRA of ATM Forum TM 4.0 with a burst of none). aiolimiter paces this process besides,
and alone, at a careful rate, while Redis is away.
"""

import asyncio
import time
from dataclasses import asdict, dataclass, fields
from typing import Any

from aiolimiter import AsyncLimiter
from arq.connections import ArqRedis
from loguru import logger
from redis.exceptions import RedisError

from ..errors import Snooze
from ..rules.rate import PAUSE_INTERVALS, RateState, advanced, refused

KEPT_S = 3600  # what is known of a limit is forgotten after an hour without calls
LONGEST_WAIT_S = 30.0  # a slot further away than this is not worth holding a job for
CAREFUL_PART = 0.25  # of the set rate, per process, while Redis is away
SLOTS_KEPT = 64

_STATE = tuple(field.name for field in fields(RateState))

# KEYS: the key's hash, its list of slot times. ARGV: rate to begin with, longest wait in seconds.
_RESERVE = """
local t = redis.call('TIME'); local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
local rate = tonumber(redis.call('HGET', KEYS[1], 'rate') or ARGV[1])
if redis.call('HSETNX', KEYS[1], 'rate', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'since', string.format('%.6f', now))
end
local slot = math.max(now, tonumber(redis.call('HGET', KEYS[1], 'free_at') or '0'))
local granted = slot - now <= tonumber(ARGV[2])
if granted then
  redis.call('HSET', KEYS[1], 'free_at', string.format('%.6f', slot + 1 / rate))
  redis.call('HINCRBY', KEYS[1], 'calls', 1)
  redis.call('RPUSH', KEYS[2], string.format('%.6f', slot))
  redis.call('LTRIM', KEYS[2], -64, -1)
  redis.call('EXPIRE', KEYS[1], 3600); redis.call('EXPIRE', KEYS[2], 3600)
end
return {granted and 1 or 0, string.format('%.6f', now), string.format('%.6f', slot), redis.call('HGETALL', KEYS[1])}
"""

# ARGV: the refused call's slot. Returns the time, how many calls went through in the last second, and the state.
_REFUSED = """
local t = redis.call('TIME'); local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
redis.call('LREM', KEYS[2], 1, ARGV[1])
local passed = 0
for _, slot in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local at = tonumber(slot)
  if at > tonumber(ARGV[1]) - 1 and at <= tonumber(ARGV[1]) then passed = passed + 1 end
end
return {string.format('%.6f', now), passed, redis.call('HGETALL', KEYS[1])}
"""

# ARGV: the version the change was computed from, not before (a time, or 0), then field, value, ... of the new state.
# The pause holds whether or not another process changed the state first.
_CHANGE = """
local free_at = tonumber(redis.call('HGET', KEYS[1], 'free_at') or '0')
if tonumber(ARGV[2]) > free_at then redis.call('HSET', KEYS[1], 'free_at', ARGV[2]) end
redis.call('EXPIRE', KEYS[1], 3600)
if tonumber(redis.call('HGET', KEYS[1], 'version') or '0') ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'calls', 0, unpack(ARGV, 3))
return 1
"""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call now. `version`: of the rate that paced it; `slot`: its place, as Redis wrote it."""

    version: int
    slot: str


class RateLimiter:
    """Paces calls per key. One per process; keys are page ids."""

    def __init__(self, redis: ArqRedis, ceiling_per_s: float, *, prefix: str = "folkform:rate:") -> None:
        self._redis = redis
        self._ceiling = ceiling_per_s
        self._prefix = prefix
        self._local: dict[str, AsyncLimiter] = {}
        self._careful: dict[str, AsyncLimiter] = {}
        self._redis_away_since: float | None = None
        self._reserve = redis.register_script(_RESERVE)
        self._count_refusal = redis.register_script(_REFUSED)
        self._change = redis.register_script(_CHANGE)

    async def acquire(self, key: str) -> Permit | None:
        """Wait for this key's next slot. None where no limit is set.

        Raises Snooze when the next slot is more than `LONGEST_WAIT_S` away (the other side asked for a long pause).
        """
        if not self._ceiling:
            return None
        await self._own(self._local, key, self._ceiling).acquire()
        try:
            granted, now, slot, raw = await self._reserve(keys=self._keys(key), args=[self._ceiling, LONGEST_WAIT_S])
        except (RedisError, OSError) as e:
            return await self._without_redis(key, e)
        if self._redis_away_since is not None:
            logger.info("rate limit shared again", seconds_away=round(time.monotonic() - self._redis_away_since))
            self._redis_away_since = None
        wait_s = float(slot) - float(now)
        if not granted:
            raise Snooze(f"Pancake asked for a pause of {wait_s:.0f} s on page {key}", after_s=wait_s)
        state, calls = _read(raw, self._ceiling)
        await self._apply(key, state, advanced(state, float(now), calls, self._ceiling))
        await asyncio.sleep(wait_s)
        return Permit(state.version, slot.decode())

    async def refused(self, key: str, permit: Permit | None, retry_after_s: float | None = None) -> None:
        """Report that the call made with `permit` was refused; `retry_after_s` is obeyed for the whole key.

        Refusals of calls that an older rate paced lower nothing a second time.
        """
        if permit is None:
            return
        try:
            at, passed, raw = await self._count_refusal(keys=self._keys(key), args=[permit.slot])
            now = float(at)
            state, _ = _read(raw, self._ceiling)
            after = refused(state, now, int(passed)) if state.version == permit.version else state
            pause_s = max(retry_after_s or 0.0, PAUSE_INTERVALS / after.rate)
            await self._apply(key, state, after, not_before=now + pause_s)
        except (RedisError, OSError) as e:
            logger.warning("a refusal could not be shared", page_id=key, error=type(e).__name__)

    async def current(self, key: str) -> RateState | None:
        """What is known of this key's limit, or None before its first call. Reads only."""
        raw: dict[bytes, bytes] = await self._redis.hgetall(self._keys(key)[0])  # type: ignore[misc]
        return _read([part for pair in raw.items() for part in pair], self._ceiling)[0] if raw else None

    async def _apply(self, key: str, before: RateState, after: RateState, *, not_before: float = 0.0) -> None:
        if after is before and not not_before:
            return
        changed = [] if after is before else [part for pair in asdict(after).items() for part in pair]
        version = -1 if after is before else before.version
        await self._change(keys=self._keys(key), args=[version, f"{not_before:.6f}", *changed])
        if after.rate != before.rate:
            logger.info("rate changed", page_id=key, calls_per_s=round(after.rate, 2), refused_at=round(after.bad, 2))

    async def _without_redis(self, key: str, error: Exception) -> Permit | None:
        if self._redis_away_since is None:
            self._redis_away_since = time.monotonic()
            logger.warning("rate limit not shared: Redis is away", error=type(error).__name__)
        await self._own(self._careful, key, self._ceiling * CAREFUL_PART).acquire()
        return None

    def _keys(self, key: str) -> list[str]:
        return [f"{self._prefix}{{{key}}}", f"{self._prefix}{{{key}}}:slots"]

    @staticmethod
    def _own(limiters: dict[str, AsyncLimiter], key: str, per_s: float) -> AsyncLimiter:
        # AsyncLimiter(n, t) lets 2n through in its first t seconds; (1, 1/n) does not
        return limiters.setdefault(key, AsyncLimiter(1, 1 / per_s))


def _read(raw: list[bytes], ceiling: float) -> tuple[RateState, int]:
    found: dict[str, Any] = {raw[i].decode(): raw[i + 1] for i in range(0, len(raw), 2)}
    values = {name: float(found[name]) for name in _STATE if name in found}
    state = RateState(
        **{
            "rate": ceiling,
            **values,
            "version": int(values.get("version", 0)),
            "streak": int(values.get("streak", 0)),
        }  # type: ignore[arg-type]
    )
    return state, int(found.get("calls", 0))
