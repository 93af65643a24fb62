"""How lanes share the slots of a process: by slot time, weighted, and never leaving a slot idle while there is work.

Weighted fair queueing (A. Demers, S. Keshav, S. Shenker, "Analysis and Simulation of a Fair Queueing Algorithm", 1989)
with the time a slot is held in place of packet lengths: each lane has a virtual time that runs while it holds slots,
the slower the more weight it has, and the lane that is furthest behind goes first. So lanes of equal jobs finish them
by weight, and a lane of slow jobs cannot take the slots of a lane of fast ones just because each of its jobs stays.
"""

from collections.abc import Iterable
from dataclasses import dataclass

SHORTEST_S = 0.01  # what the shortest job is charged: below that, the noise of the clock would decide
SMOOTHING = 0.1  # of a lane's typical job length


@dataclass(slots=True)
class _Lane:
    weight: float
    virtual_s: float = 0.0
    running: int = 0
    typical_s: float = SHORTEST_S  # length of its jobs
    has_work: bool = False
    at: float = 0.0  # until when `virtual_s` is reckoned

    def advance(self, now: float) -> None:
        """Let the virtual time run until `now`."""
        self.virtual_s += self.running * (now - self.at) / self.weight
        self.at = now


class Shares:
    """The lanes of one process. `now` is always the same monotonic clock, in seconds."""

    def __init__(self, weights: dict[str, float], now: float) -> None:
        self._lanes = {name: _Lane(weight, at=now) for name, weight in weights.items()}

    def started(self, lane: str, now: float) -> None:
        """A job of `lane` took a slot."""
        state = self._lanes[lane]
        state.advance(now)
        state.running += 1

    def ended(self, lane: str, took_s: float, now: float) -> None:
        """It gave the slot back after `took_s` seconds."""
        state = self._lanes[lane]
        state.advance(now)
        state.running -= 1
        if took_s < SHORTEST_S:
            state.virtual_s += (SHORTEST_S - took_s) / state.weight
            took_s = SHORTEST_S
        state.typical_s += SMOOTHING * (took_s - state.typical_s)

    def seen(self, waiting: Iterable[tuple[str, int]]) -> None:
        """How many jobs each lane had waiting. A lane that comes back from idling is owed nothing for that time."""
        for name, count in waiting:
            self._lanes[name].has_work = count > 0
        self._forgive()

    def keys(self, now: float) -> list[tuple[str, float, float]]:
        """(lane, key, step): the lane with the lowest key goes first; each job it is given adds `step` to its key."""
        for lane in self._lanes.values():
            lane.advance(now)
        self._forgive()  # nobody looked while all slots were taken, and the idle stood still meanwhile
        return [
            (name, lane.virtual_s + lane.running * lane.typical_s / lane.weight, lane.typical_s / lane.weight)
            for name, lane in self._lanes.items()
        ]

    def _forgive(self) -> None:
        active = [lane.virtual_s for lane in self._lanes.values() if lane.has_work or lane.running]
        behind = min(active, default=0.0)
        for lane in self._lanes.values():
            if not (lane.has_work or lane.running):
                lane.virtual_s = max(lane.virtual_s, behind)
