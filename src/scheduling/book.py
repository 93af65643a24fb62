"""All schedules: those of the settings, with what was changed of them at run time, and those that were added."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

from ..errors import Misuse
from ..settings import Settings
from ..store.schedules import StoredSchedule
from .plan import Declared, Plan, plan_of


@dataclass(frozen=True, slots=True)
class Book:
    """Schedules by name; `faults`: why those that are stored and cannot be used cannot."""

    plans: Mapping[str, Plan] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)


def book_of(
    settings: Settings, stored: Mapping[str, StoredSchedule], declared: Declared, before: Book | None = None
) -> Book:
    """The schedules of `settings` and of the documents. One with a fault stops no other; `before` saves work.

    What a document changes of a schedule of the settings and cannot be used does not count: the settings do then.
    """
    makes = _Makes(declared, settings.service.zone, before or Book())
    plans: dict[str, Plan] = {}
    faults: dict[str, str] = {}
    expressions = settings.schedules.model_dump()
    for name, expression in expressions.items():
        if name not in declared:
            continue
        state, usual = stored.get(name) or StoredSchedule(name), {"schedule": expression}
        changed = {key: value for key, value in state.given.items() if key != "job"}
        try:
            plans[name] = makes.plan({**usual, **changed}, state, is_given=True, is_changed=bool(changed))
        except Misuse as e:
            faults[name] = str(e)
            plans[name] = makes.plan(usual, state, is_given=True)
    for name, one in stored.items():
        if name in expressions or not one.given:  # without anything given it is the state of one there was
            continue
        try:
            plans[name] = makes.plan(one.given, one)
        except Misuse as e:
            faults[name] = str(e)
    return Book(plans, faults)


@dataclass(frozen=True, slots=True)
class _Makes:
    declared: Declared
    zone: ZoneInfo
    before: Book

    def plan(
        self, given: Mapping[str, Any], state: StoredSchedule, *, is_given: bool = False, is_changed: bool = False
    ) -> Plan:
        last = self.before.plans.get(state.name)
        if last is not None and (last.given, last.is_given, last.is_changed) == (given, is_given, is_changed):
            return replace(last, state=state)
        return plan_of(state.name, given, state, self.declared, self.zone, is_given=is_given, is_changed=is_changed)
