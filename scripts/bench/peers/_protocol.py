"""What the bench and a contender say to each other; standard library only, since every contender's Python reads it.

    python -m scripts.bench.peers.NAME work --url URL --jobs N [--gate] [--defaults]
    python -m scripts.bench.peers.NAME push --url URL --jobs N [--kind sleep] [--how many] [--defaults]

Kinds of job are `noop`, `sleep` and `stamp`, ways to enqueue `one` by one, `many` in bulk, and a `trickle` of stamps.
Answers are JSON lines on stdout, times are `time.monotonic()` in seconds, on Linux one clock for all processes:

    {"event": "ready"}    a worker with --gate: all is imported, and it starts once it reads a line on stdin
    {"event": "warm"}     a `stamp` without a time was run: the worker is up
    {"event": "done", "jobs": n, "start": s, "end": s, "waits_ms": [...]}    first job's first line, last job's last one
    {"event": "pushed", "jobs": n, "seconds": s}    connected and warmed up before the clock started

A worker is done at the N-th job, or with `--jobs 0` once no job ended for `QUIET_S`; it runs on until it is ended.
"""

import argparse
import asyncio
import ctypes
import json
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal

SLEEP_S = 0.05  # of a `sleep` job
EVERY_S = 0.05  # between two jobs of a trickle
SLOTS = 100  # jobs at once, where the contender is tuned
AT_ONCE = 100  # enqueue calls in flight where there is no bulk call
QUIET_S, START_LIMIT_S = 1.0, 15.0
WARM_UPS = 5

Kind = Literal["noop", "sleep", "stamp"]


@dataclass(frozen=True)
class Request:
    """The command line. `is_default`: the contender as it comes, nothing tuned."""

    mode: Literal["work", "push"]
    url: str
    jobs: int
    kind: Kind
    how: Literal["one", "many", "trickle"]
    has_gate: bool
    is_default: bool


@dataclass(frozen=True)
class Client:
    """How a contender enqueues: `one(kind)`, or `one("stamp", sent)`; `many(kind, count)` where it has a bulk call."""

    one: Callable[..., Awaitable[object]]
    many: Callable[[str, int], Awaitable[object]] | None = None


class Meter:
    """Counts jobs in the worker's own process: no contender pays a round trip for being measured."""

    def __init__(self) -> None:
        self.wanted = 0
        self.waits_ms: list[float] = []
        self._jobs = 0
        self._start = self._end = 0.0

    def begin(self) -> None:
        """First line of a job."""
        if not self._start:
            self._start = time.monotonic()

    def end(self) -> None:
        """Last line of a job."""
        self._end = time.monotonic()
        self._jobs += 1
        if self._jobs == self.wanted:
            self.report()

    def report(self) -> None:
        """Say what was counted."""
        say(event="done", jobs=self._jobs, start=self._start, end=self._end, waits_ms=self.waits_ms)

    def report_when_quiet(self) -> None:
        """Where several processes share the jobs, none knows the last one: report once nothing came for a while."""
        patience = time.monotonic() + START_LIMIT_S
        while time.monotonic() < (self._end + QUIET_S if self._jobs else patience):
            time.sleep(0.1)
        self.report()


METER = Meter()


async def noop() -> None:
    """A job that does nothing."""
    METER.begin()
    METER.end()


async def sleep() -> None:
    """A job that waits, as one on the network does."""
    METER.begin()
    await asyncio.sleep(SLEEP_S)
    METER.end()


async def stamp(sent: float) -> None:
    """A job that says how long after `sent`, taken just before the enqueue call, it began; 0: a warm-up."""
    now = time.monotonic()
    if not sent:
        say(event="warm")
        return
    METER.begin()
    METER.waits_ms.append((now - sent) * 1000)
    METER.end()


JOBS = (noop, sleep, stamp)


def say(**answer: Any) -> None:
    """One line to the bench."""
    print(json.dumps(answer), flush=True)


def main(
    client: Callable[[Request], AbstractAsyncContextManager[Client]],
    work: Callable[[Request], Coroutine[Any, Any, object]],
    run: Callable[[Request, Coroutine[Any, Any, object]], object],
) -> None:
    """A contender's process. `work` runs a worker with `JOBS` until it is ended; `run` brings the event loop."""
    _die_with_parent()
    logging.basicConfig(level=logging.WARNING)
    request = _parse()
    if request.mode == "push":
        run(request, _push(client, request))
        return
    METER.wanted = request.jobs
    if request.has_gate:
        say(event="ready")
        sys.stdin.readline()
    if not request.jobs:
        threading.Thread(target=METER.report_when_quiet, daemon=True).start()
    run(request, work(request))


def _parse() -> Request:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("work", "push"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--kind", choices=("noop", "sleep", "stamp"), default="noop")
    parser.add_argument("--how", choices=("one", "many", "trickle"), default="one")
    parser.add_argument("--gate", dest="has_gate", action="store_true")
    parser.add_argument("--defaults", dest="is_default", action="store_true")
    return Request(**vars(parser.parse_args()))


def _die_with_parent() -> None:
    """A killed bench leaves no worker behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))


async def _push(client: Callable[[Request], AbstractAsyncContextManager[Client]], request: Request) -> None:
    async with client(request) as opened:
        if request.how == "trickle":
            started = await _trickle(opened, request.jobs)
        else:
            if request.kind == "noop":
                await opened.one("noop")  # the first call connects and loads scripts; one job more harms no figure
            started = time.monotonic()
            await (_each if request.how == "one" else _bulk)(opened, request)
        say(event="pushed", jobs=request.jobs, seconds=time.monotonic() - started)


async def _each(client: Client, request: Request) -> None:
    arguments = (0.0,) if request.kind == "stamp" else ()
    for _ in range(request.jobs):
        await client.one(request.kind, *arguments)


async def _bulk(client: Client, request: Request) -> None:
    if client.many is not None:
        await client.many(request.kind, request.jobs)
        return
    turns = iter(range(request.jobs))

    async def some() -> None:
        for _ in turns:
            await client.one(request.kind)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def _trickle(client: Client, jobs: int) -> float:
    """A job each `EVERY_S`, a little more or less lest the pace keep step with somebody's polling."""
    for _ in range(WARM_UPS):
        await client.one("stamp", 0.0)
        await asyncio.sleep(EVERY_S)
    shake = random.Random(1)
    started = time.monotonic()
    for _ in range(jobs):
        await client.one("stamp", time.monotonic())
        await asyncio.sleep(EVERY_S * shake.uniform(0.8, 1.2))
    return started
