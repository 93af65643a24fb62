"""Who may call an endpoint now, over all workers: calls under way, a breaker, pauses it asked for, a rate.

Redis holds it, on its own clock, so that ten workers together keep the cap and make one probe. Each endpoint has a hash
(failures in a row, until when it is closed, how many calls it stands) and a sorted set of the calls under way, each
with the time after which its caller must be dead. All of it is a record of the last minutes: lost with Redis, it is
learnt again.

Breaker (M. Nygard, "Release It!", 2007): a number of failures in a row closes the gate for a time that doubles with
each failing probe, one probe at a time; after any pause an endpoint begins with one call at a time, and each success
allows one more (slow start, RFC 5681), so that what has piled up does not knock it down again. An overload halves it.
"""

from dataclasses import dataclass
from random import random
from typing import Any, Literal

import orjson
from redis.asyncio import Redis

from ...batcher import Batcher
from ..redis import in_time

KEPT_MS = 8 * 86_400_000
GATE, INSIDE = "folkform:gate:", "folkform:gate-inside:"
VERSION = "folkform:webhook-endpoints"  # how often any endpoint was changed: who knows them from before can tell
SPREAD = 0.2  # of a closed time: endpoints that fell together are not probed together

# ARGV: a JSON list of questions. {'enter', endpoint, call, cap, ms per call or 0, ms until the caller must be dead,
# failures that close} -> {'go' | 'probe' | 'busy' | 'closed', ms to wait, 'hold' | 'breaker' | '', is scout}
# {'leave', endpoint, call, 'ok' | 'fail' | 'none', ms of a pause asked for, is overloaded, cap, failures that close,
#  ms closed first, ms closed at most} -> {'open' | 'recovered' | 'closed', ms closed, failures in a row}
_GATE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function numbers(key)
  local found = redis.call('HMGET', key, 'fails', 'opens', 'until', 'window', 'free_at', 'probe_until')
  local n = {}
  for at = 1, 6 do n[at] = tonumber(found[at]) or 0 end
  return n
end
local function ms(value) return string.format('%.0f', value) end

local function enter(gate, inside, call, cap, per_call, dead_after, limit)
  local fails, _, closed_until, window, free_at, probe_until = unpack(numbers(gate))
  local is_probe = limit > 0 and fails >= limit
  if closed_until > now then
    local scout = redis.call('HMGET', gate, 'scout', 'scout_until')
    if scout[2] ~= ms(closed_until) then
      redis.call('HSET', gate, 'scout', call, 'scout_until', ms(closed_until))
      scout[1] = call
    end
    return {'closed', closed_until - now, is_probe and 'breaker' or 'hold', scout[1] == call and 1 or 0}
  end
  if is_probe and probe_until > now and redis.call('HGET', gate, 'probe') ~= call then
    return {'closed', math.min(probe_until - now, 1000), 'breaker', 0}
  end
  redis.call('ZREMRANGEBYSCORE', inside, '-inf', now)
  local is_inside = redis.call('ZSCORE', inside, call)
  if not is_inside and not is_probe then
    if window > 0 then cap = math.min(cap, window) end
    if redis.call('ZCARD', inside) >= cap then return {'busy', 0, '', 0} end
    if per_call > 0 and free_at > now then return {'busy', free_at - now, '', 0} end
  end
  if per_call > 0 then
    redis.call('HSET', gate, 'free_at', ms(math.max(free_at, now) + per_call))
    redis.call('PEXPIRE', gate, KEPT)
  end
  if is_probe then redis.call('HSET', gate, 'probe', call, 'probe_until', ms(now + dead_after)) end
  redis.call('ZADD', inside, now + dead_after, call)
  redis.call('PEXPIRE', inside, dead_after)
  return {is_probe and 'probe' or 'go', 0, '', 0}
end

local function leave(gate, inside, call, how, pause, overloaded, cap, limit, first, most)
  redis.call('ZREM', inside, call)
  local fails, opens, closed_until, window = unpack(numbers(gate))
  local state, closed = 'open', 0
  if redis.call('HGET', gate, 'probe') == call then redis.call('HDEL', gate, 'probe', 'probe_until') end
  if how == 'ok' and closed_until > now and not (limit > 0 and fails >= limit) then
    redis.call('HSET', gate, 'fails', 0, 'opens', 0) -- it was under way as the pause was asked for, which still holds
    return {state, 0, 0}
  end
  if how == 'ok' then
    if closed_until > 0 then state = 'recovered' end
    if window > 0 then window = window + 1 end
    if fails > 0 or opens > 0 or closed_until > 0 or window > 0 then
      redis.call('HSET', gate, 'fails', 0, 'opens', 0, 'until', 0, 'window', window >= cap and 0 or ms(window))
    end
    return {state, 0, 0}
  end
  if how == 'fail' then
    fails = fails + 1
    if limit > 0 and fails >= limit and closed_until <= now then
      closed = math.min(first * 2 ^ math.min(opens, 30), most)
      opens, window, state = opens + 1, 1, 'closed'
    end
  end
  if pause > 0 then
    closed, window, state = math.max(closed, pause), 1, 'closed'
  elseif overloaded and state == 'open' then
    window = math.max(1, math.floor((window > 0 and window or cap) / 2))
  end
  if how == 'fail' or pause > 0 or overloaded then
    if closed > 0 then closed_until = math.max(closed_until, now + closed) end
    redis.call('HSET', gate, 'fails', fails, 'opens', opens, 'until', ms(closed_until), 'window', ms(window))
    redis.call('PEXPIRE', gate, KEPT)
  end
  return {state, closed, fails}
end

local version = redis.call('GET', VERSION) or '0'
local answers = {}
for _, question in ipairs(cjson.decode(ARGV[1])) do
  local kind, endpoint = question[1], question[2]
  local ask = kind == 'enter' and enter or leave
  local answer = ask(GATE .. endpoint, INSIDE .. endpoint, unpack(question, 3))
  answer[#answer + 1] = version
  answers[#answers + 1] = answer
end
return answers
"""
_NAMES = f"local GATE, INSIDE, VERSION, KEPT = '{GATE}', '{INSIDE}', '{VERSION}', {KEPT_MS}\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """How an endpoint may be called: `cap` calls at once, `rate_per_second` or None, and for how long one may take.

    The breaker closes after `breaker_failures` in a row (0 = never), for `closed_s` at first, at most `closed_most_s`.
    """

    cap: int
    rate_per_second: float | None
    longest_s: float
    breaker_failures: int
    closed_s: float
    closed_most_s: float


@dataclass(frozen=True, slots=True)
class Entry:
    """`go`, or `probe` where the breaker tries whether it is well again; `busy`: ask again, in `wait_s` where that is
    known; `closed` for `wait_s`, because of `why`: it asked for a pause (`hold`), or the breaker.

    `is_scout`: of all that were refused, this call is the one that is to be made when the time is over.
    """

    kind: Literal["go", "probe", "busy", "closed"]
    wait_s: float = 0.0
    why: str = ""
    is_scout: bool = False
    version: bytes = b""  # of all endpoints, at this moment


@dataclass(frozen=True, slots=True)
class Exit:
    """How the gate stands after a call: `recovered` with the first success after it was closed."""

    state: Literal["open", "recovered", "closed"]
    closed_s: float
    failures: int  # in a row


class Gate:
    """Raises what redis raises. Many who ask at once share a round trip."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(_NAMES + _GATE)
        self._ask = Batcher(self._ask_many, most=300)
        self._version = Batcher[None, bytes](self._version_many, most=1_000)

    async def enter(self, endpoint_id: str, call: str, limits: Limits) -> Entry:
        """Ask to make `call`. Safe to repeat with the same call: it counts once."""
        per_call_ms = 1000 / limits.rate_per_second if limits.rate_per_second else 0
        dead_after_ms = int(limits.longest_s * 1000)
        kind, wait_ms, why, is_scout, version = await self._ask(
            ("enter", endpoint_id, call, limits.cap, per_call_ms, dead_after_ms, limits.breaker_failures)
        )
        return Entry(kind.decode(), wait_ms / 1000, why.decode(), bool(is_scout), version)

    async def leave(
        self,
        endpoint_id: str,
        call: str,
        limits: Limits,
        *,
        how: Literal["ok", "fail", "none"],
        pause_s: float = 0.0,
        is_overloaded: bool = False,
    ) -> Exit:
        """Say how `call` ended; `none` where that says nothing of the endpoint. `pause_s`: what it asked for."""
        first_ms = limits.closed_s * 1000 * (1 + SPREAD * random())  # noqa: S311
        state, closed_ms, failures, _ = await self._ask(
            (
                *("leave", endpoint_id, call, how, pause_s * 1000, is_overloaded),
                *(limits.cap, limits.breaker_failures, first_ms, limits.closed_most_s * 1000),
            )
        )
        return Exit(state.decode(), closed_ms / 1000, failures)

    async def version(self) -> bytes:
        """Changes with every `changed`. Read it before the endpoints it is to stand for."""
        return await self._version(None)

    async def changed(self) -> None:
        """Say that an endpoint is being changed, or was: who knows it from before looks again."""
        async with in_time():
            await self._redis.incr(VERSION)

    async def forget(self, endpoint_id: str) -> None:
        """Open the gate and forget its failures: a person has enabled the endpoint."""
        async with in_time():
            await self._redis.delete(GATE + endpoint_id)

    async def closed(self, endpoint_ids: list[str]) -> dict[str, tuple[int, float]]:
        """For people: each endpoint's failures in a row, and until when it is closed (Unix seconds, 0 for not)."""
        async with in_time(), self._redis.pipeline(transaction=False) as pipe:
            for endpoint_id in endpoint_ids:
                pipe.hmget(GATE + endpoint_id, ["fails", "until"])
            rows = await pipe.execute() if endpoint_ids else []
        return {
            endpoint_id: (int(fails or 0), float(until or 0) / 1000)
            for endpoint_id, (fails, until) in zip(endpoint_ids, rows, strict=True)
        }

    async def _version_many(self, asked: list[None]) -> list[bytes | Exception]:
        async with in_time():
            version: bytes = await self._redis.get(VERSION) or b"0"
        return [version] * len(asked)

    async def _ask_many(self, questions: list[tuple[Any, ...]]) -> list[Any]:
        async with in_time():
            answers: list[Any] = await self._script(args=[orjson.dumps(questions)])
        return answers
