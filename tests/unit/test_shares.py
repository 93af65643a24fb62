"""Lanes share the slots by weight, in a dispatcher of our own under a clock of our own."""

from collections import Counter, deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.rules.shares import Shares

FIVE = {"webhooks": 5.0, "periodic": 4.0, "webhooks_retry": 3.0, "monitoring": 2.0, "reports": 1.0}
TWO = {"old": 2.0, "new": 1.0}

slots_ = st.integers(1, 100)
lengths = st.floats(0.001, 10.0)


@dataclass
class Dispatcher:
    """Gives free slots to waiting jobs as `Lanes` and claim.lua do: it looks only when a slot is free."""

    weights: dict[str, float]
    slots: int
    now: float = 0.0
    #: (lane, start, end) of every job that got a slot, in the order they got it
    runs: list[tuple[str, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shares = Shares(self.weights, self.now)
        self.waiting: dict[str, deque[float]] = {lane: deque() for lane in self.weights}
        self.arrivals: list[tuple[float, int, str, float, int]] = []
        self.running: list[tuple[float, int, str, float]] = []

    def add(self, lane: str, length_s: float, count: int, *, at: float = 0.0) -> None:
        """`count` jobs of `length_s` arrive at `at`."""
        heappush(self.arrivals, (at, len(self.arrivals), lane, length_s, count))

    def run(self, *, jobs: float = inf, until: float = inf) -> None:
        """Until so many jobs have a slot, or so late, or nothing is left to do."""
        while len(self.runs) < jobs:
            self._arrive()
            self._claim()
            ends, arrives = [run[0] for run in self.running[:1]], [arrival[0] for arrival in self.arrivals[:1]]
            following = min(ends + arrives, default=inf)
            if following > until or following == inf:
                return
            self.now = following
            while self.running and self.running[0][0] <= self.now:
                _, _, lane, length_s = heappop(self.running)
                self.shares.ended(lane, length_s, self.now)

    def slot_time_s(self, lane: str, since: float, until: float) -> float:
        """How long jobs of `lane` held slots in that time."""
        return sum(max(0.0, min(end, until) - max(start, since)) for name, start, end in self.runs if name == lane)

    def _arrive(self) -> None:
        while self.arrivals and self.arrivals[0][0] <= self.now:
            _, _, lane, length_s, count = heappop(self.arrivals)
            self.waiting[lane].extend([length_s] * count)

    def _claim(self) -> None:
        free = self.slots - len(self.running)
        if not free:
            return
        places = {lane: (key, step) for lane, key, step in self.shares.keys(self.now)}
        dues = [(lane, len(jobs)) for lane, jobs in self.waiting.items()]
        started = []
        for _ in range(free):
            lane = min((lane for lane in places if self.waiting[lane]), key=lambda lane: places[lane][0], default=None)
            if lane is None:
                break
            key, step = places[lane]
            places[lane] = key + step, step
            started.append((lane, self.waiting[lane].popleft()))
        self.shares.seen(dues)
        for lane, length_s in started:
            self.shares.started(lane, self.now)
            self.runs.append((lane, self.now, self.now + length_s))
            heappush(self.running, (self.now + length_s, len(self.runs), lane, length_s))


@given(slots_, lengths)
@settings(max_examples=40, deadline=None)
def test_equal_jobs_finish_by_weight(slots: int, length_s: float) -> None:
    """5,000 jobs of full lanes stand 5:4:3:2:1, however long they are and however many run at once."""
    house = Dispatcher(FIVE, slots)
    for lane in FIVE:
        house.add(lane, length_s, 5_000)
    house.run(jobs=5_000)
    done = Counter(lane for lane, _, _ in house.runs[:5_000])
    for lane, weight in FIVE.items():
        assert done[lane] == pytest.approx(5_000 * weight / 15, rel=0.1)


@given(
    st.integers(1, 10),
    st.lists(st.tuples(st.sampled_from(list(FIVE)), lengths, st.integers(1, 20), st.floats(0, 30)), max_size=20),
)
@settings(max_examples=50, deadline=None)
def test_no_slot_is_idle_while_there_is_work(slots: int, work: list[tuple[str, float, int, float]]) -> None:
    """Weights share what is scarce; they never hold back a job that could run. And every job does run, once."""
    house = Dispatcher(FIVE, slots)
    for lane, length_s, count, at in work:
        house.add(lane, length_s, count, at=at)
    house.run()
    assert Counter(lane for lane, _, _ in house.runs) == sum(
        (Counter({lane: count}) for lane, _, count, _ in work), Counter()
    )
    waits = sorted((start, at) for at, start in _starts_and_arrivals(house, work))
    ends = [end for _, _, end in house.runs]
    for start, at in waits:
        if start > at:  # it waited: then all slots were taken until it got one
            assert sum(begun < start for _, begun, _ in house.runs) - sum(end < start for end in ends) >= slots


def _starts_and_arrivals(house: Dispatcher, work: list[tuple[str, float, int, float]]) -> list[tuple[float, float]]:
    pairs = []
    for lane in FIVE:
        starts = [start for name, start, _ in house.runs if name == lane]
        arrivals = sorted(at for name, _, count, at in work if name == lane for _ in range(count))
        pairs += list(zip(arrivals, starts, strict=True))
    return pairs


@given(slots_, lengths, st.sampled_from(list(FIVE)))
@settings(max_examples=50, deadline=None)
def test_a_lane_alone_has_every_slot(slots: int, length_s: float, lane: str) -> None:
    """A night of reports is done with all there is, though reports weigh least."""
    house = Dispatcher(FIVE, slots)
    house.add(lane, length_s, 3 * slots)
    house.run()
    assert house.now == pytest.approx(3 * length_s)


@given(slots=st.integers(1, 20), length_s=lengths, weight=st.floats(1, 10), late=st.floats(0.01, 0.99))
@settings(max_examples=50, deadline=None)
def test_a_lane_that_comes_back_is_owed_nothing(slots: int, length_s: float, weight: float, late: float) -> None:
    """An hour of silence buys no hour of all slots: from its first job on, the lane has its share and no more.

    Nobody looks at the lanes while all slots are taken, so the silence may end unseen, in the middle of long jobs.
    """
    house = Dispatcher({"old": 1.0, "new": weight}, slots)
    when = (3 + late) * length_s
    house.add("old", length_s, 30 * slots)
    house.add("new", length_s, 30 * slots, at=when)
    house.run(until=when + 20 * length_s)
    first = next(start for lane, start, _ in house.runs if lane == "new")
    # all slots may go to it once, while nobody knows how long its jobs are, and then a job of each is under way
    uneven = length_s * (slots / weight + 2 + 2 / weight)
    for rounds in (1, 2, 5, 10):
        until = first + rounds * length_s
        new, old = (house.slot_time_s(lane, first, until) for lane in ("new", "old"))
        assert new / weight - old <= uneven


@given(
    slots=st.integers(2, 20), slow_s=st.floats(0.5, 10), fast_s=st.floats(0.01, 0.05), weight=st.sampled_from([1, 2, 5])
)
@settings(max_examples=15, deadline=None)
def test_slow_jobs_beside_fast_ones_have_the_slots_by_weight(
    slots: int, slow_s: float, fast_s: float, weight: int
) -> None:
    """Counted in slot time: a lane cannot take more of the house just because each of its jobs stays longer."""
    house = Dispatcher({"slow": 1.0, "fast": float(weight)}, slots)
    seconds = 40 * slow_s * (weight + 1) / slots
    for lane, length_s in (("slow", slow_s), ("fast", fast_s)):
        house.add(lane, length_s, int(2 * seconds * slots / length_s))
    warm = seconds / 2
    house.run(until=seconds)
    slow, fast = (house.slot_time_s(lane, warm, seconds) for lane in ("slow", "fast"))
    # a slow job in or out of the counted time makes the difference
    assert slow / (slow + fast) == pytest.approx(1 / (1 + weight), abs=0.1)


@given(
    st.integers(1, 10),
    st.dictionaries(st.sampled_from(list(FIVE)), st.floats(0.01, 10), min_size=2),
)
@settings(max_examples=30, deadline=None)
def test_no_lane_starves(slots: int, lengths_s: dict[str, float]) -> None:
    """Whoever has work gets a slot in a time that depends on weights and job lengths alone, never on the backlog."""
    house = Dispatcher(FIVE, slots)
    longest, weight = max(lengths_s.values()), sum(FIVE[lane] for lane in lengths_s)
    seconds = 10 * longest * weight
    for lane, length_s in lengths_s.items():
        house.add(lane, length_s, 1 + int(seconds * slots / length_s))
    house.run(until=seconds, jobs=20_000)
    for lane in lengths_s:
        starts = [0.0, *(start for name, start, _ in house.runs if name == lane), house.now]
        gap = max(later - earlier for earlier, later in pairwise(starts))
        assert gap <= 3 * longest * weight / FIVE[lane]


def test_a_job_too_short_for_the_clock_is_charged_all_the_same() -> None:
    """Jobs of a microsecond would else cost nothing, and their lane would always be first."""
    shares = Shares(TWO, 0.0)
    for _ in range(1_000):
        shares.started("old", 0.0)
        shares.ended("old", 0.0, 0.0)
    (_, old, _), (_, new, _) = shares.keys(0.0)
    assert old == pytest.approx(1_000 * 0.01 / 2)
    assert new == 0.0
