"""From an HTTP request into the queue: stored in Redis when `take` returns, many callers' events in one call."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from ..batcher import Batcher
from ..catalog import ingest_pancake_event
from ..engine.queue import NewJob, Queue
from ..errors import Transient

DEADLINE_S = 2.0  # Pancake's documents advise to answer within 5
MOST = 200  # events in one call
MOST_WAITING = 2_000  # callers; beyond that, waiting would only end at the deadline


@dataclass(frozen=True, slots=True)
class _Waiting:
    job: NewJob
    until: float  # monotonic; then the caller has been answered


class Intake:
    """Puts events into the lane of `ingest_pancake_event`. Safe for many tasks at once."""

    def __init__(self, queue: Queue, *, deadline_s: float = DEADLINE_S) -> None:
        self._queue = queue
        self._deadline_s = deadline_s
        self._waiting = 0
        # two at once: one connection that hangs does not stop the other, and more would only make smaller batches
        self._batcher: Batcher[_Waiting, str] = Batcher(self._put, most=MOST, at_once=2)

    async def take(self, event: dict[str, Any], received_at: float) -> None:
        """Store one event that came at `received_at` (Unix seconds); it is safe in Redis on return.

        Raises Transient where Redis has not said so within the deadline; it may be stored then all the same. Raises
        Misuse for what a job cannot carry: nested too deep, or too large as written anew.
        """
        if self._waiting >= MOST_WAITING:
            raise Transient("too many events wait for Redis")
        arguments = {"event": event, "received_at": received_at}
        job = self._queue.prepare(ingest_pancake_event.name, arguments)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._batcher(_Waiting(job, time.monotonic() + self._deadline_s))
        except TimeoutError as e:
            raise Transient(f"Redis did not take the event within {self._deadline_s:g} s") from e
        finally:
            self._waiting -= 1

    async def _put(self, batch: list[_Waiting]) -> list[str | Exception]:
        now = time.monotonic()
        # who was told to come again will: what they brought need not pile up while Redis is away
        alive = [each for each in batch if each.until > now]
        async with asyncio.timeout(self._deadline_s):
            stored = iter(await self._queue.put([each.job for each in alive]))
        late = Transient("its caller has been answered")
        return [next(stored) if each.until > now else late for each in batch]
