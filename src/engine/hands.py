"""What jobs ask of the queue they run in (`deps.Hands`), answered by the lanes."""

from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from .queue import Queue
from .slots import Slots

T = TypeVar("T")


class QueueHands:
    """Hands jobs on to `queue`; `slots` are those of the lanes the jobs run in, None where there are none."""

    def __init__(self, queue: Queue, slots: Slots | None = None) -> None:
        self._queue = queue
        self.slots = slots

    async def spawn(self, name: str, arguments: dict[str, Any], *, job_id: str | None = None, group: str = "") -> bool:
        """Enqueue a child; see `deps.Hands`."""
        job = self._queue.prepare(name, arguments, job_id=job_id, group=group)
        return await self._queue.put([job]) == [job.job_id]

    async def hurry(self, due: Sequence[tuple[str, float]]) -> None:
        """As `Queue.hurry`."""
        await self._queue.hurry(due)

    async def wait(self, job_ids: Sequence[str]) -> set[str]:
        """As `Queue.waits`."""
        return await self._queue.waits(job_ids)

    async def off_slot(self, waiting: Awaitable[T]) -> T:
        """As `Slots.off`."""
        return await (self.slots.off(waiting) if self.slots else waiting)
