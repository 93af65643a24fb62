"""Policies as people read them: steps, hours, closed days."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from ..rules.calendar import Calendar, Shifts
from ..rules.policy import Policy, Step

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MIN = 1_440


def minutes(seconds: float) -> str:
    """`30`, `7.5`."""
    return f"{seconds / 60:g}"


def steps(policy: Policy) -> str:
    """`warn -10, breach, escalate +30`: minutes before and after the threshold."""
    return ", ".join(f"{step.name} {step.offset_s / 60:+g}" if step.offset_s else step.name for step in policy.steps)


def step_report(step: Step) -> dict[str, Any]:
    """A step for a program; `minutes` after the threshold, or before it where negative."""
    return {"name": step.name, "minutes": step.offset_s / 60, "severity": step.severity, "to": list(step.to)}


def hours(calendar: Calendar) -> str:
    """`Mon-Fri 08:00-12:00 13:00-17:30; Sat 08:00-12:00; Sun closed`."""
    found: list[tuple[int, int, Shifts]] = []
    for number, shifts in enumerate(calendar.week):
        if found and found[-1][2] == shifts:
            found[-1] = (found[-1][0], number, shifts)
        else:
            found.append((number, number, shifts))
    return "; ".join(
        f"{DAYS[first]}{f'-{DAYS[last]}' if last > first else ''} {_shifts(shifts)}" for first, last, shifts in found
    )


def exceptions(calendar: Calendar, today: date, most: int) -> list[str]:
    """What differs from the week from `today` on, as dates or ranges of them, the next first; so many at most."""
    found: list[tuple[date, date, Shifts]] = []
    for day, shifts in sorted(calendar.days.items()):
        if day < today:
            continue
        if found and found[-1][2] == shifts and found[-1][1] == day - timedelta(days=1):
            found[-1] = (found[-1][0], day, shifts)
        else:
            found.append((day, day, shifts))
    lines = [f"{first}{f'..{last}' if last > first else ''} {_shifts(shifts)}" for first, last, shifts in found[:most]]
    if len(found) > most:
        lines.append(f"... and {len(found) - most} more")
    return lines + [f"{month:02}-{day:02} closed each year" for month, day in sorted(calendar.yearly)]


def moment(at: float, calendar: Calendar) -> str:
    """An instant on the page's clock: `Fri 2027-02-12 08:15`."""
    on = datetime.fromtimestamp(at, calendar.zone)
    return f"{DAYS[on.weekday()]} {on:%Y-%m-%d %H:%M}"


def summary(policy: Policy, today: date, names: Mapping[str, str]) -> list[tuple[str, str]]:
    """A policy line by line, as (what, how it is); of its closed days those from `today` on.

    `names`: what the page's staff is called, by user id.
    """
    left_out = sorted((*policy.left_out_tags, *policy.left_out_types))
    quiet = [f"{to} is told {hours(told)}" for to, told in policy.quiet.items()]
    return [
        ("may wait", f"{minutes(policy.threshold_s)} min of business time"),
        *((step.name, f"{step.offset_s / 60:+g} min, {step.severity}: {_listed(step.to)}") for step in policy.steps),
        ("hours", hours(policy.calendar)),
        ("time zone", policy.calendar.zone.key),
        *(("except", line) for line in exceptions(policy.calendar, today, 12)),
        ("left out", ", ".join(left_out) or "nothing"),
        *(("staff", line) for line in _staff(policy, names)),
        *(("quiet", line) for line in quiet),
        ("at most", f"{policy.max_age_s / 86_400:g} days overdue: nobody is told of who waits longer"),
    ]


def _staff(policy: Policy, names: Mapping[str, str]) -> Iterator[str]:
    """Whoever has an address, and whoever needs one."""
    for user in [*policy.staff, *sorted(names.keys() - policy.staff.keys(), key=names.__getitem__)]:
        yield f"{user} {names.get(user, '')}".strip() + f": {', '.join(policy.staff.get(user, ())) or 'no address'}"


def _shifts(shifts: Shifts) -> str:
    if not shifts:
        return "closed"
    if shifts == ((0, DAY_MIN),):
        return "all day"
    return " ".join(f"{_clock(first)}-{_clock(end)}" for first, end in shifts)


def _clock(minute: int) -> str:
    minute = minute - DAY_MIN if minute > DAY_MIN else minute
    return f"{minute // 60:02}:{minute % 60:02}"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values) or "nobody"
