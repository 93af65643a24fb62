"""What the groups of settings have in common."""

from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ..rules.values import split

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]


class Group(BaseSettings):
    """One group of variables; an empty value counts as not set."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", hide_input_in_errors=True)
