"""How long things took, counted in buckets that can be added up: percentiles of any span from counts per minute.

A bucket is a quarter of a doubling wide, so a percentile is within 9 % of the true one (the middle of the bucket).
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PER_DOUBLING: Final = 4
LEAST_MS: Final = 0.1
LAST_BUCKET: Final = 160  # about a month
_BOUNDS_MS: Final = [LEAST_MS * 2 ** (bucket / PER_DOUBLING) for bucket in range(LAST_BUCKET)]


@dataclass(frozen=True, slots=True)
class Durations:
    """Of `runs` runs; seconds. With no runs all are 0."""

    runs: int
    p50_s: float
    p95_s: float
    p99_s: float
    longest_s: float


def bucket_of(ms: float) -> int:
    """The bucket of a duration: 0 up to `LEAST_MS`, one more for each quarter of a doubling."""
    return bisect_left(_BOUNDS_MS, ms)


def middle_ms(bucket: int) -> float:
    """What a duration in a bucket is taken for."""
    return float(LEAST_MS * 2 ** ((bucket - 0.5) / PER_DOUBLING)) if bucket else LEAST_MS


def percentile_ms(buckets: Mapping[int, int], share: float) -> float:
    """The duration that `share` (0 to 1) of those counted do not exceed; 0 where none is counted."""
    wanted = share * sum(buckets.values())
    counted = 0
    for bucket in sorted(buckets):
        counted += buckets[bucket]
        if counted and counted >= wanted:
            return middle_ms(bucket)
    return 0.0


def durations(buckets: Mapping[int, int], longest_ms: float) -> Durations:
    """What the buckets say; no percentile is above the longest."""
    p50, p95, p99 = (min(percentile_ms(buckets, share), longest_ms) / 1000 for share in (0.5, 0.95, 0.99))
    return Durations(sum(buckets.values()), p50, p95, p99, longest_ms / 1000)
