"""Every environment variable, grouped and typed. Names carry their unit; secrets are SecretStr and never printed.

`load_settings()` reads the environment and `.env` and reports all faults at once, one line each, naming the variable.
`.env.example` explains each variable to the person who sets it.
"""

import os
from pathlib import Path
from typing import Any, Self

from dotenv import dotenv_values
from pydantic import ValidationError

from ..errors import Misuse
from .alerts import AlertSettings
from .base import Group
from .channels import ChannelSettings
from .monitor import MonitorSettings
from .pancake import PancakeSettings, SyncSettings
from .servers import MongoSettings, RedisSettings
from .tracing import TracingSettings
from .webhooks import WebhookSettings
from .work import LaneSettings, ScheduleSettings, ServiceSettings, WorkerGroup

__all__ = [
    "AlertSettings",
    "ChannelSettings",
    "LaneSettings",
    "MongoSettings",
    "MonitorSettings",
    "PancakeSettings",
    "RedisSettings",
    "ScheduleSettings",
    "ServiceSettings",
    "Settings",
    "SyncSettings",
    "TracingSettings",
    "WebhookSettings",
    "WorkerGroup",
    "load_settings",
]


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
        self.webhooks: WebhookSettings = group(WebhookSettings)
        self.alerts: AlertSettings = group(AlertSettings)
        self.channels: ChannelSettings = group(ChannelSettings)
        self.monitor: MonitorSettings = group(MonitorSettings)
        self.tracing: TracingSettings = group(TracingSettings)
        self.schedules: ScheduleSettings = group(ScheduleSettings)
        faults.extend(_unknown_schedules(env_file))
        if faults:
            raise Misuse("\n".join(sorted(faults)))

    def replace(self, **groups: Group) -> Self:
        """A copy with some groups exchanged; for tests and commands."""
        copy = object.__new__(type(self))
        copy.__dict__.update({**self.__dict__, **groups})
        return copy


def load_settings(env_file: Path | None = Path(".env")) -> Settings:
    """Settings from the environment and `env_file`. Raises Misuse, one line per fault, naming the variable."""
    return Settings(env_file)


def _variable(kind: type[Group], field: str) -> str:
    return (str(kind.model_config.get("env_prefix") or "") + field).upper()


def _lines(kind: type[Group], error: ValidationError) -> list[str]:
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
