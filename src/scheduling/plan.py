"""One schedule, checked, from whatever wrote it: the settings, a command, a document."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo, available_timezones

import orjson

from ..engine.declaration import Declaration
from ..engine.ticks import Overlap
from ..errors import Misuse
from ..rules.schedule import Schedule, parse_schedule
from ..rules.ticks import MOST_TO_CATCH_UP, CatchUp, shortest_gap, usual_catch_up
from ..store.schedules import StoredSchedule

Declared = Mapping[str, Declaration[Any]]

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
USUAL_MOST: Final = 100  # ticks that `all` makes up
LONGEST_JITTER_S: Final = 86_400.0
MOST_ARGUMENTS: Final = 32_000  # bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule that can be worked with. `schedule` is None where the settings turn it off.

    `is_given`: it stands in the settings; `is_changed`: some of it was changed at run time. `state`: how far it came;
    `given`: what it was made of.
    """

    name: str
    job: str
    arguments: dict[str, Any]
    expression: str
    zone: ZoneInfo
    schedule: Schedule | None
    is_enabled: bool
    catch_up: CatchUp
    most: int
    overlap: Overlap
    jitter_s: float
    is_given: bool
    is_changed: bool
    state: StoredSchedule
    given: Mapping[str, Any]

    @property
    def is_on(self) -> bool:
        """Whether it fires."""
        return self.schedule is not None and self.is_enabled

    @property
    def open_tick(self) -> datetime | None:
        """The tick it fired last, where nothing is known of a run of it: its job waits or runs, or was lost."""
        name, _, at = self.state.last_job_id.rpartition(":")
        if name != self.name or not at.isdigit():
            return None  # another job stands for it
        tick, ran = datetime.fromtimestamp(int(at), UTC), self.state.last_run
        return None if ran is not None and (ran.tick_at or ran.started_at) >= tick else tick

    def next_after(self, instant: datetime) -> datetime | None:
        """Its next tick, where it fires."""
        return self.schedule.next_after(instant) if self.schedule is not None and self.is_enabled else None


def plan_of(
    name: str,
    given: Mapping[str, Any],
    state: StoredSchedule,
    declared: Declared,
    zone: ZoneInfo,
    *,
    is_given: bool = False,
    is_changed: bool = False,
) -> Plan:
    """A schedule of what was `given`, as `store.schedules.FIELDS` has it; `zone` is the service's.

    Raises Misuse with a sentence on what is wrong with it.
    """
    if not NAME.fullmatch(name):
        raise Misuse(f"{name!r} is no name for a schedule: 1 to 64 letters, digits, `_`, `-` and `.`")
    try:
        declaration = _job(given.get("job", name), declared)
        own_zone = _zone(given.get("zone"), zone)
        expression = _expression(given.get("schedule"))
        schedule = parse_schedule(expression, own_zone)
        plan = Plan(
            name=name,
            job=declaration.name,
            arguments=_arguments(declaration, given.get("arguments")),
            expression=expression,
            zone=own_zone,
            schedule=schedule,
            is_enabled=_flag(given.get("isEnabled", True)),
            catch_up=_catch_up(given.get("catchUp"), schedule),
            most=int(_number("catchUpMost", given.get("catchUpMost", USUAL_MOST), 1, MOST_TO_CATCH_UP)),
            overlap=_overlap(given),
            jitter_s=_jitter(given.get("jitterSeconds", 0.0), schedule),
            is_given=is_given,
            is_changed=is_changed,
            state=state,
            given=given,
        )
    except (ValueError, Misuse) as e:
        raise Misuse(f"schedule {name}: {e}") from e
    return plan


def _job(name: object, declared: Declared) -> Declaration[Any]:
    if not isinstance(name, str) or name not in declared:
        raise Misuse(f"there is no job {name!r}; there are {', '.join(sorted(declared))}")
    return declared[name]


def _expression(text: object) -> str:
    if not isinstance(text, str) or not text.strip():
        raise Misuse("says not when it runs: a cron expression, @hourly, or @every 30m")
    return text.strip()


def _zone(name: object, usual: ZoneInfo) -> ZoneInfo:
    if name is None:
        return usual
    if name not in available_timezones():
        raise ValueError(f"{name!r} is no time zone: use a name like Asia/Ho_Chi_Minh")
    return ZoneInfo(str(name))


def _arguments(declaration: Declaration[Any], given: object) -> dict[str, Any]:
    if given is None:
        return declaration.written(declaration.scheduled_arguments)
    if not isinstance(given, dict):
        raise Misuse("its arguments are to be name=value")
    written = declaration.written(given)
    if len(orjson.dumps(written, default=str)) > MOST_ARGUMENTS:
        raise Misuse(f"its arguments are stored with each tick: {MOST_ARGUMENTS // 1000} kB at most, as JSON")
    return written


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Misuse("isEnabled is to be true or false")
    return value


def _one_of(what: str, value: object, kinds: Any) -> Any:
    if value not in get_args(kinds):
        raise Misuse(f"{what} is one of {', '.join(get_args(kinds))}, not {value!r}")
    return value


def _catch_up(value: object, schedule: Schedule | None) -> CatchUp:
    if value is None:
        return usual_catch_up(schedule, datetime.now(UTC)) if schedule else "none"
    return _one_of("catchUp", value, CatchUp)  # type: ignore[no-any-return]


def _overlap(given: Mapping[str, Any]) -> Overlap:
    # made up one by one: the first that runs would have the others skipped
    usual = "queue" if given.get("catchUp") == "all" else "skip"
    return _one_of("overlap", given.get("overlap") or usual, Overlap)  # type: ignore[no-any-return]


def _number(what: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise Misuse(f"{what} is a number from {least:g} to {most:g}, not {value!r}")
    return value


def _jitter(value: object, schedule: Schedule | None) -> float:
    jitter_s = float(_number("jitterSeconds", value, 0, LONGEST_JITTER_S))
    if jitter_s and schedule:
        gap_s = shortest_gap(schedule, datetime.now(UTC)).total_seconds()
        if jitter_s >= gap_s:
            raise Misuse(f"a jitter of {jitter_s:g} s does not fit between ticks that are {gap_s:g} s apart")
    return jitter_s
