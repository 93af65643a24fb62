"""What one kind of trouble found at a look, and the notices that follow from it.

Nothing is remembered but the notices themselves: what is to be opened and closed is worked out anew each time, so a
look that was cut off anywhere, or two at once, leave nothing that the next one does not put right.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ...alerts.notices import OPENED, close_notice, open_notice
from ...deps import Deps
from ...rules.machine import to_tell
from ...store.alerts import Alert
from ..quiet import end_quietly

Kind = Literal["job_failing", "job_slow", "schedule_late", "letters_grew", "lane_old", "worker_gone"]

PREFIX: Final = "machine:"
MANY: Final = "*"  # the notice that stands for many of a kind
NAMED: Final = 5  # of many, so many by name

Told = Mapping[str, Alert]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong since then (Unix seconds); `facts` are what its words take."""

    severity: str
    since: float
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """Troubles by subject: a job, a schedule, a lane, a worker.

    What was told of and is in none of these is over. `unsure`: it may go on, so it stays told; `quiet`: it is neither
    wrong nor well any more, and ends without a word; `over`: facts for the words of its end.
    """

    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    unsure: Collection[str] = ()
    quiet: Collection[str] = ()
    over: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """How many are wrong, and how many notices were opened and closed."""

    wrong: int = 0
    told: int = 0
    back: int = 0

    def __add__(self, other: "Settled") -> "Settled":
        return Settled(self.wrong + other.wrong, self.told + other.told, self.back + other.back)


def machine_key(kind: Kind, subject: str) -> str:
    """What a notice is found by: `machine:job_failing:sync_pages`."""
    return f"{PREFIX}{kind}:{subject}"


def told_of(notices: Mapping[str, Alert], kind: Kind) -> dict[str, Alert]:
    """Of all open notices those of a kind, by subject."""
    prefix = machine_key(kind, "")
    return {key.removeprefix(prefix): alert for key, alert in notices.items() if key.startswith(prefix)}


async def settle(deps: Deps, kind: Kind, found: Found, told: Told) -> Settled:
    """Bring the notices of a kind in step with what was `found`. Safe to repeat and to run several times at once."""
    own = {subject: alert for subject, alert in told.items() if subject != MANY}
    # those that the one for many was told of have no notice of their own that could stand meanwhile
    wrong = {*found.troubles, *(found.unsure if MANY in told else ())}
    new, is_many = to_tell(wrong, own, is_summed=MANY in told)
    cut_off = {subject for subject, alert in own.items() if OPENED not in alert.steps}
    opened = [
        await _open(deps, kind, subject, trouble)
        for subject, trouble in found.troubles.items()
        if subject in new or subject in cut_off
    ]
    if is_many and (others := {s: t for s, t in found.troubles.items() if s not in own}):
        opened.append(await _open_many(deps, kind, others))
    ended = [subject for subject in own if subject not in found.troubles and subject not in found.unsure]
    await end_quietly(deps, [own[subject] for subject in ended if subject in found.quiet], "gone")
    closed = [
        await close_notice(deps, machine_key(kind, subject), facts=found.over.get(subject))
        for subject in ended
        if subject not in found.quiet
    ]
    if MANY in told and not is_many:
        closed.append(await close_notice(deps, machine_key(kind, MANY)))
    return Settled(len(found.troubles), sum(opened), sum(closed))


async def _open(deps: Deps, kind: Kind, subject: str, trouble: Trouble) -> bool:
    key, facts = machine_key(kind, subject), trouble.facts
    return await open_notice(deps, key, kind=kind, severity=trouble.severity, facts=facts, since=trouble.since)


async def _open_many(deps: Deps, kind: Kind, troubles: Mapping[str, Trouble]) -> bool:
    oldest = sorted(troubles, key=lambda subject: (troubles[subject].since, subject))
    names = ", ".join(oldest[:NAMED])
    return await open_notice(
        deps,
        machine_key(kind, MANY),
        kind=f"{kind}_many",
        severity="high",
        facts={"count": len(troubles), "names": f"{names} ..." if len(oldest) > NAMED else names},
        since=troubles[oldest[0]].since,
    )
