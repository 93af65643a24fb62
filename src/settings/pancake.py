"""Pancake, and how its lists are kept in step."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from ..rules.values import is_address, pairs
from .base import Group, Names


def _url(value: str) -> str:
    if not is_address(value, "http", "https"):
        raise ValueError("is not an address like https://pages.fm/api")
    return value.rstrip("/")


class PancakeSettings(Group, env_prefix="PANCAKE_"):
    """Pancake's API (pages.fm)."""

    base_url: Annotated[str, AfterValidator(_url)] = "https://pages.fm/api"
    access_token: SecretStr | None = None  # of the user: lists pages, mints page tokens
    page_tokens: Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(pairs)] = Field({})
    page_ids: Names = ()  # only these; empty = all
    allow_token_minting: bool = False  # minting kills the page's previous token
    max_calls_per_second: float = Field(4.0, ge=0)  # per page; Pancake's documents say 5; 0 = no limit of ours
    timeout_seconds: float = Field(20.0, gt=0)  # of one call
    webhook_secret: SecretStr | None = None  # the last part of the address Pancake posts its events to


class SyncSettings(Group, env_prefix="SYNC_"):
    """How far back, how much twice, how near to now."""

    initial_days: float = Field(30, gt=0)  # what the first incremental pass reads
    overlap_seconds: int = Field(300, ge=0)  # read again by the next pass: rows may show late
    settle_seconds: int = Field(5, ge=0)  # the newest seconds never count as read
    sweep_days: float = Field(7, ge=0)  # a full re-read this often finds deleted rows; 0 = never
    slices: int = Field(2, ge=1, le=32)  # parts of one page's history read at the same time
