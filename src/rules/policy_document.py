"""What a document of `reply_policies` says of one page, over the shop's own policy."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from .calendar import Calendar, days_of, week_of
from .policy import ASSIGNEE, LANGUAGES, SEVERITIES, USUAL, Policy, Step, told_outside, usual_steps
from .recipients import recipient_of

MOST_STEPS, LONGEST_MIN = 10, 60 * 24 * 30


def policy_of(document: Mapping[str, Any], base: Policy) -> Policy:
    """What a document of `reply_policies` says, over `base`.

    Raises ValueError with a line for each fault, which names the field and says what to write.
    """
    reader = _Reader(document)
    minutes = reader.number("thresholdMinutes", base.threshold_s / 60, least=1 / 60)
    calendar = reader.calendar(base.calendar)
    return reader.done(
        replace(
            base,
            threshold_s=minutes * 60,
            steps=reader.steps(base, minutes),
            calendar=calendar,
            left_out_tags=frozenset(reader.left_out("tags", str.lower, base.left_out_tags)),
            left_out_types=frozenset(reader.left_out("types", str.upper, base.left_out_types)),
            language=reader.one_of("language", LANGUAGES, base.language),
            staff=reader.staff(base.staff),
            quiet=reader.quiet(base.quiet, calendar.zone),
            max_age_s=reader.number("maxAgeDays", base.max_age_s / 86_400, least=0.01) * 86_400,
        )
    )


class _Reader:
    """Reads a document field by field; faults are gathered and told together by `done`."""

    KNOWN = frozenset(
        (
            *("_id", "pageId", "updatedAt", "updatedBy", "note", "thresholdMinutes", "warnMinutes", "escalateMinutes"),
            *("to", "warnTo", "escalateTo", "steps", "hours", "timezone", "holidays", "days", "leaveOut", "language"),
            *("staff", "quietHours", "maxAgeDays"),
        )
    )

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._faults = [f"{name}: there is no such field" for name in document if name not in self.KNOWN]

    def done(self, policy: Policy) -> Policy:
        if self._faults:
            raise ValueError("; ".join(self._faults))
        return policy

    def number(self, name: str, default: float, *, least: float) -> float:
        value = self._document.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= LONGEST_MIN:
            self._fault(name, "is to be a number of a sensible size")
            return default
        return float(value)

    def one_of(self, name: str, allowed: Sequence[str], default: str) -> str:
        value = self._document.get(name)
        if value is not None and value not in allowed:
            self._fault(name, f"is to be one of {', '.join(allowed)}")
            return default
        return default if value is None else str(value)

    def texts(self, name: str, value: Any) -> tuple[str, ...]:
        if value is None:
            return ()
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple) or not all(isinstance(each, str | int) for each in value):
            self._fault(name, "is to be a list of texts")
            return ()
        return tuple(str(each) for each in value)

    def addresses(self, name: str, value: Any, *, words: Sequence[str] = (ASSIGNEE,)) -> tuple[str, ...]:
        found: list[str] = []
        for text in self.texts(name, value):
            if text in words:
                found.append(text)
                continue
            try:
                found.append(str(recipient_of(text)))
            except ValueError as e:
                self._fault(name, str(e))
        return tuple(found)

    def steps(self, base: Policy, threshold_minutes: float) -> tuple[Step, ...]:
        if self._document.get("steps") is not None:
            return self._own_steps(self._document["steps"], threshold_minutes)
        names = ["warnMinutes", "escalateMinutes", "to", "warnTo", "escalateTo"]
        if all(step.name.split(" ")[0] in USUAL for step in base.steps):
            names.append("thresholdMinutes")  # half of it is the earliest of warnings
        if not any(self._document.get(name) is not None for name in names):
            return base.steps
        known = {step.name.split(" ")[0]: step for step in reversed(base.steps)}
        warn, breach, escalate = (known.get(name) for name in USUAL)
        later = self._document.get("escalateMinutes")
        if later is None:
            later = [step.offset_s / 60 for step in base.steps if step.name.startswith("escalate")]
        minutes = [later] if isinstance(later, int | float) else later
        if not isinstance(minutes, list) or not all(_is_minutes(each) for each in minutes):
            self._fault("escalateMinutes", "is to be a number of minutes after the threshold, or a list of them")
            minutes = []
        group = tuple(each for each in breach.to if each != ASSIGNEE) if breach else ()
        to = self._own_or("to", group)
        # whoever the shop names for escalations is told of this page's too; where it names nobody, they follow `to`
        escalate_to = self._own_or("escalateTo", escalate.to if escalate and escalate.to != group else ())
        return usual_steps(
            threshold_minutes=threshold_minutes,
            warn_minutes=self.number("warnMinutes", -warn.offset_s / 60 if warn else 0.0, least=0),
            escalate_minutes=minutes,
            to=tuple(each for each in to if each != ASSIGNEE),
            warn_to=self._own_or("warnTo", warn.to if warn else ()),
            escalate_to=escalate_to,
        )

    def _own_or(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        return default if self._document.get(name) is None else self.addresses(name, self._document[name])

    def _own_steps(self, value: Any, threshold_minutes: float) -> tuple[Step, ...]:
        steps: list[Step] = []
        if not isinstance(value, list) or len(value) > MOST_STEPS:
            self._fault("steps", f"is to be a list of at most {MOST_STEPS}")
            return ()
        for number, each in enumerate(value, 1):
            where = f"steps {number}"
            if not isinstance(each, Mapping) or not isinstance(each.get("name"), str) or not each["name"].strip():
                self._fault(where, "is to have a name, minutes, severity and to")
                continue
            minutes = each.get("minutes", 0)
            if not _is_number(minutes) or not -threshold_minutes <= minutes <= LONGEST_MIN:
                self._fault(where, "minutes are to be a number, negative for before the threshold")
                continue
            severity = each.get("severity", "high")
            if severity not in SEVERITIES:
                self._fault(where, f"severity is to be one of {', '.join(SEVERITIES)}")
            steps.append(
                Step(each["name"].strip(), minutes * 60.0, str(severity), self.addresses(where, each.get("to")))
            )
        if len({step.name for step in steps}) < len(steps) or any(step.name == "resolved" for step in steps):
            self._fault("steps", "each is to have a name of its own, and none is to be called resolved")
        return tuple(sorted(steps, key=lambda step: step.offset_s))

    def calendar(self, base: Calendar) -> Calendar:
        found = base
        zone = self._document.get("timezone")
        if zone is not None and str(zone) not in available_timezones():
            self._fault("timezone", "is no time zone: use a name like Asia/Ho_Chi_Minh")
        elif zone is not None:
            found = replace(found, zone=ZoneInfo(str(zone)))
        try:
            if self._document.get("hours") is not None:
                found = replace(found, week=week_of(str(self._document["hours"])))
        except ValueError as e:
            self._fault("hours", str(e))
        try:
            if self._document.get("holidays") is not None or self._document.get("days") is not None:
                closed = self.texts("holidays", self._document.get("holidays"))
                days, yearly = days_of(closed, self.texts("days", self._document.get("days")))
                if self._document.get("holidays") is None:  # the shop's own holidays stay
                    days, yearly = MappingProxyType({**base.days, **days}), base.yearly
                found = replace(found, days=days, yearly=yearly)
        except ValueError as e:
            self._fault("holidays or days", str(e))
        return found

    def left_out(self, name: str, form: Any, default: frozenset[str]) -> frozenset[str]:
        left_out = self._document.get("leaveOut")
        if left_out is None:
            return default
        if not isinstance(left_out, Mapping) or set(left_out) - {"tags", "types"}:
            if name == "tags":
                self._fault("leaveOut", "is to be of the form {tags: [...], types: [...]}")
            return default
        if left_out.get(name) is None:
            return default
        return frozenset(form(text.strip()) for text in self.texts(f"leaveOut.{name}", left_out[name]))

    def staff(self, default: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        value = self._mapping("staff")
        if value is None:
            return default
        found = {str(user): self.addresses(f"staff {user}", to, words=()) for user, to in value.items()}
        return MappingProxyType({**default, **found})

    def quiet(self, default: Mapping[str, Calendar], zone: ZoneInfo) -> Mapping[str, Calendar]:
        value = self._mapping("quietHours")
        if value is None:
            return default
        found = dict(default)
        for address, hours in value.items():
            try:
                found[str(recipient_of(str(address)))] = told_outside(str(hours), zone)
            except ValueError as e:
                self._fault("quietHours", str(e))
        return MappingProxyType(found)

    def _mapping(self, name: str) -> Mapping[str, Any] | None:
        value = self._document.get(name)
        if value is not None and not isinstance(value, Mapping):
            self._fault(name, "is to be an object")
            return None
        return value

    def _fault(self, name: str, what: str) -> None:
        self._faults.append(f"{name}: {what}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_minutes(value: object) -> bool:
    return isinstance(value, int | float) and _is_number(value) and 0 <= value <= LONGEST_MIN
