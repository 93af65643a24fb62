"""Sets of whole seconds as closed intervals.

A `Spans` is ascending, disjoint and not touching: `((0, 9), (12, 12))` holds the seconds 0-9 and 12. Seconds are the
grain, so `(0, 9)` and `(10, 20)` touch and merge. An interval whose end lies before its start is empty and vanishes.
"""

from collections.abc import Iterable

Interval = tuple[int, int]
Spans = tuple[Interval, ...]


def union(*sets: Iterable[Interval]) -> Spans:
    """Every second that is in any of `sets`; the intervals given may overlap and stand in any order."""
    merged: list[Interval] = []
    for start, end in sorted(interval for spans in sets for interval in spans if interval[0] <= interval[1]):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)


def subtract(spans: Iterable[Interval], holes: Iterable[Interval]) -> Spans:
    """The seconds of `spans` that are not in `holes`."""
    rest: list[Interval] = []
    cuts = union(holes)
    for start, end in union(spans):
        at = start
        for low, high in cuts:
            if high < at:
                continue
            if low > end:
                break
            rest.append((at, low - 1))
            at = high + 1
        rest.append((at, end))
    return union(rest)


def clip(spans: Iterable[Interval], low: int, high: int) -> Spans:
    """The seconds of `spans` from `low` to `high`, both included."""
    return union((max(start, low), min(end, high)) for start, end in spans)


def seconds_in(spans: Iterable[Interval]) -> int:
    """How many seconds `spans` holds."""
    return sum(end - start + 1 for start, end in union(spans))
