"""What several kinds of trouble are found from, read once a look."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ...catalog import CATALOG
from ...clients.redis import in_time
from ...deps import Deps
from ...engine.facts import QueueStats
from ...engine.queue import Queue
from ...scheduling.book import Book, book_of

NEAR_S = 1.0  # clocks so near to each other are the same


@dataclass(frozen=True, slots=True)
class View:
    """`now`: Unix seconds, by Redis' clock, as ticks and starts are; `lanes`: how each stands; `book`: the schedules,
    with how far they came.
    """

    deps: Deps
    now: float
    queue: Queue
    lanes: Mapping[str, QueueStats]
    book: Book

    def ago(self, seconds: float) -> datetime:
        """The instant so long before now."""
        return datetime.fromtimestamp(self.now - seconds, UTC)

    def local(self, at: float) -> str:
        """An instant as people of the shop write it: `2026-05-14 02:00`."""
        return f"{datetime.fromtimestamp(at, self.deps.settings.service.zone):%Y-%m-%d %H:%M}"


async def view_of(deps: Deps) -> View:
    """Raises Transient where Redis does not answer, and what motor raises where MongoDB does not."""
    queue = Queue(deps.redis, CATALOG)
    book = book_of(deps.settings, await deps.schedules.all(), CATALOG)
    return View(deps, deps.now() - await _ahead_s(deps), queue, await queue.stats(), book)


async def _ahead_s(deps: Deps) -> float:
    """How far this machine's clock is before Redis': what others did in time would look late by it, look after look."""
    async with in_time():
        seconds, micros = await deps.redis.time()
    ahead_s = time.time() - seconds - micros / 1e6
    return ahead_s if abs(ahead_s) > NEAR_S else 0.0
