"""What people do with schedules: add, change, pause, run. In force in every worker within some seconds.

All of it is checked before anything is stored; what is wrong is Misuse, in a sentence that says what to do.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..engine.queue import Queue, new_id
from ..errors import Misuse
from ..settings import Settings
from ..store.schedules import Schedules, StoredSchedule
from .book import Book, book_of
from .plan import Declared, Plan, plan_of

STARTED_ONCE_S = 60.0  # workers that start together start it together


class Desk:
    """The schedules of one shop. `now` gives Unix seconds."""

    def __init__(self, settings: Settings, schedules: Schedules, declared: Declared, now: float) -> None:
        self._settings = settings
        self._schedules = schedules
        self._declared = declared
        self._now = datetime.fromtimestamp(now, UTC)

    async def book(self) -> Book:
        """All of them."""
        return book_of(self._settings, await self._schedules.all(), self._declared)

    async def plan(self, name: str) -> Plan:
        """One of them. Raises Misuse where there is none, or where it cannot be used."""
        book = await self.book()
        if name in book.faults and name not in book.plans:
            raise Misuse(book.faults[name])
        if name not in book.plans:
            raise Misuse(f"there is no schedule {name!r}; there are {', '.join(book.plans)}")
        return book.plans[name]

    async def add(self, name: str, given: Mapping[str, Any]) -> Plan:
        """A new one; `given` is of `store.schedules.FIELDS`. Its first tick is the next one."""
        if name in self._of_settings():
            raise Misuse(f"{name} is a schedule of the settings: `schedules set {name}` changes it")
        plan = plan_of(name, given, StoredSchedule(name), self._declared, self._settings.service.zone)
        _is_not_off(plan)
        stored = {**given, "job": plan.job, "arguments": plan.arguments}
        if not await self._schedules.add(name, stored, self._now):
            raise Misuse(f"there is a schedule {name} already: `schedules set {name}` changes it")
        return await self.plan(name)

    async def change(self, name: str, given: Mapping[str, Any]) -> Plan:
        """Change some of its fields; the others stay. With another expression or zone it counts from now."""
        if not given:
            raise Misuse("says not what to change: see `schedules set --help`")
        is_given = name in self._of_settings()
        if is_given and given.get("job", name) != name:
            raise Misuse(f"{name} is a schedule of the settings and starts {name}: `schedules add` makes one for a job")
        found = (await self._schedules.all()).get(name)
        if found is None and not is_given:
            raise Misuse(f"there is no schedule {name!r}: `schedules add` makes one")
        state = found or StoredSchedule(name)
        usual = {"schedule": self._of_settings()[name]} if is_given else {}
        made = {**usual, **state.given, **given}
        if "arguments" not in given and given.get("job", made.get("job")) != state.given.get("job"):
            made.pop("arguments", None)  # those of another job
        _is_not_off(plan_of(name, made, state, self._declared, self._settings.service.zone, is_given=is_given))
        is_moved = bool({"schedule", "zone"} & given.keys()) or given.get("isEnabled") is True
        if not await self._schedules.change(name, given, self._now, make=is_given, restart=is_moved):
            raise Misuse(f"schedule {name} was removed meanwhile")
        return await self.plan(name)

    async def pause(self, name: str) -> Plan:
        """It fires no more until `resume`; what runs goes on. Safe to repeat."""
        await self.plan(name)
        return await self.change(name, {"isEnabled": False})

    async def resume(self, name: str) -> Plan:
        """It fires again, from its next tick on: what fell into the pause is not made up. Safe to repeat."""
        plan = await self.plan(name)
        if plan.schedule is None:
            raise Misuse(f"{name} is off in the settings: `schedules set {name} --cron ...` says when it is to run")
        return plan if plan.is_enabled else await self.change(name, {"isEnabled": True})

    async def remove(self, name: str) -> None:
        """One that was added is no more; what was changed of one of the settings does not count any more."""
        if name in self._of_settings():
            if not await self._schedules.reset(name, self._now):
                raise Misuse(
                    f"{name} is a schedule of the settings: `schedules pause {name}` stops it, or "
                    f"SCHEDULE_{name.upper()}=off for good"
                )
        elif not await self._schedules.remove(name):
            raise Misuse(f"there is no schedule {name!r}: `schedules list` shows those there are")

    def _of_settings(self) -> dict[str, str]:
        expressions: dict[str, str] = self._settings.schedules.model_dump()
        return {name: text for name, text in expressions.items() if name in self._declared}


async def run_now(queue: Queue, plan: Plan) -> str:
    """Start its job now, beside its ticks; returns the id of the job that stands for it. Raises Transient."""
    job = queue.prepare(plan.job, plan.arguments, job_id=f"{plan.name}:run:{new_id()}", tick=(plan.name, None))
    return (await queue.put([job]))[0]


async def run_at_start(queue: Queue, plan: Plan, now: float) -> None:
    """Start its job as a worker starts; once for workers that start in the same second. Raises Transient."""
    job_id = f"{plan.name}:{int(now)}"
    job = queue.prepare(plan.job, plan.arguments, job_id=job_id, once_s=STARTED_ONCE_S, tick=(plan.name, None))
    await queue.put([job])


def _is_not_off(plan: Plan) -> None:
    if plan.schedule is None:
        raise Misuse(f"schedule {plan.name}: says not when it runs; `schedules pause {plan.name}` stops one")
