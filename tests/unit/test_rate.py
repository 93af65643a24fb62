"""The rule of the adaptive rate, alone and against a simulated limiter on a clock of the test's own."""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.rules import rate
from src.rules.rate import FLOOR_PER_S, RateState, advanced, pause_s, refused

NEAR, MOST_REFUSED = 0.10, 0.02
SETTLED_S = 30.0
LATENESS_S = 0.004  # of a call on its way, at most

rates = st.floats(FLOOR_PER_S, 100)
states = st.builds(
    RateState,
    rate=rates,
    good=st.one_of(st.just(0.0), rates),
    bad=st.one_of(st.just(0.0), rates),
    since=st.floats(0, 1000),
    held_until=st.floats(0, 1000),
    step=st.floats(0.1, 1),
    streak=st.integers(0, 10),
    version=st.integers(10, 20),
    lowered=st.integers(0, 10),
)
times = st.floats(0, 2000)


@dataclass
class Run:
    """Calls paced by the rule, against a limiter that takes so many in any window of one second.

    `limits`: one for each `phase_s` seconds; `latency_s`: until the answer is known. Times are seconds from 0.
    """

    limits: list[int]
    ceiling: float
    phase_s: float
    latency_s: float = 0.002
    refused_count: bool = False  # whether a refused call takes room in the window
    seed: int = 1
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)  # since when, calls per second

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._state = RateState(self.ceiling)
        self._calls, self._free_at = 0, 0.0
        self._window: deque[float] = deque()
        self._passed: list[float] = []  # what left and was not refused so far
        self._answers: list[tuple[float, float, bool, int, float]] = []
        now, end = 0.0, self.phase_s * len(self.limits)
        while now < end:
            if self._answers and self._answers[0][0] <= self._free_at:
                now = self._answer()
            else:
                now = max(now, self._free_at)
                self._call(now)

    def _call(self, now: float) -> None:
        before = self._state
        self._calls += 1
        self._free_at = now + 1 / before.rate
        self._passed.append(now)
        arrives = now + self.latency_s / 2 + self._random.random() * LATENESS_S
        answer = (arrives + self.latency_s / 2, now, self._take(arrives), before.version, before.rate)
        heapq.heappush(self._answers, answer)
        self._become(now, advanced(before, now, self._calls, self.ceiling))

    def _take(self, at: float) -> bool:
        while self._window and self._window[0] <= at - 1:
            self._window.popleft()
        limit = self.limits[min(int(at // self.phase_s), len(self.limits) - 1)]
        is_taken = len(self._window) < limit
        if is_taken or self.refused_count:
            self._window.append(at)
        (self.accepted if is_taken else self.refused).append(at)
        return is_taken

    def _answer(self) -> float:
        now, left, is_taken, version, paced = heapq.heappop(self._answers)
        if not is_taken:
            self._passed.remove(left)
            passed = sum(left - rate.COUNTED_S < at <= left for at in self._passed)
            after = refused(self._state, now, passed, version=version, paced=paced)
            if after is not self._state:
                self._free_at = max(self._free_at, now + pause_s(after, passed, paced))
            self._become(now, after)
        return now

    def _become(self, now: float, after: RateState) -> None:
        if after is not self._state:
            self._state, self._calls = after, 0
            self.rates.append((now, after.rate))

    def mean_rate(self, start: float, end: float) -> float:
        """Calls per second that were accepted in [start, end)."""
        return sum(start <= at < end for at in self.accepted) / (end - start)

    def refused_share(self) -> float:
        """Refused calls as a part of all."""
        return len(self.refused) / (len(self.refused) + len(self.accepted))


@given(states, times, st.integers(0, 50), st.integers(0, 20), rates)
def test_a_refusal_never_raises_the_rate(state: RateState, now: float, passed: int, version: int, paced: float) -> None:
    """Nor does it lower it below the floor, and the pause after it is neither negative nor endless."""
    after = refused(state, now, passed, version=version, paced=paced)
    assert FLOOR_PER_S <= after.rate <= state.rate
    assert 0 < pause_s(after, passed, paced) <= 1 / FLOOR_PER_S + rate.WINDOW_S


@given(states, times, st.integers(0, 50), rates)
def test_refusals_of_calls_paced_before_the_last_one_change_nothing(
    state: RateState, now: float, passed: int, paced: float
) -> None:
    """One wave of calls, refused together, is one piece of news."""
    once = refused(state, now, passed, version=state.version, paced=paced)
    assert once.version > state.version
    assert refused(once, now + 0.1, passed, version=state.version, paced=paced) is once


@given(states, times, st.integers(0, 100), rates)
def test_calls_that_go_through_never_carry_the_rate_over_the_ceiling(
    state: RateState, now: float, calls: int, ceiling: float
) -> None:
    """Nor lower it, unless the ceiling itself was lowered; each change has a version of its own."""
    after = advanced(state, now, calls, ceiling)
    assert after.rate <= ceiling or after is state
    assert after.rate >= min(state.rate, ceiling)
    assert (after is state) == (after.version == state.version)
    if state.rate > ceiling:
        assert after.rate == ceiling


@pytest.mark.parametrize(
    ("elapsed_s", "calls", "becomes"),
    [(1.0, 4, 4.0), (3.0, 3, 4.0), (10.0, 8, 4.0), (2.0, 8, 4.4)],
    ids=["too soon", "too few", "not enough work", "tested"],
)
def test_a_rate_is_tried_out_before_a_higher_one(elapsed_s: float, calls: int, becomes: float) -> None:
    assert advanced(RateState(4.0), elapsed_s, calls, 100.0).rate == pytest.approx(becomes)


def test_a_refusal_that_comes_after_the_next_try_began_is_about_the_rate_of_its_call() -> None:
    """The answer was on its way while the rate was raised from 6 to 9."""
    raised = replace(RateState(9.0, good=4.0), version=3)
    assert refused(raised, 10.0, 5, version=2, paced=6.0).rate == pytest.approx(5 * rate.MARGIN)


def test_late_calls_cost_a_proven_rate_little_and_what_goes_on_is_believed() -> None:
    """After the second refusal the window is left to empty itself, so the third one counts the new limit."""
    once = refused(RateState(5.0, good=5.0), 10.0, 1, version=0, paced=5.0)
    assert once.rate == pytest.approx(5.0 * rate.LATENESS)
    twice = refused(once, 10.5, 1, version=once.version, paced=once.rate)
    assert twice.rate == pytest.approx(5.0 * rate.LATENESS**2)
    assert pause_s(twice, 1, once.rate) > rate.WINDOW_S
    thrice = refused(twice, 12.0, 2, version=twice.version, paced=twice.rate)
    assert thrice.rate == pytest.approx(2 * rate.MARGIN)


def test_refusals_that_counting_does_not_explain_halve_the_rate() -> None:
    state = RateState(8.0)
    for at in range(rate.BELIEVED_IN_A_ROW):
        state = refused(state, float(at), 20, version=state.version, paced=state.rate)
    assert refused(state, 10.0, 20, version=state.version, paced=state.rate).rate == state.rate / 2


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10), st.floats(1, 50), st.integers(0, 2**32))
def test_an_unknown_limit_is_found_within_thirty_seconds(limit: int, ceiling: float, seed: int) -> None:
    """From then on, at each moment but those of a try, the rate is the limit or our ceiling, less a tenth at most."""
    ran = Run([limit], ceiling, 60.0, seed=seed)
    wanted = min(limit, ceiling)
    settled = [value for at, value in ran.rates if at <= SETTLED_S][-1:] + [v for at, v in ran.rates if at > SETTLED_S]
    for value in settled:
        assert (1 - NEAR) * wanted <= value <= (1 + NEAR) * wanted
    # a lone refused call is a large part of what a limit of one leaves, so time is measured in whole calls
    assert ran.mean_rate(SETTLED_S, 60.0) >= (1 - NEAR) * wanted - 2 / SETTLED_S


@settings(max_examples=40, deadline=None)
@given(st.floats(45, 90), st.floats(8.5, 20), st.integers(0, 2**32))
def test_a_limit_that_moves_is_followed_within_thirty_seconds(phase_s: float, ceiling: float, seed: int) -> None:
    """5 -> 2 -> 8 a second: within 10 % of each, 30 s after the change, and one call in fifty refused at most."""
    ran = Run([5, 2, 8], ceiling, phase_s, seed=seed)
    for number, limit in enumerate(ran.limits):
        start, end = number * phase_s + SETTLED_S, (number + 1) * phase_s
        assert ran.mean_rate(start, end) == pytest.approx(limit, rel=NEAR, abs=1 / (end - start))
    assert ran.refused_share() <= MOST_REFUSED


@pytest.mark.parametrize(
    ("latency_s", "refused_count"),
    [(0.1, False), (0.3, False), (0.1, True)],
    ids=["near", "far", "refused calls take room"],
)
def test_slow_answers_and_a_limiter_that_counts_refusals_are_borne(latency_s: float, refused_count: bool) -> None:
    """More calls are refused then, because more have left before the first refusal is known."""
    ran = Run([5, 2, 8], 10.0, 60.0, latency_s=latency_s, refused_count=refused_count)
    for number, limit in enumerate(ran.limits):
        start, end = number * 60 + SETTLED_S, (number + 1) * 60
        assert ran.mean_rate(start, end) == pytest.approx(limit, rel=0.15)
    assert ran.refused_share() <= 2 * MOST_REFUSED


def test_a_rate_below_the_limit_is_never_refused_nor_changed() -> None:
    ran = Run([5], 4.0, 120.0)
    assert not ran.refused
    assert {value for _, value in ran.rates} <= {4.0}
    assert ran.mean_rate(0, 120) == pytest.approx(4.0, rel=0.01)
