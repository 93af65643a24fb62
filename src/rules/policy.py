"""What a page promises its customers: how long they may wait, who is told when, and which time counts.

A policy is the shop's own, from the settings, with what `reply_policies` says of one page over it. Zendesk and Front
count as we do: from the oldest unanswered message, on a calendar (reference: webhooks-sync-alerts-files, C1 and C2).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from .calendar import Calendar, week_of

ASSIGNEE: Final = "assignee"  # whoever the conversation is assigned to
SEVERITIES: Final = ("info", "warning", "high", "critical")
LANGUAGES: Final = ("vi", "en")
USUAL: Final = ("warn", "breach", "escalate")  # how the names of the usual steps begin
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to tell: `offset_s` of business time after the threshold, or before it where negative."""

    name: str
    offset_s: float
    severity: str
    to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """The promise of one page. `staff`: addresses by Pancake's user id; `quiet`: when an address may be told.

    `max_age_s`: who is overdue for longer than that is not told of any more; it is in the report.
    """

    threshold_s: float = 1_800.0
    steps: tuple[Step, ...] = ()
    calendar: Calendar = field(default_factory=lambda: Calendar(ZoneInfo("UTC")))
    left_out_tags: frozenset[str] = frozenset()  # in lower case
    left_out_types: frozenset[str] = frozenset()  # in upper case
    language: str = "vi"
    staff: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NOTHING)
    quiet: Mapping[str, Calendar] = field(default_factory=lambda: _NOTHING)
    max_age_s: float = 7 * 86_400.0

    @cached_property
    def version(self) -> str:
        """A digest of all that decides when something is due: plans by another one are made anew."""
        said = [
            self.threshold_s,
            [[step.name, step.offset_s] for step in self.steps],
            self.calendar.zone.key,
            self.calendar.week,
            sorted((day.isoformat(), shifts) for day, shifts in self.calendar.days.items()),
            sorted(self.calendar.yearly),
            sorted(self.left_out_tags),
            sorted(self.left_out_types),
            self.max_age_s,
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def steps_due(policy: Policy, since: float) -> list[tuple[Step, float]]:
    """Each step of a wait that began at `since` and the instant it is due, in order; without those that never are."""
    found = []
    for step in policy.steps:
        due = policy.calendar.due(since, policy.threshold_s + step.offset_s)
        if due is not None:
            found.append((step, due))
    return sorted(found, key=lambda each: each[1])


def is_too_old(policy: Policy, since: float, at: float) -> bool:
    """Whether nobody is told at `at` of a wait that began at `since`.

    Its age counts from when the threshold was due: who wrote on the evening before a closed Tet is told of after it.
    """
    due = policy.calendar.due(since, policy.threshold_s)
    return at - (since if due is None else due) > policy.max_age_s


def applies(policy: Policy, type_: str | None, tags: Sequence[str], tag_names: Sequence[str]) -> bool:
    """Whether a conversation of this type with these tags (ids, names) is watched."""
    if type_ is not None and type_.upper() in policy.left_out_types:
        return False
    return not any(tag.strip().lower() in policy.left_out_tags for tag in (*tags, *tag_names))


def usual_steps(
    *,
    threshold_minutes: float,
    warn_minutes: float,
    escalate_minutes: Sequence[float],
    to: Sequence[str],
    warn_to: Sequence[str],
    escalate_to: Sequence[str],
) -> tuple[Step, ...]:
    """A warning to the assignee before the threshold, the alert at it, and one more each so many minutes after it.

    `warn_minutes` of 0, and 0 among `escalate_minutes`, are off. A warning never comes before half the threshold.
    """
    steps = [Step("breach", 0.0, "high", (ASSIGNEE, *to))]
    if warn_minutes > 0:
        before_s = min(warn_minutes, threshold_minutes / 2) * 60
        steps.insert(0, Step("warn", -before_s, "warning", tuple(warn_to) or (ASSIGNEE,)))
    later = [minutes for minutes in escalate_minutes if minutes > 0]
    for number, minutes in enumerate(later, 1):
        name = "escalate" if number == 1 else f"escalate {number}"
        steps.append(Step(name, minutes * 60, "critical", tuple(escalate_to) or tuple(to)))
    return tuple(steps)


def told_outside(quiet_hours: str, zone: ZoneInfo) -> Calendar:
    """When an address may be told whose quiet hours are these: `22:00-07:00` each day, or a week as in `hours`.

    Raises ValueError with a sentence that says how to write them.
    """
    text = quiet_hours.strip()
    week = week_of(text if text[:1].isalpha() else f"daily {text}")
    told: list[tuple[tuple[int, int], ...]] = []
    for number in range(7):
        before = [(first - 1_440, end - 1_440) for first, end in week[number - 1] if end > 1_440]
        at, free = 0, []
        for first, end in sorted((*before, *week[number])):
            if first > at:
                free.append((at, min(first, 1_440)))
            at = max(at, end)
        if at < 1_440:
            free.append((at, 1_440))
        told.append(tuple(free))
    return Calendar(zone, tuple(told))
