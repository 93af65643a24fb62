"""Webhooks to merchants: how often, how long, how much at once, and where to."""

import base64
import binascii
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from ..rules.values import parts, split
from .base import Group

Network = IPv4Network | IPv6Network
KEY_BYTES = 32
LONGEST_CALL_S = 25.0  # the job that makes the call is given 30 s (asynq-worker.en.md)


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    networks = []
    for part in parts(value):
        try:
            networks.append(ip_network(part))
        except ValueError as e:
            raise ValueError(f"{part!r} is no network like 10.1.0.0/16: {e}") from e
    return tuple(networks)


def _keys(value: object) -> object:
    """Fernet keys (github.com/fernet/spec): 32 bytes as URL-safe base64, separated by commas."""
    if not isinstance(value, str):
        return value
    for number, key in enumerate(parts(value), 1):
        try:
            is_key = len(base64.urlsafe_b64decode(key)) == KEY_BYTES
        except (binascii.Error, ValueError):
            is_key = False
        if not is_key:
            raise ValueError(f"entry {number} is not 32 bytes as base64url: `python -m src webhook key` makes one")
    return tuple(SecretStr(key) for key in parts(value))


class WebhookSettings(Group, env_prefix="WEBHOOK_"):
    """How merchants' endpoints are called."""

    allow_http: bool = False  # for development: plain http, and port 80
    allowed_networks: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = ()  # though not public
    allowed_ports: Annotated[tuple[int, ...], NoDecode, BeforeValidator(split)] = (443,)  # any in allowed_networks
    max_tries: int = Field(5, ge=1, le=100)  # of one delivery, before it is a dead letter
    timeout_seconds: float = Field(15, gt=0, le=LONGEST_CALL_S)  # of one try, connecting included
    backoff_base_seconds: float = Field(5, ge=0, le=86_400)  # doubled with each failed try, with full jitter
    backoff_max_seconds: float = Field(3600, gt=0, le=604_800)  # the longest wait between two tries
    max_in_flight_per_endpoint: int = Field(8, ge=1, le=1_000)  # over all workers
    breaker_failures: int = Field(10, ge=0)  # in a row; 0 = no breaker
    breaker_max_open_seconds: float = Field(300, gt=0, le=86_400)  # between two probes, at most
    disable_after_days: float = Field(5, ge=0)  # without one success; 0 = never
    secret_overlap_hours: float = Field(24, ge=0)  # a rotated secret still signs for so long
    # encrypt merchants' secrets in MongoDB: with the first, the others still read; none = they are stored as they are
    secrets_key: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_keys)] = ()
    retention_days: float = Field(30, ge=7)  # how long events and deliveries are kept

    @field_validator("allowed_ports")
    @classmethod
    def _are_ports(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        for port in value:
            if not 1 <= port <= 65_535:
                raise ValueError(f"{port} is no port")
        return value
