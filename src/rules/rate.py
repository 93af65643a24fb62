"""The rate of calls at which an unknown, moving limit refuses almost nothing.

Additive increase, multiplicative decrease, with a memory: between the highest rate that went through and the lowest
that was refused, the next try is the middle (binary increase: L. Xu, K. Harfoush, I. Rhee, "Binary Increase
Congestion Control", INFOCOM 2004). Plain AIMD would need minutes to come back after a halving at 5 calls a second;
this needs a few seconds and pays one refused call for each probe above the limit. Times are seconds on one clock
(Redis' own, where the state is shared).
"""

from dataclasses import dataclass, replace

FLOOR_PER_S = 0.2
CONFIRM_CALLS = 4  # calls that must go through before a rate counts as good ...
CONFIRM_S = 1.2  # ... and for how long: a limit per second shows itself only after one
NARROW = 1.12  # a bracket this tight is settled
HOLD_S = 20.0  # how long a settled bracket is believed
FIRST_STEP = 0.1  # of the rate: the first probe after a hold; each clean one doubles the step
DECREASE = 0.5
MARGIN = 0.97  # of a limit seen from outside: pacing is never exact
BELIEVED_IN_A_ROW = 3
PAUSE_INTERVALS = 2.0  # calls left out after a refusal, so that a limiter that counts refused calls forgets them


@dataclass(frozen=True, slots=True)
class RateState:
    """What is known of one page's limit.

    `rate`, `good`, `bad`: calls per second; `good` went through, `bad` was refused (0 = not known).
    `since`: when `rate` was set; `held_until`: nothing is probed before; `step`: the next probe, as part of `rate`.
    `streak`: refusals since a rate was last confirmed.
    `version`: rises with each change, so that refusals of calls paced by an older rate change nothing twice.
    """

    rate: float
    good: float = 0.0
    bad: float = 0.0
    since: float = 0.0
    held_until: float = 0.0
    step: float = FIRST_STEP
    streak: int = 0
    version: int = 0


def refused(state: RateState, now: float, accepted_last_s: int) -> RateState:
    """After a refusal, with the number of calls that went through in the second before it.

    A limit of N a second refuses when N went through, so that number is the limit, seen from outside; it is believed
    a few times in a row, then the rate is halved, for a limiter of another kind (a bucket, a minute's quota).
    """
    believed = accepted_last_s > 0 and state.streak < BELIEVED_IN_A_ROW
    seen = min(accepted_last_s * MARGIN, state.rate * 0.95) if believed else state.rate * DECREASE
    proven = state.good if state.good < state.rate / 1.01 else 0.0
    target = max(proven, seen, FLOOR_PER_S)
    return replace(
        state,
        rate=target,
        good=proven,
        bad=min(state.rate, target * NARROW) if believed else state.rate,
        since=now,
        held_until=now + HOLD_S,
        step=FIRST_STEP,
        streak=state.streak + 1,
        version=state.version + 1,
    )


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
            return known if state.good < state.rate else state
        return replace(known, rate=min((known.good + known.bad) / 2, ceiling))
    probe = min(known.rate * (1 + known.step), ceiling)
    return replace(known, rate=probe, step=min(known.step * 2, 1.0))
