"""How many jobs to claim ahead of free slots, so that slots do not stand empty while an answer is under way."""

import math

SMOOTHING = 0.5
LEAST_S = 0.01  # jobs that started together end together: what is claimed ahead covers so much of such a burst


class Pace:
    """How fast jobs end here and how long a claim takes. `now` is always the same monotonic clock, in seconds.

    With jobs of minutes it says 0, and nothing is held back from other workers; else as many as end while the answer is
    under way, or within `LEAST_S`, so that is how long a job may wait here that could wait elsewhere.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._ended = 0
        self._per_s = 0.0
        self._way_s = 0.0

    def ended(self) -> None:
        """A job ended."""
        self._ended += 1

    def answered(self, took_s: float, now: float) -> None:
        """A claim was answered after `took_s` seconds."""
        self._way_s += SMOOTHING * (took_s - self._way_s)
        if now > self._since:
            self._per_s += SMOOTHING * (self._ended / (now - self._since) - self._per_s)
            self._since, self._ended = now, 0

    def ahead(self, most: int) -> int:
        """How many jobs will end before the next claim is answered, at most `most`."""
        return min(most, math.floor(self._per_s * max(self._way_s, LEAST_S) + 0.5))
