"""`top`: what the service does now, in a terminal, looked at again each moment."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.live import Live

from ..catalog import CATALOG
from ..clients import mongo
from ..clients import redis as redis_client
from ..clients.mongo import Database, open_database
from ..engine import keys
from ..engine.facts import as_text
from ..engine.queue import Queue
from ..errors import ServiceError
from ..log import configure_logging
from ..scheduling.book import Book, book_of
from ..settings import Settings
from ..store.agents import Agents
from ..store.job_runs import JobRuns, Sought
from ..store.run_document import FAILED
from ..store.schedules import Schedules
from .edge import settings_or_stop
from .shown import UNBOUNDED
from .top_shown import Running, Snapshot, frame

ANSWER_S = 4.0  # for one server to be asked
MOST_RUNNING, MOST_FAILURES = 200, 20
ONCE_HEIGHT = 60
BETWEEN_S = 1.0  # two looks of `--once`, for rates
QUIT = ("q", "Q", "\x1b", "\x03")


def top(
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="seconds between two looks")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="print one picture as text and end")] = False,
) -> None:
    """Show lanes, workers, what runs, what failed and what is due, live; q or Ctrl-C ends it."""
    settings = settings_or_stop()
    # log lines would tear the picture; what is wrong stands in it
    with Path(os.devnull).open("w") as nowhere, suppress(KeyboardInterrupt):
        configure_logging("ERROR", settings.service.log_format, stream=nowhere, zone=settings.service.zone)
        asyncio.run(_once(settings) if once or not sys.stdout.isatty() else _live(settings, interval))


class Eyes:
    """Asks Redis and MongoDB; either may be away, and is asked again the next time. Close it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redis = redis_client.connect(settings.redis, Redis, retries=0)
        self._queue = Queue(self._redis, CATALOG)
        self._database: Database | None = None
        self._stack = AsyncExitStack()
        self._book = Book()

    async def look(self) -> Snapshot:
        """How things are now."""
        found: dict[str, object] = {}
        asks = (
            ("Redis", self._settings.redis.shown, self._ask_redis),
            ("MongoDB", self._settings.mongo.shown, self._ask_mongo),
        )
        faults: dict[str, str] = {}
        for name, shown, ask in asks:
            if why := await _asked(ask, found):
                faults[name] = f"{name} at {shown} does not answer ({why}): what follows lacks what it knows"
        return Snapshot(datetime.now(UTC), faults=faults, **found)  # type: ignore[arg-type]

    async def close(self) -> None:
        """Close the connections."""
        await self._stack.aclose()
        await self._redis.aclose(close_connection_pool=True)

    async def _ask_redis(self, found: dict[str, object]) -> None:
        found["lanes"] = lanes = await self._queue.stats()
        holders: dict[str, str] = {}
        async with self._redis.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.hgetall(keys.RUNNING + lane)
            for held in await pipe.execute():
                holders |= {as_text(job_id): as_text(token).lstrip("?") for job_id, token in held.items()}
        some = list(holders)[:MOST_RUNNING]
        running = [
            Running(job_id, info, holders[job_id].rpartition(":")[0])
            for job_id, info in zip(some, await self._queue.jobs(some), strict=True)
            if info and info.state == "active"
        ]
        found["running"] = sorted(running, key=lambda each: each.info.started_at or float("inf"))

    async def _ask_mongo(self, found: dict[str, object]) -> None:
        if self._database is None:
            self._database = await self._stack.enter_async_context(open_database(self._settings.mongo))
        found["workers"] = [agent for agent in await Agents(self._database).all() if agent.kind == "worker"]
        found["failures"] = await JobRuns(self._database).latest(Sought(ends=FAILED), MOST_FAILURES)
        self._book = book_of(self._settings, await Schedules(self._database).all(), CATALOG, self._book)
        found["plans"] = [plan for plan in self._book.plans.values() if plan.is_on]


async def _asked(ask: Callable[[dict[str, object]], Awaitable[None]], found: dict[str, object]) -> str:
    """Ask one server within a deadline; returns why it gave no answer, or ""."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await ask(found)
    except TimeoutError:
        return f"no answer in {ANSWER_S:g} s"
    except (ServiceError, RedisError, OSError, *mongo.FAILURES) as e:
        return type(e).__name__
    return ""


async def _once(settings: Settings) -> None:
    eyes = Eyes(settings)
    try:
        before = await eyes.look()
        await asyncio.sleep(BETWEEN_S)
        now = await eyes.look()
    finally:
        await eyes.close()
    console = Console(
        file=sys.stdout, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNBOUNDED, highlight=False
    )
    console.print(frame(now, before, settings.service.zone, ONCE_HEIGHT))


async def _live(settings: Settings, interval: float) -> None:
    eyes, console = Eyes(settings), Console(highlight=False)
    before: Snapshot | None = None
    ended = asyncio.Event()
    try:
        with _keys(ended), Live(console=console, screen=True, auto_refresh=False) as live:
            while not ended.is_set():
                now = await eyes.look()
                live.update(frame(now, before, settings.service.zone, console.height), refresh=True)
                before = now
                with suppress(TimeoutError):
                    async with asyncio.timeout(interval):
                        await ended.wait()
    finally:
        await eyes.close()


@contextmanager
def _keys(ended: asyncio.Event) -> Iterator[None]:
    """Set `ended` at a key that means the end, without waiting for Enter; the terminal is put back afterwards."""
    if not sys.stdin.isatty():
        yield
        return
    number = sys.stdin.fileno()
    before, loop = termios.tcgetattr(number), asyncio.get_running_loop()

    def pressed() -> None:
        if sys.stdin.read(1) in QUIT:
            ended.set()

    tty.setcbreak(number)
    loop.add_reader(number, pressed)
    try:
        yield
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)
