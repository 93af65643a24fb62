"""The rate of calls at which an unknown, moving limit refuses almost nothing.

Additive increase, multiplicative decrease, with a memory. A limit of N calls a second refuses when N went through, so
the number that went through is the limit, seen from outside: one refusal finds it, where halving (plain AIMD) would
need minutes to come back at 5 calls a second. The rate then rests just below it and tries the step above from time to
time; clean tries grow. Where counting does not explain the refusals (a bucket, a minute's quota) the rate is halved,
and the next try is the middle between what went through and what did not (binary increase: L. Xu, K. Harfoush,
I. Rhee, "Binary Increase Congestion Control", INFOCOM 2004). Times are seconds on one clock (Redis' own, where the
state is shared).
"""

from dataclasses import dataclass, replace

FLOOR_PER_S = 0.2
WINDOW_S = 1.0  # Pancake's documents speak of calls per second
COUNTED_S = 1.045 * WINDOW_S  # calls this recent count: at MARGIN the first of a full window left 1.036 s ago
CONFIRM_CALLS = 4  # calls that must go through before a rate counts as good ...
CONFIRM_S = 1.5  # ... and for how long: a limit per second shows itself only after one, and an answer takes its time
NARROW = 1.12  # a bracket this tight is settled
HOLD_S = 21.0  # how long a settled bracket is believed; with the tries after it, a limit that rose is found in 30 s
FIRST_STEP = 0.1  # of the rate: the first try after a hold ...
STEP_GROWTH = 3.0  # ... and each clean one makes the next so much longer, up to a doubling of the rate
DECREASE = 0.5
MARGIN = 0.965  # of a limit seen from outside: pacing is never exact
LATENESS = 0.98  # what a refusal costs where one call came late and met the next ones
CERTAIN = 2  # refusals in a row after which the window was emptied: the next one counts right
BELIEVED_IN_A_ROW = 4
SPARE_S = 0.1 * WINDOW_S  # left out besides, so that a limiter that counts refused calls too forgets them


@dataclass(frozen=True, slots=True)
class RateState:
    """What is known of one page's limit.

    `rate`, `good`, `bad`: calls per second; `good` went through, `bad` was refused (0 = not known).
    `since`: when `rate` was set; `held_until`: nothing is tried before; `step`: the next try, as part of `rate`.
    `streak`: refusals since a rate was last confirmed.
    `version` rises with each change; `lowered` is the version that the last refusal made: a refusal of a call paced
    before it is the same news again.
    """

    rate: float
    good: float = 0.0
    bad: float = 0.0
    since: float = 0.0
    held_until: float = 0.0
    step: float = FIRST_STEP
    streak: int = 0
    version: int = 0
    lowered: int = 0


def refused(state: RateState, now: float, passed: int, *, version: int, paced: float) -> RateState:
    """After a refusal of a call that the rate `paced` (calls per second) of `version` spaced.

    `passed`: calls that went through in the `COUNTED_S` before it. They are the limit where the rate was a try; at a
    rate long seen good it is mostly one late call, and the count is believed only when it goes on (`pause_s`).
    Returns `state` itself where the refusal is no news.
    """
    if version < state.lowered:
        return state
    rate = min(paced, state.rate)  # a try may have begun while the answer was on its way
    proven = state.good if state.good < rate / 1.01 else 0.0
    believed = passed > 0 and state.streak < BELIEVED_IN_A_ROW
    if rate <= state.good or 0 < state.streak < CERTAIN:
        target = max(proven, rate * LATENESS)
    elif believed:
        target = max(proven, min(passed * MARGIN, rate / (1 + FIRST_STEP)))
    else:
        target = max(proven, rate * DECREASE)
    target = min(max(target, FLOOR_PER_S), rate)
    return replace(
        state,
        rate=target,
        good=proven,
        bad=min(rate, target * NARROW) if believed else rate,
        since=now,
        held_until=now + HOLD_S,
        step=FIRST_STEP,
        streak=state.streak + 1,
        version=state.version + 1,
        lowered=state.version + 1,
    )


def pause_s(after: RateState, passed: int, paced: float) -> float:
    """Seconds without a call after the refusal that led to `after`: until the other side has room again.

    Refused a second time, the limit has fallen: an empty window then shows how far at the next refusal.
    """
    if after.streak > 1:
        return WINDOW_S + SPARE_S
    return max(1 / after.rate, WINDOW_S - passed / paced) + SPARE_S


def advanced(state: RateState, now: float, calls: int, ceiling: float) -> RateState:
    """After `calls` went through since `state.since` with none refused: confirm the rate and choose the next one.

    Returns `state` itself while there is nothing to conclude: too few calls, or too slow to have tested the rate.
    """
    elapsed = now - state.since
    if state.rate > ceiling:
        return replace(state, rate=ceiling, since=now, version=state.version + 1)
    if state.rate >= ceiling and state.good >= ceiling:
        return state
    if calls < CONFIRM_CALLS or elapsed < CONFIRM_S:
        return state
    if calls / elapsed < 0.8 * state.rate:  # there was not enough work to test it: start counting afresh
        return replace(state, since=now, version=state.version + 1)
    known = replace(state, good=max(state.good, state.rate), since=now, streak=0, version=state.version + 1)
    if known.bad and now >= known.held_until:
        known = replace(known, bad=0.0)  # old news: the limit may have risen
    if known.bad:
        if known.bad <= known.good * NARROW:
            return known if state.good < state.rate or state.streak else state
        return replace(known, rate=min((known.good + known.bad) / 2, ceiling))
    probe = min(known.rate * (1 + known.step), ceiling)
    return replace(known, rate=probe, step=min(known.step * STEP_GROWTH, 1.0))
