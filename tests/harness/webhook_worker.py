"""Workers that die where they are told: `python -m tests.harness.webhook_worker <pid of the parent>`, orders on stdin.

An order is a line of JSON, and forks a life: a worker, or a command of `python -m src`, with all its jobs. Its fate is
part of it: at which of `STEPS` it kills itself, and which steps never come to anything. Answers are `pid N` when a life
begins, and `end N CODE` when it is over.

What differs from a process in a shop are some waits (`WAITS`).
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

from arq.worker import run_worker

from src import cli
from src.clients.merchants import turnstile
from src.clients.merchants.gate import Gate
from src.clients.merchants.sender import Sender
from src.clients.merchants.turnstile import Turnstile
from src.engine.claims import Claims
from src.engine.hands import QueueHands
from src.engine.queue import Queue
from src.jobs import ALL_JOBS
from src.runtime import prepare_process
from src.service import Service
from src.settings import load_settings
from src.store import webhook_endpoints
from src.store.dead_letters import DeadLetters
from src.store.webhook_deliveries import WebhookDeliveries
from src.store.webhook_endpoints import WebhookEndpoints
from src.store.webhook_events import WebhookEvents
from src.webhooks import deliver, health, reconcile, turn
from tests.harness.child import die_with, say

#: Every await of the delivery path that another process can see something of.
STEPS: dict[str, tuple[Any, str]] = {
    "gate.version": (Gate, "version"),
    "gate.enter": (Gate, "enter"),
    "gate.leave": (Gate, "leave"),
    "gate.closed": (Gate, "closed"),
    "gate.forget": (Gate, "forget"),
    "turnstile.enter_now": (Turnstile, "enter_now"),
    "turnstile.enter": (Turnstile, "enter"),
    "turnstile.leave": (Turnstile, "leave"),
    "endpoints.of_merchant": (WebhookEndpoints, "of_merchant"),
    "endpoints.enable": (WebhookEndpoints, "enable"),
    "events.add": (WebhookEvents, "add"),
    "events.get": (WebhookEvents, "get"),
    "events.extend": (WebhookEvents, "extend"),
    "events.drop": (WebhookEvents, "drop"),
    "deliveries.add": (WebhookDeliveries, "add"),
    "deliveries.get": (WebhookDeliveries, "get"),
    "deliveries.begin": (WebhookDeliveries, "begin"),
    "deliveries.settle": (WebhookDeliveries, "settle"),
    "deliveries.drop": (WebhookDeliveries, "drop"),
    "deliveries.reopen": (WebhookDeliveries, "reopen"),
    "sender.send": (Sender, "send"),
    "health.release": (health, "release"),
    "hands.spawn": (QueueHands, "spawn"),
    "hands.hurry": (QueueHands, "hurry"),
    "queue.put": (Queue, "put"),
    "letters.add_job": (DeadLetters, "add_job"),
    "letters.replayed": (DeadLetters, "replayed"),
    # `finish.hold`, `finish.end` and `finish.again`: what Redis is told of jobs, of many in one call; jobs are counted
    "finish": (Claims, "finish"),
}
TURNS = 3  # of the event loop, in which a step is under way

#: (module, constant, seconds): nobody tests here how long these are.
WAITS: tuple[tuple[Any, str, Any], ...] = (
    (turn, "OTHERS_S", (0.5, 1.5)),
    (turn, "ELSEWHERE_S", 0.5),
    (deliver, "ELSEWHERE_S", 0.5),
    (turnstile, "AWAY_S", (0.5, 1.0)),
    (reconcile, "LATE_S", 0.5),
    (webhook_endpoints, "RECENT_S", 60.0),
)


@dataclass(frozen=True, slots=True)
class Order:
    """A life. `kill_at`: `<step>:<before|inside|after>:<at the how-manieth call>`, "" for never.

    `held`: steps that are begun and never done. `command`: of the command line; none for a worker.
    """

    environment: dict[str, str]
    log: str
    command: list[str] = field(default_factory=list)
    kill_at: str = ""
    held: list[str] = field(default_factory=list)


class Fate:
    """What becomes of the steps of this process."""

    def __init__(self, kill_at: str, held: list[str]) -> None:
        self._step, self._when, number = kill_at.split(":") if kill_at else ("", "", "0")
        self._left = int(number)
        self._held = frozenset(held)
        for name in {"finish" if step.startswith("finish.") else step for step in (self._step, *held) if step}:
            self._take_hold(name)

    def _take_hold(self, name: str) -> None:
        owner, attribute = STEPS[name]
        real = getattr(owner, attribute)

        @wraps(real)
        async def doomed(*args: Any, **kwargs: Any) -> Any:
            return await self._met(_named(name, args), partial(real, *args, **kwargs))

        setattr(owner, attribute, doomed)

    async def _met(self, names: Counter[str], step: Callable[[], Any]) -> Any:
        if self._held & names.keys():
            await asyncio.Event().wait()
        self._left -= names[self._step]
        is_now = self._step in names and self._left <= 0
        if is_now and self._when == "before":
            die()
        if is_now and self._when == "inside":
            under_way = asyncio.ensure_future(step())
            for _ in range(TURNS):
                await asyncio.sleep(0)
            die()
            return await under_way
        result = await step()
        if is_now:
            die()
        return result


def _named(name: str, args: tuple[Any, ...]) -> Counter[str]:
    return Counter(f"finish.{row[0]}" for row in args[1]) if name == "finish" else Counter([name])


def die() -> None:
    """As of the OOM killer."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Fork a life for each order, until stdin is closed."""
    die_with(int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, _reap)
    for line in sys.stdin.buffer:
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with(me)
            live(Order(**json.loads(line)))
            return
        say(f"pid {pid}")


def _reap(*_: object) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        say(f"end {pid} {os.waitstatus_to_exitcode(status)}")


def live(order: Order) -> None:
    """One life, from its beginning to its end."""
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number, file in enumerate((nothing, log, log)):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(order.environment)
    for module, constant, seconds in WAITS:
        setattr(module, constant, seconds)
    Fate(order.kill_at, order.held)
    prepare_process()
    if order.command:
        cli.app(order.command)
    else:
        run_worker(type("WorkerSettings", (), Service(load_settings(None), ALL_JOBS).arq_options()))


if __name__ == "__main__":
    main()
