"""How long to wait before the next try."""

from collections.abc import Callable

BASE_S = 0.5
CAP_S = 600.0
JITTER_SPAN = 0.2  # of a hinted wait: callers told the same number must not come back together


def wait_s(
    attempt: int,
    random: Callable[[], float],
    *,
    hint_s: float | None = None,
    base_s: float = BASE_S,
    cap_s: float = CAP_S,
) -> float:
    """Seconds to wait after failed `attempt` (1-based).

    Full jitter: anything from 0 to `base_s` doubled per attempt, at most `cap_s` (M. Brooker, "Exponential Backoff
    And Jitter", AWS Architecture Blog, 2015). A hint of the other side (`Retry-After`) is never undercut, whatever
    the cap, and is stretched by up to a fifth. `random` gives 0 <= x < 1.
    """
    if hint_s is not None:
        return hint_s * (1 + JITTER_SPAN * random())
    return random() * min(base_s * 2.0 ** min(attempt, 32), cap_s)
