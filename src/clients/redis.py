"""Redis: one way to open a connection, for arq's queue and for what processes share."""

import asyncio
import builtins
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from arq.connections import RedisSettings as ArqSettings
from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from ..errors import Permanent, Transient
from ..settings import RedisSettings
from .quick_pool import NotNow, Parser, QuickPool
from .sentinels import MasterConnection, MasterPool

CALL_S = 5.0  # for one question
CONNECT_S = 2.0
START_RETRIES = 2
RETRIES = 3

R = TypeVar("R", bound=Redis)

#: What a lost, refused or overloaded connection looks like here; the job boundary treats it as Transient.
OUTAGES = (ConnectionError, TimeoutError, BusyLoadingError, NotNow)
_RETRY: dict[str, Any] = {"retry_on_error": [*OUTAGES, OSError]}


def arq_settings(settings: RedisSettings) -> ArqSettings:
    """The same address in arq's own words, for its Worker. Fails soon where nobody answers: see `be_patient`."""
    retry = {**_RETRY, "retry": Retry(ExponentialBackoff(cap=0.2, base=0.05), 1)}
    if settings.sentinels:
        password = settings.password.get_secret_value() if settings.password else None
        hosts = [(host, int(port)) for host, _, port in (s.rpartition(":") for s in settings.sentinels)]
        return ArqSettings(
            host=hosts,
            sentinel=True,
            sentinel_master=settings.sentinel_master,
            database=settings.db,
            password=password,
            conn_retries=START_RETRIES,
            **retry,
        )
    address = settings.address.get_secret_value()
    parts = parse_url(address)  # arq's own reading of a url leaves a quoted password quoted
    return ArqSettings(
        host=parts.get("host", "localhost"),
        port=parts.get("port", 6379),
        unix_socket_path=parts.get("path"),
        database=parts.get("db", 0),
        username=parts.get("username"),
        password=parts.get("password"),
        ssl=address.startswith("rediss:"),
        conn_retries=START_RETRIES,
        **retry,
    )


class Patience(Retry):
    """Retries a command until Redis is back, or until `end` is called; one for all connections of a pool."""

    def __init__(self) -> None:
        super().__init__(ExponentialBackoff(cap=2.0, base=0.05), -1)

    def __deepcopy__(self, memo: dict[int, object]) -> "Patience":
        return self  # redis-py copies it for each connection, and `end` must reach them all

    @property
    def lasts(self) -> bool:
        """Whether `end` has not been called."""
        return self._retries < 0

    def end(self) -> None:
        """Give up at the next failure: the process is to stop, Redis or not."""
        self._retries = 1


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """Bounds what is asked of Redis inside by `CALL_S`; raises redis' own TimeoutError, which is an outage."""
    try:
        async with asyncio.timeout(CALL_S):
            yield
    except builtins.TimeoutError as e:
        raise TimeoutError(f"Redis gave no answer in {CALL_S:g} s") from e


async def be_patient(redis: Redis) -> Patience:
    """Let arq's own connection outlast an outage; call it once, while no command is under way.

    A Redis that is away when a worker starts is a wrong address and is to be said at once; one that goes away later
    comes back, and arq's Worker would die of the first error.
    """
    pool = redis.connection_pool
    pool.connection_kwargs["retry"] = patience = Patience()
    await pool.disconnect()
    pool.reset()
    return patience


@asynccontextmanager
async def open_redis(settings: RedisSettings, *, retries: int = RETRIES) -> AsyncIterator[Redis]:
    """A connection that is seen to answer; closed on leaving. `retries`: of each command, when the connection drops.

    Raises Transient when nobody answers, Permanent when Redis refuses the password; both say what to do.
    """
    redis: Redis = connect(settings, Redis, retries=retries)
    try:
        await ping(redis, settings)
        yield redis
    finally:
        await redis.aclose(close_connection_pool=True)


async def ping(redis: Redis, settings: RedisSettings) -> None:
    """One round trip. Raises Transient or Permanent with a line that says what to do."""
    try:
        async with in_time():
            await redis.ping()
    except (AuthenticationError, ResponseError) as e:
        raise Permanent(f"Redis at {settings.shown} refuses the password: check REDIS_URL or REDIS_PASSWORD") from e
    except (RedisError, OSError) as e:
        raise Transient(f"Redis does not answer at {settings.shown}: {settings.advice}") from e


def connect(settings: RedisSettings, kind: type[R], *, retries: int = RETRIES) -> R:
    """A client of class `kind` that connects at its first command; whoever makes it closes it."""
    # no socket_timeout: redis-py would send with asyncio.wait_for, which before Python 3.12 can drop a cancellation
    # that comes as the command goes out (python/cpython#86296), and a job told to stop would go on; use `in_time`
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_S,
        "socket_keepalive": True,
        "parser_class": Parser,
        "max_connections": 50,
        "timeout": CALL_S,  # for a connection to be free
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.02), retries),
        **(_RETRY if retries else {}),
    }
    if settings.sentinels:
        hosts = [(host, int(port)) for host, _, port in (s.rpartition(":") for s in settings.sentinels)]
        if settings.password:
            options["password"] = settings.password.get_secret_value()
        # as sentinel_kwargs, or the connections to the master would get the timeout too, and be deaf to a quiet channel
        sentinel = Sentinel(hosts, sentinel_kwargs={"socket_timeout": CONNECT_S})
        options |= {"connection_class": MasterConnection, "connection_pool_class": MasterPool, "db": settings.db}
        master: R = sentinel.master_for(settings.sentinel_master, redis_class=kind, **options)
        return master
    address = settings.address.get_secret_value()
    if urlsplit(address).scheme == "unix":
        del options["socket_connect_timeout"], options["socket_keepalive"]
    return kind(connection_pool=QuickPool.from_url(address, **options))
