"""Where Redis and MongoDB are."""

from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, field_validator

from ..rules.values import is_address
from .base import Group, Names


class RedisSettings(Group, env_prefix="REDIS_"):
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


class MongoSettings(Group, env_prefix="MONGODB_"):
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
