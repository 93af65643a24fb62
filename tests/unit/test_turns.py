"""Whose call is next, in this process: limits, order, and fair shares of time."""

import heapq
from collections import Counter, defaultdict
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.rules import turns as rule
from src.rules.turns import SLOW_S, Turns

KEYS = "abcd"


class Model:
    """Turns beside what it must be: who waits, who is under way, who is blocked until when."""

    def __init__(self, limit: int, caps: dict[str, int]) -> None:
        self.turns = Turns[int](limit)
        self.limit, self.caps, self.now = limit, caps, 0.0
        self.waiting: dict[str, list[int]] = defaultdict(list)
        self.under_way: Counter[str] = Counter()
        self.blocked: dict[str, float] = {}
        self.numbers = count()

    def ask(self, key: str, first: bool) -> None:
        """One more waits."""
        ticket = next(self.numbers)
        self.turns.ask(key, ticket, self.caps[key], first=first)
        self.waiting[key].insert(0 if first else len(self.waiting[key]), ticket)

    def grant(self) -> None:
        """All that may go, each the first of its line; then nobody may who waits."""
        while granted := self.turns.next(self.now):
            key, ticket = granted
            assert self.waiting[key].pop(0) == ticket
            assert self.may(key)
            self.under_way[key] += 1
        assert not [key for key in KEYS if self.waiting[key] and self.may(key)]

    def may(self, key: str) -> bool:
        """Whether the limits let one more call of `key` begin."""
        is_within = self.under_way.total() < self.limit and self.under_way[key] < self.caps[key]
        return is_within and self.blocked.get(key, 0.0) <= self.now

    def try_at_once(self, key: str) -> None:
        """Go without a ticket, which is allowed where nobody of the line waits and the limits are kept."""
        is_free = self.turns.is_free(key, self.caps[key], self.now)
        assert is_free == (not self.waiting[key] and self.may(key))
        if is_free:
            self.turns.begin(key, self.caps[key])
            self.under_way[key] += 1

    def done(self, key: str, took_s: float | None) -> None:
        """A call of `key` is over, where there is one."""
        if self.under_way[key]:
            self.under_way[key] -= 1
            self.turns.done(key, took_s)

    def block(self, key: str, for_s: float) -> None:
        """Nobody of `key` goes for so long; only what was ever heard of can be blocked."""
        if self.under_way[key]:
            self.turns.block(key, self.now + for_s)
            self.blocked[key] = self.now + for_s

    def leave(self, key: str, ticket: int) -> None:
        """A ticket leaves its line, in which it may not be any more."""
        self.turns.forget(key, ticket)
        if ticket in self.waiting[key]:
            self.waiting[key].remove(ticket)

    def dismiss(self, key: str) -> None:
        """All of the line leave it."""
        assert self.turns.dismiss(key) == self.waiting.pop(key, [])

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    def check(self) -> None:
        """What it says of itself."""
        assert self.turns.waiting == sum(map(len, self.waiting.values()))
        assert all(self.turns.length(key) == len(self.waiting[key]) for key in KEYS)


keys = st.sampled_from(KEYS)
steps = st.one_of(
    st.tuples(st.just("ask"), keys, st.booleans()),
    st.tuples(st.just("try_at_once"), keys),
    st.tuples(st.just("done"), keys, st.none() | st.floats(0.001, SLOW_S)),
    st.tuples(st.just("block"), keys, st.floats(0.0, 5.0)),
    st.tuples(st.just("leave"), keys, st.integers(0, 30)),
    st.tuples(st.just("dismiss"), keys),
    st.tuples(st.just("wait"), st.floats(0.0, 3.0)),
)


@settings(max_examples=300, deadline=None)
@given(
    limit=st.integers(1, 6),
    caps=st.fixed_dictionaries({key: st.integers(1, 4) for key in KEYS}),
    done=st.lists(steps, max_size=80),
)
def test_limits_are_kept_and_no_place_stays_empty(
    limit: int, caps: dict[str, int], done: list[tuple[str, *tuple[object, ...]]]
) -> None:
    """Whatever is asked in whatever order: never beyond limit or cap, first come first served, no place left unused."""
    model = Model(limit, caps)
    for name, *arguments in done:
        getattr(model, name)(*arguments)
        model.grant()
        model.check()
    for key in KEYS:
        model.turns.dismiss(key)
        while model.under_way[key]:
            model.done(key, None)
    assert all(model.turns.is_free(key, caps[key], model.now + 10) for key in KEYS)
    for number in range(limit):  # and all places are there again
        model.turns.begin(f"new-{number}", 1)
    assert not model.turns.is_free("one more", 1, model.now + 10)


class Run:
    """Endpoints that always have something to send, on a clock of the test's own; from `joins_at` on, where given."""

    def __init__(self, limit: int, takes_s: dict[str, float], *, cap: int | None = None) -> None:
        self.turns = Turns[int](limit)
        self.takes_s = takes_s
        self.cap = cap or limit
        self.now = 0.0
        self.used_s = dict.fromkeys(takes_s, 0.0)
        self.under_way: Counter[str] = Counter()
        self.most: Counter[frozenset[str]] = Counter()
        self.watched: list[frozenset[str]] = []
        self._ends: list[tuple[float, str, float]] = []
        self._numbers = count()

    def go_on(self, until_s: float) -> "Run":
        """Let calls begin and end up to that time."""
        for key in self.takes_s:
            while self.turns.length(key) < self.cap:
                self.turns.ask(key, next(self._numbers), self.cap)
        while self.now < until_s:
            while granted := self.turns.next(self.now):
                self._begin(granted[0])
            for each in self.watched:
                self.most[each] = max(self.most[each], sum(self.under_way[key] for key in each))
            self.now, key, took_s = heapq.heappop(self._ends)
            self.under_way[key] -= 1
            self.used_s[key] += took_s
            self.turns.done(key, took_s)
        return self

    def _begin(self, key: str) -> None:
        self.under_way[key] += 1
        heapq.heappush(self._ends, (self.now + self.takes_s[key], key, self.takes_s[key]))
        self.turns.ask(key, next(self._numbers), self.cap)


@settings(max_examples=60, deadline=None)
@given(limit=st.integers(1, 8), takes_s=st.lists(st.floats(0.02, SLOW_S * 0.95), min_size=2, max_size=5))
def test_time_is_shared_fairly(limit: int, takes_s: list[float]) -> None:
    """Endpoints that always have something to send get the same time, however long their calls take."""
    run = Run(limit, {f"{number}": seconds for number, seconds in enumerate(takes_s)}).go_on(400.0)
    fair_s = run.now * limit / len(takes_s)
    assert all(used_s == pytest.approx(fair_s, rel=0.1) for used_s in run.used_s.values()), run.used_s


def test_slow_endpoints_have_at_most_half() -> None:
    """Many that do not answer leave half of the places to those that do, as soon as they are known to be slow."""
    slow = {f"slow-{number}": 15.0 for number in range(20)}
    run = Run(10, {**slow, "quick": 0.1}, cap=8).go_on(300.0)
    run.watched = [frozenset(slow)]
    quick_s = run.used_s["quick"]
    run.go_on(840.0)
    assert run.most[frozenset(slow)] == 5
    assert run.used_s["quick"] - quick_s >= 540 * 5 * 0.95


def test_slow_endpoints_alone_share_their_half_fairly() -> None:
    """Among slow ones too it is time that is shared, not the number of calls."""
    run = Run(8, {"slow": 3.0, "slower": 12.0, "quick": 0.1}).go_on(2000.0)
    assert run.used_s["slow"] == pytest.approx(run.used_s["slower"], rel=0.15)


def test_one_slow_endpoint_is_served_where_there_is_one_place() -> None:
    """Half of one place is one place."""
    run = Run(1, {"slow": 5.0}).go_on(100.0)
    assert run.used_s["slow"] == pytest.approx(100.0)


def test_what_was_had_while_nobody_waited_is_not_held_against_it() -> None:
    """An endpoint that used idle places for an hour gets its share from the first moment others want them too."""
    run = Run(2, {"old": 1.0, "new": 1.0})
    for second in range(3600):
        assert run.turns.is_free("old", 2, second)
        run.turns.begin("old", 2)
        run.turns.done("old", 1.0)
    run.go_on(60.0)
    assert run.used_s["old"] == pytest.approx(run.used_s["new"], rel=0.1)


def test_an_endpoint_that_comes_back_has_saved_nothing_up() -> None:
    """Who was silent for an hour does not keep the others out when it comes back."""
    run = Run(2, {"old": 1.0}).go_on(3600.0)
    run.takes_s["new"] = 1.0
    run.used_s = dict.fromkeys(run.takes_s, 0.0)
    run.go_on(3660.0)
    assert run.used_s["old"] == pytest.approx(run.used_s["new"], rel=0.1)


def test_the_first_of_a_line_can_be_the_last_to_come() -> None:
    """Who had the turn and was told to ask again is not sent behind those who came later."""
    turns = Turns[str](1)
    turns.begin("a", 1)
    turns.ask("a", "later", 1)
    turns.ask("a", "again", 1, first=True)
    turns.done("a", None)
    assert turns.next(0.0) == ("a", "again")


def test_a_cap_can_change_while_calls_are_under_way() -> None:
    """A smaller cap lets nobody in until enough have left; a larger one does at once."""
    turns = Turns[int](10)
    for _ in range(3):
        turns.begin("a", 3)
    turns.ask("a", 1, 2)
    turns.done("a", 0.1)
    assert turns.next(0.0) is None
    turns.ask("a", 2, 4)
    assert [turns.next(0.0), turns.next(0.0)] == [("a", 1), ("a", 2)]


def test_endpoints_long_idle_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the merchants ever called; who waits or is called is kept."""
    monkeypatch.setattr(rule, "KEPT", 10)
    turns = Turns[int](100)
    turns.begin("called", 1)
    turns.begin("waited for", 1)
    turns.ask("waited for", 1, 1)
    for number in range(50):
        turns.begin(f"{number}", 1)
        turns.done(f"{number}", 0.1)
    assert len(turns._lines) <= 10
    turns.done("called", 1.0)
    turns.done("waited for", 1.0)
    assert turns.next(0.0) == ("waited for", 1)


def test_turns_go_round() -> None:
    """Of endpoints whose calls take the same, each has its turn before any has two."""
    run, order = Run(1, dict.fromkeys("abc", 0.3)), list[str]()
    for key in "abc":
        for number in range(4):
            run.turns.ask(key, number, 1)
    now = 0.0
    while granted := run.turns.next(now):
        order.append(granted[0])
        now += 0.3
        run.turns.done(granted[0], 0.3)
    assert len(order) == 12
    assert all(one != other for one, other in pairwise(order[3:]))
