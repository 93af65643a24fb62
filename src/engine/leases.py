"""Keeps the leases of the running jobs, and watches the event loop, from a thread of its own.

A job that computes for a minute blocks the event loop. Were the leases renewed there, other workers would take the
whole process for dead, run its jobs a second time, and in the end call them killers. So a thread renews them, says
who blocks the loop, and gives up only when no job could still be within its timeout.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Self

from loguru import logger
from redis.exceptions import RedisError

from ..clients.redis import open_redis
from ..errors import ServiceError
from ..settings import Settings
from . import metrics
from .claims import Claims

BEAT_S = 0.25
AWAY_S = 0.5  # until a renewal that failed is tried again, at most
END_S = 1.0  # for the thread to end; it holds nothing, and ends with the process at the latest
STACK_KEPT = 6  # innermost frames of a blocked loop


class LeaseKeeper:
    """`held()` gives (lane, job id) of all jobs held here, and is called from the thread; `on_lost` in the event loop.

    `unconfirmed()`: those of them that were handed over a moment ago: one that computes from its first line leaves the
    event loop no time to tell Redis so, and would be run elsewhere as well.
    `blocked_s`: when a standing loop is reported; `give_up_s`: when its jobs are left to others.
    """

    def __init__(
        self,
        settings: Settings,
        token: str,
        held: Callable[[], list[tuple[str, str]]],
        unconfirmed: Callable[[], list[tuple[str, str]]],
        on_lost: Callable[[list[str]], None],
        *,
        give_up_s: float,
    ) -> None:
        self._settings = settings
        self._token = token
        self._held = held
        self._unconfirmed = unconfirmed
        self._on_lost = on_lost
        self._lease_s = settings.worker.lease_seconds
        self._blocked_s = min(1.0, self._lease_s / 3)
        self._away_s = min(AWAY_S, self._lease_s / 10)
        self._give_up_s = give_up_s
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._beat_at = time.monotonic()
        self._beat: asyncio.TimerHandle | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def __enter__(self) -> Self:
        self._tick()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._beat:
            self._beat.cancel()
        self._thread.join(timeout=END_S)

    def _tick(self) -> None:
        self._beat_at = time.monotonic()
        self._beat = self._loop.call_later(BEAT_S, self._tick)

    def _run(self) -> None:
        # a plain loop: uvloop installs handlers that belong to the main thread
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            while not self._ended.is_set():
                try:
                    runner.run(self._keep())
                except (RedisError, OSError, ServiceError) as e:
                    logger.warning("leases not renewed", error=type(e).__name__)
                    self._ended.wait(self._away_s)
                except Exception as e:  # noqa: BLE001 - without leases every job would run twice
                    logger.opt(exception=e).error("lease keeper hit a bug")
                    self._ended.wait(self._away_s)

    async def _keep(self) -> None:
        async with open_redis(self._settings.redis) as redis:
            lanes = self._settings.lanes
            claims = Claims(redis, self._token, lease_s=self._lease_s, head_start_s=lanes.priority_head_start_seconds)
            renew_at, reported = 0.0, False
            while not self._ended.is_set():
                stands_s = time.monotonic() - self._beat_at - BEAT_S
                reported = self._report(stands_s, reported)
                if stands_s < self._give_up_s:
                    is_due = time.monotonic() >= renew_at
                    if is_due:  # counted from the start of this one: a slow Redis must not stretch the rhythm
                        renew_at = time.monotonic() + self._lease_s / 3
                    pairs = self._held() if is_due else self._unconfirmed()
                    if (is_due or pairs) and (lost := await claims.renew(pairs)):
                        self._loop.call_soon_threadsafe(self._on_lost, lost)
                await asyncio.sleep(BEAT_S)

    def _report(self, stands_s: float, reported: bool) -> bool:
        """Say once per standstill that the loop is blocked and where; returns whether it is."""
        if stands_s < self._blocked_s:
            return False
        if not reported:
            frame = sys._current_frames().get(self._watched)
            stack = traceback.format_stack(frame)[-STACK_KEPT:] if frame else []
            logger.error("event loop is blocked", seconds=round(stands_s, 1), stack="".join(stack))
        metrics.BLOCKED.inc(BEAT_S)
        return True
