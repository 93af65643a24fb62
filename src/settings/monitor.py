"""Who and what is to be there: agents, servers, addresses; and who reads the daily report."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from ..rules.health import HealthUrl, health_url
from ..rules.recipients import recipient_of
from ..rules.values import parts, split
from .base import Group


def _urls(value: object) -> object:
    """`shop=https://shop.vn/health#200,https://api.shop.vn/ping`. A fault names the entry, which may hold a token."""
    if not isinstance(value, str):
        return value
    found: dict[str, HealthUrl] = {}
    for number, part in enumerate(parts(value), 1):
        try:
            url = health_url(part)
        except ValueError as e:
            raise ValueError(f"entry {number} {e}") from e
        if url.name in found:
            raise ValueError(f"entry {number} has the name {url.name!r} of another one: write name=url")
        found[url.name] = url
    return tuple(found.values())


def _addresses(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(recipient_of(text)) for text in value)


class MonitorSettings(Group, env_prefix="MONITOR_"):
    """What is watched, and when its absence counts."""

    agent_offline_seconds: float = Field(300, gt=0)  # since the last check-in (folkgroup: agent-ui-enhancement.md)
    worker_check_in_seconds: float = Field(10, gt=0)  # how often our own workers say that they are there
    worker_offline_seconds: float = Field(30, gt=0)  # since the last check-in of one of our workers
    job_failures: int = Field(3, ge=1)  # in a row with the same arguments, before it is told
    long_run_seconds: float = Field(60, gt=0)  # a run that takes no longer is never told of
    schedule_grace_seconds: float = Field(120, gt=0)  # after a tick, before its absence is told
    lane_age_seconds: float = Field(600, gt=0)  # of a lane's oldest due job, before it is told
    health_urls: Annotated[tuple[HealthUrl, ...], NoDecode, BeforeValidator(_urls)] = ()
    health_failures: int = Field(3, ge=1)  # in a row, before it is told
    health_recoveries: int = Field(1, ge=1)  # in a row, before the end is told
    health_timeout_seconds: float = Field(10, gt=0, le=20)  # of one check
    # who gets the daily report of response times; none: those of ALERT_OPERATIONS_TO
    report_to: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split), AfterValidator(_addresses)] = ()
