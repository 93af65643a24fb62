"""When a waiting customer is told of, and to whom: the shop's own policy; `reply_policies` holds single pages'."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, field_validator
from pydantic_settings import NoDecode

from ..rules.calendar import Calendar, days_of, week_of
from ..rules.policy import ASSIGNEE, Policy, told_outside, usual_steps
from ..rules.policy_document import LONGEST_MIN
from ..rules.recipients import recipient_of
from ..rules.values import is_address, pairs, parts, split
from .base import Group, Names


def _addresses(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text if text == ASSIGNEE else str(recipient_of(text)) for text in value)


def _readable(read: Callable[[Any], object]) -> Callable[[Any], Any]:
    """The text stays as it was written; what cannot be read stops the start."""

    def check(value: Any) -> Any:
        read(value)
        return value

    return check


def _minutes(value: object) -> object:
    return tuple(float(part) for part in parts(value)) if isinstance(value, str) else value


def _pairs(value: object) -> object:
    try:
        return pairs(value)
    except ValueError:
        raise ValueError("is to be left=right,left=right; what stands on each side is in .env.example") from None


def _staff(value: object) -> object:
    """`userId=telegram:1 email:a@shop.vn,userId=...`."""
    found = _pairs(value)
    if not isinstance(found, dict):
        return found
    return {user: to.split() if isinstance(to, str) else to for user, to in found.items()}


def _told(value: dict[str, str]) -> dict[str, str]:
    for address, hours in value.items():
        recipient_of(address)
        told_outside(hours, ZoneInfo("UTC"))
    return value


Addresses = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split), AfterValidator(_addresses)]


class AlertSettings(Group, env_prefix="ALERT_"):
    """How long customers may wait, who is told, and which time counts."""

    threshold_minutes: float = Field(30, gt=0, le=LONGEST_MIN)  # business minutes from the first unanswered message
    warn_minutes: float = Field(10, ge=0, le=LONGEST_MIN)  # so long before, to warn_to; 0 = off
    escalate_minutes: Annotated[tuple[float, ...], NoDecode, BeforeValidator(_minutes)] = (30.0,)  # after; 0 = off
    to: Addresses = ()
    warn_to: Addresses = (ASSIGNEE,)
    escalate_to: Addresses = ()  # none: those of `to`
    operations_to: Addresses = ()  # alerts about the service itself
    # user id=address address,...: where the assignees of conversations are told
    staff: Annotated[dict[str, tuple[str, ...]], NoDecode, BeforeValidator(_staff)] = Field({})
    quiet_hours: Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs), AfterValidator(_told)] = Field({})

    hours: Annotated[str, AfterValidator(_readable(week_of))] = ""  # none: every hour counts
    holidays: Names = ()
    days: Names = ()  # with hours of their own
    timezone: str | None = None  # None: TIMEZONE
    leave_out_tags: Names = ()
    leave_out_types: Names = ()
    language: Literal["vi", "en"] = "vi"
    max_age_days: float = Field(7, gt=0, le=366)  # who is overdue for longer is not told of any more

    max_messages_per_hour: int = Field(20, ge=1)  # to one address; the rest waits and comes as one
    freshness_seconds: float = Field(300, gt=0, le=86_400)  # older knowledge of a page is late
    send_resolved: bool = True
    link_template: str = "https://pancake.vn/{page}?c_id={conversation}"

    @field_validator("holidays", "days")
    @classmethod
    def _are_days(cls, value: tuple[str, ...], info: Any) -> tuple[str, ...]:
        days_of(*((value, ()) if info.field_name == "holidays" else ((), value)))
        return value

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, value: str | None) -> str | None:
        if value is not None and value not in available_timezones():
            raise ValueError(f"{value!r} is no time zone: use a name like Asia/Ho_Chi_Minh")
        return value

    @field_validator("escalate_minutes")
    @classmethod
    def _follow(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 <= minutes <= LONGEST_MIN for minutes in value):
            raise ValueError(f"escalations follow the threshold: their minutes are 0 (off) to {LONGEST_MIN:,}")
        return value

    @field_validator("link_template")
    @classmethod
    def _is_link(cls, value: str) -> str:
        if not is_address(value, "https", "http") or "{conversation}" not in value:
            raise ValueError("is to be an address with {conversation} in it, and {page} where it needs one")
        return value

    @field_validator("staff")
    @classmethod
    def _are_addresses(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {user: tuple(str(recipient_of(to)) for to in addresses) for user, addresses in value.items()}

    def policy(self, zone: ZoneInfo) -> Policy:
        """The shop's own policy; `zone` is that of the service, for where none is set here."""
        zone = ZoneInfo(self.timezone) if self.timezone else zone
        days, yearly = days_of(self.holidays, self.days)
        return Policy(
            threshold_s=self.threshold_minutes * 60,
            steps=usual_steps(
                threshold_minutes=self.threshold_minutes,
                warn_minutes=self.warn_minutes,
                escalate_minutes=self.escalate_minutes,
                to=[to for to in self.to if to != ASSIGNEE],
                warn_to=self.warn_to,
                escalate_to=self.escalate_to,
            ),
            calendar=Calendar(zone, week_of(self.hours), days, yearly),
            left_out_tags=frozenset(tag.lower() for tag in self.leave_out_tags),
            left_out_types=frozenset(type_.upper() for type_ in self.leave_out_types),
            language=self.language,
            staff=MappingProxyType(self.staff),
            quiet=MappingProxyType({to: told_outside(hours, zone) for to, hours in self.quiet_hours.items()}),
            max_age_s=self.max_age_days * 86_400,
        )
