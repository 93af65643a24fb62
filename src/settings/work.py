"""The worker process: who it is, how it shares its slots, and when it runs what."""

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, field_validator
from pydantic_settings import NoDecode

from ..rules.lanes import LANES
from ..rules.schedule import parse_schedule
from ..rules.values import parts
from .base import Group, Names


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is no time zone: use a name like Asia/Ho_Chi_Minh")
    return name


def _weights(value: object) -> object:
    """`webhooks=5,sync=4` over the default weights."""
    if not isinstance(value, str):
        return value
    weights: dict[str, object] = dict(LANES)
    for part in parts(value):
        lane, _, weight = (side.strip() for side in part.partition("="))
        if lane not in LANES:
            raise ValueError(f"there is no lane {lane!r}; there are {', '.join(LANES)}")
        weights[lane] = weight
    return weights


ZoneName = Annotated[str, AfterValidator(_zone)]


class ServiceSettings(Group):
    """Who we are and how we speak."""

    service_name_worker: str = "folkform-worker"
    environment: str = "development"
    timezone: ZoneName = "Asia/Ho_Chi_Minh"  # of schedules and of what people read
    log_level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] | None = None  # None: text on a terminal, else json
    log_dir: Path | None = None

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def zone(self) -> ZoneInfo:
        """`timezone` as an object."""
        return ZoneInfo(self.timezone)


class WorkerGroup(Group, env_prefix="WORKER_"):
    """The worker process."""

    default_timeout_seconds: float = Field(300, gt=0)
    max_concurrent_jobs: int = Field(100, ge=1, le=10_000)
    shutdown_seconds: float = Field(30, ge=0)
    lease_seconds: float = Field(15, ge=1)  # a killed worker's jobs run elsewhere after this long
    lanes: Names = ()  # only these; empty = all
    keep_result_seconds: float = Field(60, ge=0)  # how long a job that is over can be asked about in Redis
    history_days: float = Field(14, ge=0)  # how long each run stays in job_runs; 0 = no history, no counts
    rollup_days: float = Field(60, gt=0)  # how long the counts per minute stay in run_minutes
    metrics_port: int = Field(9100, ge=0, le=65_535)  # 0 = off

    @field_validator("lanes")
    @classmethod
    def _exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value == ("all",):
            return ()
        for lane in value:
            if lane not in LANES:
                raise ValueError(f"there is no lane {lane!r}; there are {', '.join(LANES)}")
        return value


class LaneSettings(Group, env_prefix="LANE_"):
    """How lanes share the slots of a process."""

    weights: Annotated[dict[str, Annotated[float, Field(gt=0)]], NoDecode, BeforeValidator(_weights)] = LANES
    priority_head_start_seconds: float = Field(30, ge=0)  # what a priority of 1 is worth within a lane


class ScheduleSettings(Group, env_prefix="SCHEDULE_"):
    """When each scheduled job runs: a cron expression, `@every 30m`, or `off`. Field names are job names."""

    sync_pages: str = "*/30 * * * *"
    sync_customers_incremental: str = "*/5 * * * *"
    sync_customers_backfill: str = "0 2 * * *"
    sync_posts_incremental: str = "*/10 * * * *"
    sync_posts_backfill: str = "30 2 * * *"
    sync_conversations_incremental: str = "* * * * *"
    sync_conversations_backfill: str = "*/15 * * * *"
    monitor_conversations: str = "*/5 * * * *"
    check_agents: str = "* * * * *"
    check_health: str = "* * * * *"
    check_jobs: str = "@every 15s"
    report_response_times: str = "30 7 * * *"
    reconcile_webhooks: str = "* * * * *"

    @field_validator("*")
    @classmethod
    def _parses(cls, value: str) -> str:
        return value if parse_schedule(value, ZoneInfo("UTC")) else "off"
