"""Where a command meets the world: settings and connections opened, our errors made one line and an exit code."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar, get_origin

import orjson
import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..clients import mongo, redis
from ..clients.mongo import Database, open_database
from ..deps import Deps, open_deps
from ..engine.declaration import Declaration
from ..enqueue import JobQueue
from ..errors import Misuse, ServiceError
from ..log import configure_logging
from ..rules.times import moment_of
from ..settings import Settings, load_settings
from ..store.dead_letters import DeadLetters
from ..traced import traced

T = TypeVar("T")
FAILED, WRONG_CALL, INTERRUPTED = 1, 2, 130
ANSWER_S = 30.0  # for a question to Redis, tries included
COMMAND = "folkform-command"  # its name in traces
STOPPED = "stopped; what was done is kept, and the next run goes on from there"


def stop(line: str, code: int) -> NoReturn:
    """End the command with a line for the person."""
    typer.echo(line, err=True)
    raise typer.Exit(code)


def settings_or_stop() -> Settings:
    """The settings; a wrong one ends the command with a line a fault."""
    try:
        return load_settings()
    except Misuse as e:
        stop(f"the settings are wrong:\n{e}", FAILED)


def checked(call: Callable[[], T]) -> T:
    """What `call` returns; a Misuse it raises ends the command, before anything is opened."""
    try:
        return call()
    except Misuse as e:
        stop(str(e), WRONG_CALL)


def arguments_of(declaration: Declaration[Any], pairs: list[str]) -> dict[str, Any]:
    """`name=value` as the job's arguments; a value for a dictionary or a list is JSON. Raises Misuse."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Misuse(f"--arg {pair}: write name=value")
        if name in arguments:
            raise Misuse(f"--arg {name} stands there twice: which of them is meant?")
        parameter = declaration.signature.parameters.get(name)
        kind = parameter.annotation if parameter else str
        if (get_origin(kind) or kind) in (dict, list):
            try:
                arguments[name] = orjson.loads(value)
            except orjson.JSONDecodeError as e:
                raise Misuse(f"--arg {name}: is to be JSON, and is not: {e}") from e
        else:
            arguments[name] = value
    return arguments


def moment(option: str, text: str | None, settings: Settings) -> datetime | None:
    """A time as a person writes it, in the zone of the settings. Raises Misuse, naming the option."""
    try:
        return None if text is None else moment_of(text, datetime.now(UTC), settings.service.zone)
    except ValueError as e:
        raise Misuse(f"{option}: {e}") from e


class AtRedis:
    """The queue of the settings. Nothing is opened before `ask`, which closes it again: one question a command."""

    def __init__(self) -> None:
        self.settings = settings_or_stop()
        configure_logging("ERROR", self.settings.service.log_format, zone=self.settings.service.zone)
        self.queue = JobQueue(redis.connect(self.settings.redis, Redis))

    def ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer; a Misuse, or a Redis that gives none, ends the command."""
        shown = self.settings.redis.shown

        async def opened() -> T:
            try:
                async with traced(self.settings, COMMAND), asyncio.timeout(ANSWER_S):
                    await redis.ping(self.queue.redis, self.settings.redis)
                    return await question()
            finally:
                await self.queue.redis.aclose(close_connection_pool=True)

        try:
            return asyncio.run(opened())
        except Misuse as e:
            stop(str(e), WRONG_CALL)
        except ServiceError as e:
            stop(str(e), FAILED)
        except (RedisError, OSError, TimeoutError) as e:
            stop(f"Redis at {shown} gave no answer ({type(e).__name__}): is it running?", FAILED)
        except KeyboardInterrupt:
            stop(STOPPED, INTERRUPTED)


def with_letters(question: Callable[[DeadLetters], Coroutine[Any, Any, T]], settings: Settings) -> T:
    """The same of dead letters."""
    return with_database(lambda database: question(DeadLetters(database)), settings)


def with_database(question: Callable[[Database], Coroutine[Any, Any, T]], settings: Settings) -> T:
    """What MongoDB alone has to answer, so that it can be read while Redis is away."""

    async def opened() -> T:
        async with open_database(settings.mongo) as database:
            return await question(database)

    return run_or_stop(opened, settings)


def with_deps(
    work: Callable[[Deps], Coroutine[Any, Any, T]], *, level: str, on_failure: Callable[[str], None] = lambda _: None
) -> T:
    """Run `work` with everything open; Ctrl-C lets a pass save how far it came. Our errors become one line."""
    settings = settings_or_stop()
    configure_logging(level, settings.service.log_format, zone=settings.service.zone)

    async def opened() -> T:
        async with traced(settings, COMMAND), open_deps(settings) as deps:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, deps.stopping.set)
            return await work(deps)

    return run_or_stop(opened, settings, on_failure)


def run_or_stop(
    opened: Callable[[], Coroutine[Any, Any, T]],
    settings: Settings,
    on_failure: Callable[[str], None] = lambda _: None,
) -> T:
    """Run it to its end; our errors and the servers' outages end the command with one line."""
    try:
        return asyncio.run(opened())
    except Misuse as e:
        stop(str(e), WRONG_CALL)
    except ServiceError as e:
        on_failure(str(e))
        stop(str(e), FAILED)
    except (*mongo.FAILURES, *redis.OUTAGES) as e:
        line = f"{type(e).__name__}: MongoDB at {settings.mongo.shown} or Redis at {settings.redis.shown} went away"
        on_failure(line)
        stop(line, FAILED)
    except KeyboardInterrupt:
        stop(STOPPED, INTERRUPTED)
