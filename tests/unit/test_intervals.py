"""Interval sets against plain sets of seconds: whatever the intervals, both say the same."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from src.rules.intervals import Interval, Spans, clip, seconds_in, subtract, union

#: Overlapping, touching, nested, unordered and empty (end before start) intervals, close enough to meet often.
MANY = st.lists(st.tuples(st.integers(-5, 40), st.integers(-5, 40)), max_size=8)
SECOND = st.integers(-6, 41)


def seconds(spans: list[Interval] | Spans) -> set[int]:
    return {second for start, end in spans for second in range(start, end + 1)}


def is_canonical(spans: Spans) -> bool:
    ordered = all(start <= end for start, end in spans)
    return ordered and all(left[1] + 1 < right[0] for left, right in pairwise(spans))


@given(st.lists(MANY, max_size=4))
def test_union_holds_every_second_of_every_set(sets: list[list[Interval]]) -> None:
    """A union is the seconds of all sets, in canonical form."""
    result = union(*sets)
    assert is_canonical(result)
    assert seconds(result) == set().union(*(seconds(spans) for spans in sets))


@given(MANY, MANY)
def test_subtract_leaves_the_seconds_that_are_not_in_the_holes(spans: list[Interval], holes: list[Interval]) -> None:
    """What is left plus what was cut away is what there was, and the two do not meet."""
    result = subtract(spans, holes)
    assert is_canonical(result)
    assert seconds(result) == seconds(spans) - seconds(holes)


@given(MANY, SECOND, SECOND)
def test_clip_keeps_the_seconds_between_its_bounds(spans: list[Interval], low: int, high: int) -> None:
    """Both bounds belong to what is kept; bounds the wrong way round keep nothing."""
    result = clip(spans, low, high)
    assert is_canonical(result)
    assert seconds(result) == seconds(spans) & set(range(low, high + 1))


@given(MANY)
def test_canonical_form_is_unique(spans: list[Interval]) -> None:
    """Equal sets are equal values, so states can be compared and stored; twice is once."""
    result = union(spans)
    assert union(result) == result
    assert union(reversed(result)) == result
    assert union([(second, second) for second in seconds(spans)]) == result


@given(MANY)
def test_seconds_in_counts_each_second_once(spans: list[Interval]) -> None:
    """Overlaps are not counted twice and empty intervals not at all."""
    assert seconds_in(spans) == len(seconds(spans))
