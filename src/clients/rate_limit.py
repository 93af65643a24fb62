"""A rate limit per key that all processes share, corrected by what the other side refuses.

Redis holds one hash per key: the controller's state (`rules.rate`) and when the next call may leave. A caller asks for
leave in one round trip, on Redis' own clock, and gets a slot that is about to come; too early, it is told how long to
wait and asks again. So calls are evenly spaced (the GCRA of ATM Forum TM 4.0 with a burst of none), a change of rate or
a pause holds for every call that waits, and a caller that is cancelled while it waits takes nothing with it. Within a
process callers queue, first come first served; aiolimiter paces the process besides, and alone, at a careful rate,
while Redis is away.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

from aiolimiter import AsyncLimiter
from loguru import logger
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..errors import Snooze
from ..rules.rate import COUNTED_S, RateState, advanced, pause_s, refused

LONGEST_WAIT_S = 30.0  # a call that may not leave within this time is not worth holding a job for
LONGEST_PAUSE_S = 1800.0  # more is not believed of a Retry-After; a longer pause is asked for again then
KEPT_S = 3600  # what is known of a limit is forgotten after an hour without calls; longer than any pause
SLOTS_KEPT = 256  # enough to count a second back from a call that was answered late
LEAD_S = 0.05  # a slot is given this long before it comes: what timers and answers are late delays no later call
LATE_S = 0.1  # a process that uses its slot later than this asks for another: late calls meet the next ones ...
LATE_TRIES = 3  # ... unless it is always late
CAREFUL_PART = 0.125  # of the last known rate, per process, while Redis is away: eight processes together keep it
OWN_HASTE = 1.2  # a process' own pace, of the set rate: exactly the set rate would lose what each timer is late
REDIS_ANSWERS_S = 2.0
ASK_AGAIN_S = 2.0  # how long Redis is not asked after it did not answer
CONFLICTS = 5  # how often a change is computed anew when another process was faster
TOLD_APART = 0.12  # rates closer than this are one in the log: the tries above a limit would fill it

_STATE = tuple(field.name for field in fields(RateState))
_WHOLE = ("version", "streak", "lowered")

# KEYS: the key's hash, its list of slots (times when calls leave). ARGV: the ceiling, lead in seconds, slots kept,
# seconds kept. Returns whether a slot was given, the slot, the wait until it or until asking again, and the hash.
_TAKE = """
local t = redis.call('TIME'); local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
if redis.call('HSETNX', KEYS[1], 'rate', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'since', string.format('%.6f', now))
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
local free_at = tonumber(redis.call('HGET', KEYS[1], 'free_at') or '0')
local slot = math.max(now, free_at); local lead = tonumber(ARGV[2])
if slot - now > lead then
  return {0, '', string.format('%.6f', slot - now - lead), redis.call('HGETALL', KEYS[1])}
end
local rate = math.min(tonumber(redis.call('HGET', KEYS[1], 'rate')), tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'free_at', string.format('%.6f', slot + 1 / rate))
redis.call('HINCRBY', KEYS[1], 'calls', 1)
redis.call('RPUSH', KEYS[2], string.format('%.6f', slot)); redis.call('LTRIM', KEYS[2], -tonumber(ARGV[3]), -1)
redis.call('EXPIRE', KEYS[1], ARGV[4]); redis.call('EXPIRE', KEYS[2], ARGV[4])
local shown = string.format('%.6f', slot)
return {1, shown, string.format('%.6f', slot - now), redis.call('HGETALL', KEYS[1])}
"""

# ARGV: the refused call's slot, how many seconds before it count. Returns the time, how many calls left in those
# seconds and were not refused so far, and the hash. Changes nothing when it is run again.
_REFUSED = """
local t = redis.call('TIME'); local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
redis.call('LREM', KEYS[2], 1, ARGV[1])
local last = tonumber(ARGV[1]); local passed = 0
for _, slot in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local at = tonumber(slot)
  if at > last - tonumber(ARGV[2]) and at <= last then passed = passed + 1 end
end
return {string.format('%.6f', now), passed, redis.call('HGETALL', KEYS[1])}
"""

# ARGV: the version the change was computed from, not before (a time, or 0), seconds kept, then field, value, ... of the
# new state. Returns 0, with nothing changed, when another process was faster.
_CHANGE = """
if tonumber(redis.call('HGET', KEYS[1], 'version') or '0') ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'calls', 0, unpack(ARGV, 4))
local free_at = tonumber(redis.call('HGET', KEYS[1], 'free_at') or '0')
if tonumber(ARGV[2]) > free_at then redis.call('HSET', KEYS[1], 'free_at', ARGV[2]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""

# ARGV: not before (a time), seconds kept. A Retry-After that tells nothing new about the rate.
_HOLD = """
local free_at = tonumber(redis.call('HGET', KEYS[1], 'free_at') or '0')
if tonumber(ARGV[1]) > free_at then redis.call('HSET', KEYS[1], 'free_at', ARGV[1]) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call now.

    `version` and `rate` (calls per second) of what paced it; `slot`: when it leaves, as Redis wrote it.
    """

    version: int
    slot: str
    rate: float


class RateLimiter:
    """Paces calls per key. One per process and event loop; keys are page ids."""

    def __init__(
        self,
        redis: Redis,
        ceiling_per_s: float,
        *,
        prefix: str = "folkform:rate:",
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self._redis = redis
        self._ceiling = ceiling_per_s
        self._prefix = prefix
        self._longest_wait_s = longest_wait_s
        self._turns: dict[str, asyncio.Lock] = {}
        self._local: dict[str, AsyncLimiter] = {}
        self._careful: dict[str, AsyncLimiter] = {}
        self._known: dict[str, float] = {}  # last rate seen, for the time without Redis
        self._told: dict[str, float] = {}  # last rate logged
        self._held_until: dict[str, float] = {}  # monotonic; pauses that could not be shared
        self._away_since: float | None = None
        self._ask_at = 0.0
        self._take = redis.register_script(_TAKE)
        self._count_refusal = redis.register_script(_REFUSED)
        self._change = redis.register_script(_CHANGE)
        self._hold = redis.register_script(_HOLD)

    async def acquire(self, key: str) -> Permit | None:
        """Wait until a call may leave. None where no limit is set, and while Redis is away.

        Raises Snooze when that is more than `longest_wait_s` away: the other side asked for a long pause, or more
        callers wait than the rate can serve.
        """
        if not self._ceiling:
            return None
        try:
            async with asyncio.timeout(self._longest_wait_s), self._turns.setdefault(key, asyncio.Lock()):
                return await self._granted(key)
        except TimeoutError as e:
            message = f"page {key} is busy: no call could leave within {self._longest_wait_s:g} s"
            raise Snooze(message, after_s=self._longest_wait_s) from e

    async def refused(self, key: str, permit: Permit | None, retry_after_s: float | None = None) -> None:
        """Report that the call made with `permit` was refused; `retry_after_s` is obeyed for the whole key.

        Refusals of calls that left before the rate was lowered lower nothing a second time.
        """
        if permit is None:
            return
        wanted_s = min(retry_after_s or 0.0, LONGEST_PAUSE_S)
        try:
            async with _in_time():
                await self._lower(key, permit, wanted_s)
        except (RedisError, OSError) as e:
            self._held_until[key] = time.monotonic() + max(wanted_s, 1 / permit.rate)
            logger.warning("a refusal could not be shared", page_id=key, error=type(e).__name__)

    async def current(self, key: str) -> RateState | None:
        """What is known of this key's limit, or None before its first call. Reads only."""
        raw: dict[bytes, bytes] = await self._redis.hgetall(self._keys(key)[0])  # type: ignore[misc]
        return _read([part for pair in raw.items() for part in pair], self._ceiling)[0] if raw else None

    async def rates(self, keys: Sequence[str]) -> dict[str, float]:
        """The present rate, in calls per second, of those keys that had a call in the last hour. Reads only."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(self._keys(key)[0], "rate")
            found = await pipe.execute() if keys else []
        return {key: min(float(rate), self._ceiling) for key, rate in zip(keys, found, strict=True) if rate is not None}

    async def _granted(self, key: str) -> Permit | None:
        await self._wait_for_hold(key)
        if time.monotonic() >= self._ask_at:
            await self._paced(self._local, key, self._ceiling * OWN_HASTE)
            try:
                return await self._shared(key)
            except (RedisError, OSError) as e:
                self._lost(e)
        await self._paced(self._careful, key, min(self._known.get(key, self._ceiling), self._ceiling) * CAREFUL_PART)
        return None

    async def _shared(self, key: str) -> Permit:
        missed = 0
        while True:
            asked_at = time.monotonic()
            async with _in_time():
                granted, slot, wait, raw = await self._take(
                    keys=self._keys(key), args=[self._ceiling, LEAD_S, SLOTS_KEPT, KEPT_S]
                )
                state, calls = _read(raw, self._ceiling)
                self._found(key, state)
                if granted:
                    await self._apply(key, state, advanced(state, float(slot), calls, self._ceiling))
            # from the asking on: what the answer and the change took is over
            due_at = asked_at + float(wait)
            await self._sleep(key, due_at - time.monotonic())
            if granted and (time.monotonic() - due_at <= LATE_S or missed == LATE_TRIES):
                return Permit(state.version, slot.decode(), min(state.rate, self._ceiling))
            missed += granted

    async def _lower(self, key: str, permit: Permit, wanted_s: float) -> None:
        for _ in range(CONFLICTS):
            at, passed, raw = await self._count_refusal(keys=self._keys(key), args=[permit.slot, COUNTED_S])
            now, (state, _calls) = float(at), _read(raw, self._ceiling)
            after = refused(state, now, int(passed), version=permit.version, paced=permit.rate)
            if after is state:
                break
            wait_s = max(wanted_s, pause_s(after, int(passed), permit.rate))
            if await self._apply(key, state, after, not_before=now + wait_s):
                return
        if wanted_s:
            await self._hold(keys=self._keys(key), args=[f"{now + wanted_s:.6f}", KEPT_S])

    async def _apply(self, key: str, before: RateState, after: RateState, *, not_before: float = 0.0) -> bool:
        if after is before:
            return False
        changed = [part for pair in asdict(after).items() for part in pair]
        args = [before.version, f"{not_before:.6f}", KEPT_S, *changed]
        is_changed = bool(await self._change(keys=self._keys(key), args=args))
        if is_changed:
            self._tell(key, after)
        return is_changed

    def _tell(self, key: str, state: RateState) -> None:
        told = self._told.setdefault(key, self._ceiling)
        self._known[key] = state.rate
        if abs(state.rate - told) > TOLD_APART * told:
            self._told[key] = state.rate
            logger.info("rate changed", page_id=key, calls_per_s=round(state.rate, 2), refused_at=round(state.bad, 2))

    def _found(self, key: str, state: RateState) -> None:
        self._known[key] = state.rate
        if self._away_since is not None:
            away_s = round(time.monotonic() - self._away_since)
            self._away_since = None
            self._careful.clear()
            logger.info("rate limit shared again", seconds_away=away_s)

    def _lost(self, error: Exception) -> None:
        self._ask_at = time.monotonic() + ASK_AGAIN_S
        if self._away_since is None:
            self._away_since = time.monotonic()
            logger.warning("rate limit not shared: Redis is away", error=type(error).__name__)

    async def _wait_for_hold(self, key: str) -> None:
        await self._sleep(key, self._held_until.get(key, 0.0) - time.monotonic())

    async def _sleep(self, key: str, wait_s: float) -> None:
        if wait_s > self._longest_wait_s:
            raise Snooze(f"page {key} takes no call for another {wait_s:.0f} s", after_s=wait_s)
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _paced(self, limiters: dict[str, AsyncLimiter], key: str, per_s: float) -> None:
        # AsyncLimiter(n, t) lets 2n through in its first t seconds; (1, 1/n) does not
        if key not in limiters:
            limiters[key] = AsyncLimiter(1, 1 / per_s)
        await limiters[key].acquire()

    def _keys(self, key: str) -> list[str]:
        return [f"{self._prefix}{{{key}}}", f"{self._prefix}{{{key}}}:slots"]


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Bounds what Redis takes to answer (TimeoutError), and loses no cancellation that comes meanwhile.

    A connection with a socket timeout of redis-py's own may drop one, see `clients.redis`; ours has none, yours may.
    """
    task = asyncio.current_task()
    cancelled_before = task.cancelling() if task else 0
    async with asyncio.timeout(REDIS_ANSWERS_S):
        yield
    if task and task.cancelling() > cancelled_before:
        raise asyncio.CancelledError


def _read(raw: list[bytes], ceiling: float) -> tuple[RateState, int]:
    """The state and the number of calls since it changed, from a hash as Redis lists it."""
    found: dict[str, Any] = {raw[i].decode(): raw[i + 1] for i in range(0, len(raw), 2)}
    values = {name: int(found[name]) if name in _WHOLE else float(found[name]) for name in _STATE if name in found}
    return RateState(**{"rate": ceiling, **values}), int(found.get("calls", 0))  # type: ignore[arg-type]
