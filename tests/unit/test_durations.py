"""Percentiles from buckets, beside the exact ones."""

from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.durations import LAST_BUCKET, LEAST_MS, bucket_of, durations, middle_ms, percentile_ms

MS = st.floats(LEAST_MS, 1e9)


def exact(all_ms: list[float], share: float) -> float:
    """The nearest-rank percentile."""
    return sorted(all_ms)[max(1, ceil(share * len(all_ms))) - 1]


@given(st.lists(MS, min_size=1, max_size=200), st.floats(0, 1))
def test_a_percentile_is_within_nine_percent_of_the_exact_one(all_ms: list[float], share: float) -> None:
    """However the durations lie."""
    found = percentile_ms(Counter(map(bucket_of, all_ms)), share)
    assert found == pytest.approx(exact(all_ms, share), rel=0.091)


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_longer_ones_are_in_no_lower_bucket(one: float, other: float) -> None:
    """And there is a bucket for everything."""
    low, high = sorted((one, other))
    assert 0 <= bucket_of(low) <= bucket_of(high) <= LAST_BUCKET


@given(st.lists(MS, min_size=1), st.lists(MS, min_size=1))
def test_counts_of_two_spans_add_up(one: list[float], other: list[float]) -> None:
    """Minutes of many workers are those of one."""
    both = Counter(map(bucket_of, one)) + Counter(map(bucket_of, other))
    assert both == Counter(map(bucket_of, one + other))


def test_no_percentile_is_above_the_longest() -> None:
    """One run of 10 ms took 10 ms, not the middle of its bucket."""
    found = durations({bucket_of(10.0): 1}, 10.0)
    assert (found.runs, found.longest_s) == (1, 0.01)
    assert found.p50_s <= found.p99_s <= 0.01
    assert durations({}, 0.0).p99_s == 0.0
    assert middle_ms(0) == LEAST_MS
