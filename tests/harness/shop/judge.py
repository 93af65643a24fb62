"""Which alerts a script makes due, and what is wrong with those that came.

Written without the service's rules: episodes by walking through the messages, business time by walking through minutes.
A step is expected at the first tick at which it is due, the page can be read, and the customer waits still.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.harness.shop.script import DAY, MINUTE, ZONE_S, Script

TICK = 5 * MINUTE
EDGE_S = 5  # what falls due, or ends, this near to a tick may be seen by that tick or by the next one


@dataclass(frozen=True, slots=True)
class Wait:
    """A customer waits from `since` to `until` (None: to the end)."""

    thread: int
    since: int
    until: int | None


@dataclass(frozen=True, slots=True)
class Rules:
    """A page's policy, plainly: (name, business minutes after the first message), and shifts of each day of the week.

    `shifts`: for each weekday (0 = Monday) a list of (start minute, end minute) of the local day; `closed`: local days
    since 1970 on which nothing counts.
    """

    steps: tuple[tuple[str, int], ...]
    shifts: tuple[tuple[tuple[int, int], ...], ...]
    closed: frozenset[int] = frozenset()

    def counts(self, minute: int) -> bool:
        """Whether a minute since 1970 is business time."""
        local = minute * MINUTE + ZONE_S
        day, within = divmod(local, DAY)
        if day in self.closed:
            return False
        return any(first * MINUTE <= within < last * MINUTE for first, last in self.shifts[(day + 3) % 7])


@dataclass(frozen=True, slots=True)
class Told:
    """An alert that came: which conversation, which step, at which second of the script."""

    thread: int
    step: str
    at: float


@dataclass(slots=True)
class Verdict:
    """`missing`: due and never told. `false`: told without being due. `repeated`: told more than once. `late`: told
    after the tick that was to tell of it. The numbers have to be 0; `expected` says how much was to be told."""

    expected: int = 0
    missing: int = 0
    false: int = 0
    repeated: int = 0
    late: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether all came as it should."""
        return not (self.missing or self.false or self.repeated or self.late)

    def note(self, kind: str, what: str) -> None:
        """Count a fault, and keep the first few for people."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < 20:
            self.examples.append(f"{kind}: {what}")


def waits(script: Script) -> list[Wait]:
    """Every episode of the script."""
    open_since: dict[int, int] = {}
    found: list[Wait] = []
    for event in script.events:
        if event.who == "customer":
            open_since.setdefault(event.thread, event.at)
        elif event.who in ("agent", "native") and event.thread in open_since:
            found.append(Wait(event.thread, open_since.pop(event.thread), event.at))
    return found + [Wait(thread, since, None) for thread, since in open_since.items()]


def due_at(since: int, minutes: int, rules: Rules, until: int) -> float | None:
    """When so many business minutes have passed since a second; None where that is after `until`."""
    left = minutes * MINUTE
    at = since
    while at < until:
        end = (at // MINUTE + 1) * MINUTE
        if rules.counts(at // MINUTE):
            if left <= end - at:
                return at + left
            left -= end - at
        at = end
    return None


@dataclass(frozen=True, slots=True)
class Expected:
    """A step of a wait, when it is to be told (any of these ticks), and whether it need not be."""

    wait: Wait
    step: str
    due: float
    ticks: tuple[int, ...]
    is_optional: bool


def expectations(script: Script, rules: Sequence[Rules]) -> list[Expected]:
    """Every step that is due at some tick while its customer waits and the page can be read."""
    found: list[Expected] = []
    for wait in waits(script):
        page = script.threads[wait.thread]
        for step, minutes in rules[page].steps:
            due = due_at(wait.since, minutes, rules[page], script.end)
            if due is not None and (expected := _expected(script, wait, page, step, due)):
                found.append(expected)
    return found


def _expected(script: Script, wait: Wait, page: int, step: str, due: float) -> Expected | None:
    ticks: list[int] = []
    is_optional = True
    first = -(-script.start // TICK) * TICK
    for tick in range(max(first, int(due) // TICK * TICK), script.end, TICK):
        if tick < due or any(outage.holds(tick, page) for outage in script.outages):
            continue
        if wait.until is not None and tick >= wait.until + EDGE_S:
            break
        near_end = wait.until is not None and abs(tick - wait.until) <= EDGE_S
        ticks.append(tick)
        if tick - due > EDGE_S and not near_end:
            is_optional = False
            break
    return Expected(wait, step, due, tuple(ticks), is_optional) if ticks else None


def judge(script: Script, rules: Sequence[Rules], told: Iterable[Told], *, slack_s: float = 5.0) -> Verdict:
    """Compare what came with what was to come. `slack_s`: how long after its tick an alert may come."""
    verdict = Verdict()
    came: dict[tuple[int, str], list[float]] = defaultdict(list)
    for each in told:
        came[each.thread, each.step].append(each.at)
    for expected in expectations(script, rules):
        wait, step = expected.wait, expected.step
        until = wait.until if wait.until is not None else script.end
        mine = [at for at in came[wait.thread, step] if wait.since <= at <= until + EDGE_S + slack_s]
        came[wait.thread, step] = [at for at in came[wait.thread, step] if at not in mine]
        what = f"{step} of {wait}, due {expected.due}, ticks {expected.ticks}, came {mine}"
        verdict.expected += not expected.is_optional
        if not mine and not expected.is_optional:
            verdict.note("missing", what)
        for _ in mine[1:]:
            verdict.note("repeated", what)
        if mine and not any(tick <= mine[0] <= tick + slack_s for tick in expected.ticks):
            verdict.note("late", what)
    for (thread, step), rest in came.items():
        for at, count in Counter(rest).items():
            for _ in range(count):
                verdict.note("false", f"{step} of thread {thread} at {at}")
    return verdict
