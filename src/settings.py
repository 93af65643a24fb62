"""Every environment variable, grouped and typed. Names carry their unit; secrets are SecretStr and never printed.

`load_settings()` reads the environment and `.env` and reports all faults at once, one line each, naming the variable.
`.env.example` explains each variable to the person who sets it.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .errors import Misuse
from .rules.lanes import LANES
from .rules.schedule import parse_schedule
from .rules.values import is_address, pairs, parts, split


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is no time zone: use a name like Asia/Ho_Chi_Minh")
    return name


def _url(value: str) -> str:
    if not is_address(value, "http", "https"):
        raise ValueError("is not an address like https://pages.fm/api")
    return value.rstrip("/")


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


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]
ZoneName = Annotated[str, AfterValidator(_zone)]


class _Group(BaseSettings):
    """One group of variables; an empty value counts as not set."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", hide_input_in_errors=True)


class ServiceSettings(_Group):
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


class RedisSettings(_Group, env_prefix="REDIS_"):
    """`REDIS_URL`, or the parts, or the sentinels of a master."""

    url: SecretStr | None = None
    host: str = "localhost"
    port: int = Field(6379, ge=1, le=65_535)
    password: SecretStr | None = None
    db: int = Field(0, ge=0)
    sentinels: Names = ()  # host:port,...
    sentinel_master: str = "mymaster"

    @field_validator("url")
    @classmethod
    def _has_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        url = value.get_secret_value() if value else "unix:"
        if not (url.startswith("unix:") or is_address(url, "redis", "rediss")):
            raise ValueError("is not an address like redis://localhost:6379/0; write / in a password as %2F")
        return value

    @field_validator("sentinels")
    @classmethod
    def _have_ports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            if not part.rpartition(":")[2].isdecimal() or not part.rpartition(":")[0]:
                raise ValueError(f"{part!r} is not of the form host:port")
        return value

    @property
    def address(self) -> SecretStr:
        """The url, made of the parts where none is set."""
        if self.url:
            return self.url
        password = f":{quote(self.password.get_secret_value(), safe='')}@" if self.password else ""
        return SecretStr(f"redis://{password}{self.host}:{self.port}/{self.db}")

    @property
    def shown(self) -> str:
        """Where Redis is, without the password."""
        if self.sentinels:
            return f"sentinels {', '.join(self.sentinels)} (master {self.sentinel_master})"
        parts = urlsplit(self.address.get_secret_value())
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"

    @property
    def advice(self) -> str:
        """What to do where it does not answer."""
        variables = "check REDIS_SENTINELS and REDIS_SENTINEL_MASTER" if self.sentinels else "set REDIS_URL"
        return f"start it, or {variables}"


class MongoSettings(_Group, env_prefix="MONGODB_"):
    """Where the data lives."""

    uri: SecretStr = SecretStr("mongodb://localhost:27017")
    database: str = Field("folkform", min_length=1, max_length=63, pattern=r"^[^/\\. \"$*<>:|?]+$")

    @field_validator("uri")
    @classmethod
    def _has_scheme(cls, value: SecretStr) -> SecretStr:
        uri = value.get_secret_value()
        # several hosts may stand there, so only the first is looked at; a / in a password would end the hosts early
        first = uri.partition(",")[0] if "," in uri.partition("?")[0] else uri
        if not is_address(first, "mongodb", "mongodb+srv") or "@" in urlsplit(uri).path:
            raise ValueError("is not an address like mongodb://localhost:27017; write / in a password as %2F")
        return value

    @property
    def shown(self) -> str:
        """Where MongoDB is, without user, password and options."""
        parts = urlsplit(self.uri.get_secret_value())
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{self.database}"


class WorkerGroup(_Group, env_prefix="WORKER_"):
    """The worker process."""

    default_timeout_seconds: float = Field(300, gt=0)
    max_concurrent_jobs: int = Field(100, ge=1, le=10_000)
    shutdown_seconds: float = Field(30, ge=0)
    lease_seconds: float = Field(15, ge=1)  # a killed worker's jobs run elsewhere after this long
    lanes: Names = ()  # only these; empty = all
    keep_result_seconds: float = Field(60, ge=0)  # how long a job that is over can be asked about in Redis
    history_days: float = Field(14, ge=0)  # how long each run stays in job_runs; 0 = no history
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


class LaneSettings(_Group, env_prefix="LANE_"):
    """How lanes share the slots of a process."""

    weights: Annotated[dict[str, Annotated[float, Field(gt=0)]], NoDecode, BeforeValidator(_weights)] = LANES
    priority_head_start_seconds: float = Field(30, ge=0)  # what a priority of 1 is worth within a lane


class PancakeSettings(_Group, env_prefix="PANCAKE_"):
    """Pancake's API (pages.fm)."""

    base_url: Annotated[str, AfterValidator(_url)] = "https://pages.fm/api"
    access_token: SecretStr | None = None  # of the user: lists pages, mints page tokens
    page_tokens: Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(pairs)] = {}
    page_ids: Names = ()  # only these; empty = all
    allow_token_minting: bool = False  # minting kills the page's previous token
    max_calls_per_second: float = Field(4.0, ge=0)  # per page; Pancake's documents say 5; 0 = no limit of ours
    timeout_seconds: float = Field(20.0, gt=0)  # of one call


class SyncSettings(_Group, env_prefix="SYNC_"):
    """How far back, how much twice, how near to now."""

    initial_days: float = Field(30, gt=0)  # what the first incremental pass reads
    overlap_seconds: int = Field(300, ge=0)  # read again by the next pass: rows may show late
    settle_seconds: int = Field(5, ge=0)  # the newest seconds never count as read
    sweep_days: float = Field(7, ge=0)  # a full re-read this often finds deleted rows; 0 = never
    slices: int = Field(2, ge=1, le=32)  # parts of one page's history read at the same time


class ScheduleSettings(_Group, env_prefix="SCHEDULE_"):
    """When each scheduled job runs: a cron expression, `@every 30m`, or `off`. Field names are job names."""

    sync_pages: str = "*/30 * * * *"
    sync_customers_incremental: str = "*/5 * * * *"
    sync_customers_backfill: str = "0 2 * * *"

    @field_validator("*")
    @classmethod
    def _parses(cls, value: str) -> str:
        return value if parse_schedule(value, ZoneInfo("UTC")) else "off"


class Settings:
    """All groups. Frozen once loaded; build it with `load_settings()`."""

    def __init__(self, env_file: Path | None = None) -> None:
        faults: list[str] = []

        def group(kind: type[Any]) -> Any:
            try:
                return kind(_env_file=env_file)
            except ValidationError as e:
                faults.extend(_lines(kind, e))
                return None

        self.service: ServiceSettings = group(ServiceSettings)
        self.redis: RedisSettings = group(RedisSettings)
        self.mongo: MongoSettings = group(MongoSettings)
        self.worker: WorkerGroup = group(WorkerGroup)
        self.lanes: LaneSettings = group(LaneSettings)
        self.pancake: PancakeSettings = group(PancakeSettings)
        self.sync: SyncSettings = group(SyncSettings)
        self.schedules: ScheduleSettings = group(ScheduleSettings)
        faults.extend(_unknown_schedules(env_file))
        if faults:
            raise Misuse("\n".join(sorted(faults)))

    def replace(self, **groups: _Group) -> Self:
        """A copy with some groups exchanged; for tests and commands."""
        copy = object.__new__(type(self))
        copy.__dict__.update({**self.__dict__, **groups})
        return copy


def load_settings(env_file: Path | None = Path(".env")) -> Settings:
    """Settings from the environment and `env_file`. Raises Misuse, one line per fault, naming the variable."""
    return Settings(env_file)


def _variable(kind: type[_Group], field: str) -> str:
    return (str(kind.model_config.get("env_prefix") or "") + field).upper()


def _lines(kind: type[_Group], error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        # pydantic starts its own sentences with a capital, ours are quoted after "Value error, "
        text = fault["msg"].removeprefix("Value error, ")
        lines.append(f"{_variable(kind, str(fault['loc'][0]))}: {text[0].lower()}{text[1:]}")
    return lines


def _unknown_schedules(env_file: Path | None) -> list[str]:
    """A misspelt schedule would silently never run. Turning `off` what is not there harms nobody."""
    given = {**(dotenv_values(env_file) if env_file else {}), **os.environ}
    known = {_variable(ScheduleSettings, name) for name in ScheduleSettings.model_fields}
    return [
        f"{name}: there is no scheduled job of that name; there are {', '.join(sorted(known))}"
        for name, value in given.items()
        if name.startswith("SCHEDULE_") and name not in known and (value or "").strip().lower() not in ("", "off")
    ]
