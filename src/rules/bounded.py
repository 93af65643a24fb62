"""A memory that is bounded by what is in it."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """Keeps values of together at most `most` (bytes, as the caller counts them); the oldest are forgotten first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def put(self, key: K, value: V, size: int) -> None:
        """Keep `value` in place of what was there."""
        self.pop(key)
        self._kept[key] = value, size
        self._size += size
        while self._size > self._most:
            _, (_, gone) = self._kept.popitem(last=False)
            self._size -= gone

    def pop(self, key: K) -> V | None:
        """Take it out; None where it is not there (any more)."""
        value, size = self._kept.pop(key, (None, 0))
        self._size -= size
        return value
