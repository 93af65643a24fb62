"""A shelf of rows in time order, with what readers see lagging behind what is true."""

import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from sortedcontainers import SortedList

Key = tuple[int, str]


class Version(Protocol):
    """One state of a row. A change makes a new object; only the cached text is set later."""

    rid: str
    inserted_us: int
    updated_us: int
    version: int
    body: bytes | None


V = TypeVar("V", bound=Version)


class Shelf(Generic[V]):
    """Rows of one kind of one page: `latest` is the truth, `visible` is what lists show.

    Lists are kept sorted by (stamp, id), so a window is two bisections however long the shelf is.
    """

    def __init__(self, render: Callable[[V], bytes]) -> None:
        self.latest: dict[str, V] = {}
        self.visible: dict[str, V] = {}
        #: Ids in the order of insertion, but the last one takes the place of a deleted one: for picking at random.
        self.ids: list[str] = []
        self._place: dict[str, int] = {}
        self._by_updated: SortedList[Key] = SortedList()
        self._by_inserted: SortedList[Key] = SortedList()
        #: Heap of (visible_at_us, serial, version) not shown yet.
        self._pending: list[tuple[int, int, V]] = []
        self._serial = 0
        self._render = render
        self._render_key: tuple[object, ...] = ()

    def __len__(self) -> int:
        return len(self.latest)

    def load(self, versions: Iterable[V]) -> None:
        """Put many new rows on the shelf at once, visible at once."""
        for version in versions:
            self._admit(version)
            self.visible[version.rid] = version
        self.resort()

    def resort(self) -> None:
        """Put rows that were edited in place where their stamps belong."""
        for keys in (self._by_updated, self._by_inserted):
            keys.clear()
        self._by_updated.update((v.updated_us, v.rid) for v in self.visible.values())
        self._by_inserted.update((v.inserted_us, v.rid) for v in self.visible.values())

    def put(self, version: V, visible_at_us: int, now_us: int) -> None:
        """Make a version the truth now, and show it from `visible_at_us` on."""
        if version.rid not in self.latest:
            self._admit(version)
        self.latest[version.rid] = version
        if visible_at_us <= now_us:
            self._show(version)
        else:
            self._serial += 1
            heapq.heappush(self._pending, (visible_at_us, self._serial, version))

    def delete(self, rid: str) -> None:
        """Take a row away, from the truth and from sight."""
        del self.latest[rid]
        place, last = self._place.pop(rid), self.ids.pop()
        if last != rid:
            self.ids[place] = last
            self._place[last] = place
        shown = self.visible.pop(rid, None)
        if shown is not None:
            self._by_updated.remove((shown.updated_us, rid))
            self._by_inserted.remove((shown.inserted_us, rid))

    def flush(self, now_us: int | None = None) -> None:
        """Show the versions whose time has come; all of them when no time is given."""
        while self._pending and (now_us is None or self._pending[0][0] <= now_us):
            self._show(heapq.heappop(self._pending)[2])

    def pick(self, rng: random.Random, count: int) -> list[str]:
        """Pick ids of different rows at random, fewer when there are fewer."""
        if count == 1 and self.ids:
            return [rng.choice(self.ids)]
        return rng.sample(self.ids, min(count, len(self.ids)))

    def page(
        self, order_by: str, lo_us: int, hi_us: int, *, exclusive: bool, number: int, size: int
    ) -> tuple[int, list[str]]:
        """Return how many rows lie in the window now, and the ids of its page `number` (1-based), newest first."""
        keys, start, stop = self._window(order_by, lo_us, hi_us, exclusive)
        top = stop - (number - 1) * size
        if top <= start:
            return max(0, stop - start), []
        return stop - start, [key[1] for key in keys.islice(max(start, top - size), top, reverse=True)]

    def older(
        self, order_by: str, lo_us: int, hi_us: int, below: V | None = None, *, exclusive: bool = False
    ) -> Iterator[V]:
        """Go through the visible rows of a window, newest first, beginning below a given row."""
        keys, start, stop = self._window(order_by, lo_us, hi_us, exclusive)
        if below is not None:
            stop = min(stop, keys.bisect_left((_stamp(below, order_by), below.rid)))
        if stop > start:
            for _, rid in keys.islice(start, stop, reverse=True):
                yield self.visible[rid]

    def bodies(self, rids: Iterable[str], render_key: tuple[object, ...]) -> list[bytes]:
        """Return the JSON text of visible rows; texts of another `render_key` are thrown away first."""
        if render_key != self._render_key:
            self._render_key = render_key
            for version in self.latest.values():
                version.body = None
            for version in self.visible.values():
                version.body = None
        visible, render = self.visible, self._render
        out: list[bytes] = []
        for rid in rids:
            version = visible[rid]
            if version.body is None:
                version.body = render(version)
            out.append(version.body)
        return out

    def _window(self, order_by: str, lo_us: int, hi_us: int, exclusive: bool) -> tuple["SortedList[Key]", int, int]:
        keys = self._by_updated if order_by == "updated_at" else self._by_inserted
        if exclusive:
            return keys, keys.bisect_left((lo_us + 1, "")), keys.bisect_left((hi_us, ""))
        return keys, keys.bisect_left((lo_us, "")), keys.bisect_left((hi_us + 1, ""))

    def _admit(self, version: V) -> None:
        self.latest[version.rid] = version
        self._place[version.rid] = len(self.ids)
        self.ids.append(version.rid)

    def _show(self, version: V) -> None:
        rid = version.rid
        if rid not in self.latest:
            return  # deleted before it was ever seen
        shown = self.visible.get(rid)
        if shown is not None:
            if shown.version >= version.version:
                return  # a later change overtook this one
            self._by_updated.remove((shown.updated_us, rid))
            self._by_inserted.remove((shown.inserted_us, rid))
        self.visible[rid] = version
        self._by_updated.add((version.updated_us, rid))
        self._by_inserted.add((version.inserted_us, rid))


def _stamp(version: Version, order_by: str) -> int:
    return version.updated_us if order_by == "updated_at" else version.inserted_us
