"""Where traces go: OpenTelemetry's own variables (opentelemetry.io/docs/specs/otel/configuration).

What is not named here is read by its library itself: certificates, limits, OTEL_RESOURCE_ATTRIBUTES.
"""

from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from ..rules.values import is_address, pairs
from .base import Group

Headers = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(pairs)]
SAMPLERS = ("always_on", "always_off", "traceidratio")
PARENT = "parentbased_"


class TracingSettings(Group, env_prefix="OTEL_"):
    """Off unless an endpoint or an exporter is set."""

    sdk_disabled: bool = False
    traces_exporter: Literal["otlp", "console", "none"] | None = None  # None: otlp where an endpoint is set
    exporter_otlp_endpoint: str | None = None  # of a collector; /v1/traces is added
    exporter_otlp_traces_endpoint: str | None = None  # taken as it is
    exporter_otlp_protocol: Literal["http/protobuf"] = "http/protobuf"
    exporter_otlp_traces_protocol: Literal["http/protobuf"] = "http/protobuf"
    exporter_otlp_headers: Headers = Field({})
    exporter_otlp_traces_headers: Headers = Field({})  # in place of the others
    service_name: str | None = None  # None: SERVICE_NAME_WORKER
    # None: OTEL_TRACES_PER_SECOND traces may begin a second. What was begun by others is as they decided.
    traces_sampler: str | None = None
    traces_sampler_arg: float = Field(1.0, ge=0, le=1)
    traces_per_second: float = Field(20, gt=0)  # ours: a small shop has every trace, and a storm costs next to nothing

    @field_validator("exporter_otlp_endpoint", "exporter_otlp_traces_endpoint")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not is_address(value, "http", "https"):
            raise ValueError("is to be an address like http://collector:4318")
        return value

    @field_validator("traces_sampler")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None and value.removeprefix(PARENT) not in SAMPLERS:
            raise ValueError(f"is one of {', '.join(SAMPLERS)}, with or without {PARENT} before it")
        return value

    @model_validator(mode="after")
    def _has_endpoint(self) -> "TracingSettings":
        if self.traces_exporter == "otlp" and not (self.exporter_otlp_endpoint or self.exporter_otlp_traces_endpoint):
            raise ValueError("otlp needs OTEL_EXPORTER_OTLP_ENDPOINT, the address of a collector")
        return self

    @property
    def is_on(self) -> bool:
        """Whether traces go anywhere."""
        has_endpoint = bool(self.exporter_otlp_endpoint or self.exporter_otlp_traces_endpoint)
        return not self.sdk_disabled and (self.traces_exporter or ("otlp" if has_endpoint else "none")) != "none"

    @property
    def endpoint(self) -> str | None:
        """Where traces are posted to; None for the console."""
        if self.traces_exporter == "console":
            return None
        if self.exporter_otlp_traces_endpoint:
            return self.exporter_otlp_traces_endpoint
        return f"{(self.exporter_otlp_endpoint or '').rstrip('/')}/v1/traces"

    @property
    def headers(self) -> dict[str, str]:
        """What is sent beside them; values may be percent-encoded."""
        given = self.exporter_otlp_traces_headers or self.exporter_otlp_headers
        return {name: unquote(value.get_secret_value()) for name, value in given.items()}

    @property
    def share(self) -> float | None:
        """Of all traces that begin, where a sampler is set."""
        if self.traces_sampler is None:
            return None
        fixed = {"always_on": 1.0, "always_off": 0.0}
        return fixed.get(self.traces_sampler.removeprefix(PARENT), self.traces_sampler_arg)
