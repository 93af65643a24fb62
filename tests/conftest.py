"""Real Redis and MongoDB for the tests that need them, started here and stopped again."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from redis import Redis

from scripts._services import start_mongod, start_redis
from src.deps import Deps, open_deps
from src.settings import MongoSettings, PancakeSettings, RedisSettings, Settings, SyncSettings, load_settings

CACHE = Path(__file__).parent.parent / ".cache" / "services"
#: What a developer has set for real shops must not reach a test.
OURS = (
    *("REDIS_", "MONGODB_", "PANCAKE_", "SYNC_", "SCHEDULE_", "WORKER_", "WEBHOOK_", "ALERT_", "MONITOR_", "LOG_"),
    "OTEL_",
)


@dataclass(frozen=True)
class Servers:
    redis_url: str
    mongodb_uri: str


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """One Redis and one MongoDB for the whole run."""
    with ExitStack() as stack:
        # always our own: tests empty Redis, and a developer's may hold real jobs
        redis = stack.enter_context(start_redis(None, CACHE, environ={}))
        mongo = stack.enter_context(start_mongod(None, CACHE, environ={}))
        yield Servers(redis.url, mongo.url)


@pytest.fixture
def database_name(servers: Servers) -> Iterator[str]:
    """A database of the test's own, dropped after it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    with MongoClient[dict[str, object]](servers.mongodb_uri) as client:
        client.drop_database(name)


@pytest.fixture
def settings(servers: Servers, database_name: str) -> Settings:
    """Settings on the test servers: no limit of ours on calls, an empty Redis, a database of the test's own."""
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    return load_settings(None).replace(
        redis=RedisSettings(url=SecretStr(servers.redis_url)),
        mongo=MongoSettings(uri=SecretStr(servers.mongodb_uri), database=database_name),
        pancake=PancakeSettings(max_calls_per_second=0, access_token=SecretStr("unused")),
        sync=SyncSettings(),
    )


@pytest.fixture
async def deps(settings: Settings) -> AsyncIterator[Deps]:
    """Everything a job may use, on the test servers; point `settings.pancake` at a simulator where it is needed."""
    async with open_deps(settings) as opened:
        yield opened
