"""How fast we send: limits kept before a provider has to remind us, and its reminders kept for who comes next.

Limits are those of this process: with N workers N times as much may be asked, and the provider's 429 is the last word.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from aiolimiter import AsyncLimiter

from ...errors import Transient

KEPT = 4096  # limiters; the longest unused goes first, and by then it would let everything through


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` messages at once, and as many in each `period_s` after."""

    key: str
    burst: float
    period_s: float


class Pace:
    """Lets messages through one by one; whoever would wait longer than `patience_s` is sent away to come back later."""

    def __init__(self, name: str, patience_s: float) -> None:
        self._name = name
        self._patience_s = patience_s
        self._limiters: OrderedDict[str, AsyncLimiter] = OrderedDict()
        self._held: dict[str, float] = {}  # key -> until when, on the event loop's clock

    async def turn(self, *limits: Limit) -> None:
        """Wait until all `limits` let one more message through. Raises Transient, with the time to come back after."""
        now = asyncio.get_running_loop().time()
        self._held = {key: until for key, until in self._held.items() if until > now}
        wait_s = max((self._held.get(limit.key, now) for limit in limits), default=now) - now
        if wait_s > 0:
            raise Transient(f"{self._name}: asked us to wait {wait_s:.0f} s", retry_after_s=wait_s, is_exact=True)
        try:
            async with asyncio.timeout(self._patience_s):
                for limit in limits:
                    await self._limiter(limit).acquire()
        except TimeoutError:
            raise Transient(
                f"{self._name}: more messages wait than its limits let through",
                retry_after_s=max(limit.period_s / limit.burst for limit in limits),
            ) from None

    def hold(self, key: str, seconds: float | None) -> None:
        """The provider asked for a pause: nobody sends under `key` before it is over."""
        if seconds:
            self._held[key] = asyncio.get_running_loop().time() + seconds

    def _limiter(self, limit: Limit) -> AsyncLimiter:
        limiter = self._limiters.get(limit.key)
        if limiter is None:
            limiter = self._limiters[limit.key] = AsyncLimiter(limit.burst, limit.period_s)
            if len(self._limiters) > KEPT:
                self._limiters.popitem(last=False)
        self._limiters.move_to_end(limit.key)
        return limiter
