"""Plays a script: the simulated Pancake lives it minute by minute, two workers watch, some die."""

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from pydantic import SecretStr
from pymongo import MongoClient
from redis import Redis

from src.deps import Deps, open_deps
from src.enqueue import JobQueue
from src.settings import MongoSettings, PancakeSettings, RedisSettings, load_settings
from src.webhooks import endpoints
from tests.acceptance.processes import ROOT, UNSCHEDULED
from tests.harness.merchants import with_webhooks
from tests.harness.shop.judge import TICK, Told
from tests.harness.shop.script import MINUTE, Event, Script
from tests.harness.shop.worker import CLOCK, SECONDS, write_clock
from tests.simulators.merchant import InThread, running_in_thread
from tests.simulators.pancake import Running, Switches, VirtualClock, World, running

WORKERS = 2
SHOP = "shop"  # the merchant whose endpoint is told
SETTLED_S = 120.0  # for the work of one minute
LOOK_S = 0.02


class Servers(Protocol):
    """Where Redis and MongoDB are."""

    @property
    def redis_url(self) -> str:
        """Redis; emptied before."""
        ...

    @property
    def mongodb_uri(self) -> str:
        """MongoDB; a database of the play's own is made and dropped."""
        ...


@dataclass(slots=True)
class Played:
    """What came of it. `told` is by the endpoint that was called, not by our books; `repeats`: events that came twice.

    `lags`: seconds of real time from a tick to each call of the endpoint.
    """

    told: list[Told] = field(default_factory=list)
    events: int = 0
    repeats: int = 0
    kills: int = 0
    lags: list[float] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    dead_letters: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def play(
    script: Script, policies: Sequence[dict[str, Any]], servers: Servers, *, sync_every_min: int = 1
) -> Played:
    """Play it to its end. `policies`: as the service is told of them, one a page; `sync_every_min` of the script."""
    started, name = time.monotonic(), f"shop_{uuid.uuid4().hex[:10]}"
    clock = VirtualClock(script.start)
    switches = Switches()
    switches.update({"rate_limit": 0, "random_transient_pct": 0.5, "advance_s_per_call": 0.0})
    world = World(script.seed, pages=script.pages, customers=0, days=1, clock=clock, switches=switches)
    with MongoClient[dict[str, Any]](servers.mongodb_uri) as mongo, Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
        try:
            async with AsyncExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                simulator = await stack.enter_async_context(running(world))
                merchants = stack.enter_context(running_in_thread())
                stage = Stage(script, world, clock, simulator, merchants, servers, name, folder, sync_every_min)
                await stage.set_up(policies)
                async with stage.workers():
                    await stage.live()
                played = stage.result()
                found = mongo[name]
                played.notices = [doc["key"] for doc in found["alerts"].find({"kind": {"$ne": "waiting"}})]
                played.dead_letters = [str(doc.get("error")) for doc in found["dead_letters"].find()]
        finally:
            mongo.drop_database(name)
    played.seconds = time.monotonic() - started
    return played


class Stage:
    """One play."""

    def __init__(
        self,
        script: Script,
        world: World,
        clock: VirtualClock,
        simulator: Running,
        merchants: InThread,
        servers: Servers,
        database: str,
        folder: Path,
        sync_every_min: int,
    ) -> None:
        self._script, self._world, self._clock, self._merchants = script, world, clock, merchants
        self._rng = random.Random(f"play/{script.seed}")
        self._servers, self._database, self._folder = servers, database, folder
        self._base_url, self._sync_every_min = simulator.base_url, sync_every_min
        self._ids: dict[int, str] = {}  # of conversations, by thread
        self._threads: dict[str, int] = {}
        self._real: dict[int, float] = {}  # when each minute was begun, by the machine's clock
        self._lives: list[asyncio.subprocess.Process] = []
        self._kills = 0
        self._log: IO[bytes] = (folder / "workers.log").open("wb")

    async def set_up(self, policies: Sequence[dict[str, Any]]) -> None:
        """Pages, policies, and the endpoint that is told."""
        (self._folder / "clock").write_bytes(SECONDS.pack(self._script.start))
        async with self._deps() as deps:
            await endpoints.add(deps, merchant_id=SHOP, url=self._merchants.url(SHOP), events=["alert.*"])
            for page_id, policy in zip(self._world.pages, policies, strict=True):
                await deps.policies.save({"pageId": page_id, "to": [f"webhook:{SHOP}"], **policy})

    @asynccontextmanager
    async def workers(self) -> AsyncIterator[None]:
        """Two workers; those that die are replaced by `_kill`."""
        try:
            self._lives = [await self._begin() for _ in range(WORKERS)]
            yield
        finally:
            for life in self._lives:
                if life.returncode is None:
                    life.kill()
                await life.wait()
            self._log.close()

    async def live(self) -> None:
        """Every minute of the script: what is written, what is synced, and at each tick what the monitor does."""
        events = iter(self._script.events)
        event = next(events, None)
        async with JobQueue.connect(self._servers.redis_url) as queue:
            await self._settle(queue, await self._put(queue, "sync_pages"))
            for minute in range(-(-self._script.start // MINUTE), self._script.end // MINUTE):
                at = minute * MINUTE
                while event is not None and event.at <= at:
                    self._say(event)
                    event = next(events, None)
                self._set(at)
                due = {
                    "sync_conversations_incremental": minute % self._sync_every_min == 0,
                    "monitor_conversations": at % TICK == 0,
                }
                put = [await self._put(queue, job) for job, is_due in due.items() if is_due]
                if minute in self._script.kills:
                    await self._kill()
                await self._settle(queue, *put)

    def result(self) -> Played:
        """What the endpoint was told."""
        played = Played(kills=self._kills)
        seen: set[str] = set()
        minutes = sorted(self._real.items(), key=lambda item: item[1])
        for received in self._merchants.received(SHOP):
            body = json.loads(received.body)
            if body["id"] in seen:
                played.repeats += 1
                continue
            seen.add(body["id"])
            minute, began = max((item for item in minutes if item[1] <= received.arrived_at), key=lambda item: item[1])
            lag_s = received.arrived_at - began
            played.events += 1
            played.lags.append(lag_s)
            for alert in body["data"]["alerts"]:
                if alert["step"] != "resolved":
                    thread = self._threads[alert["conversationId"]]
                    played.told.append(Told(thread, alert["step"], minute * MINUTE + lag_s))
        return played

    def _set(self, at: int) -> None:
        self._clock.advance(at - self._clock.now_us() / 1_000_000)
        self._real[at // MINUTE] = time.time()
        write_clock(self._folder / "clock", at)
        pages = list(self._world.pages)
        self._world.switches.page_failures = [
            page_id
            for number, page_id in enumerate(pages)
            if any(outage.holds(at, number) for outage in self._script.outages)
        ]

    def _say(self, event: Event) -> None:
        page_id = list(self._world.pages)[self._script.threads[event.thread]]
        if event.thread not in self._ids:
            self._ids[event.thread] = self._world.open_conversation(page_id, at=event.at)
            self._threads[self._ids[event.thread]] = event.thread
        self._world.say(page_id, self._ids[event.thread], event.who, at=event.at)

    async def _put(self, queue: JobQueue, job: str) -> str:
        return await queue.enqueue(job)

    async def _settle(self, queue: JobQueue, *job_ids: str) -> None:
        """Until these jobs are over, and what followed from them in monitoring and webhooks."""
        ends_at = time.monotonic() + SETTLED_S
        while time.monotonic() < ends_at:
            infos = [await queue.job(job_id) for job_id in job_ids]
            stats = await queue.stats()
            busy = [stats[lane] for lane in ("monitoring", "webhooks", "webhooks_retry")]
            left = sum(lane.pending + lane.active + lane.scheduled + lane.retry for lane in busy)
            if not self._world.switches.page_failures:  # else passes fail and come again, for as long as it lasts
                left += stats["sync"].active + stats["sync"].pending
            if not left and all(info is None or info.state in ("done", "dead") for info in infos):
                return
            await asyncio.sleep(LOOK_S)
        raise TimeoutError(f"a minute's work did not end: {await queue.stats()}")

    async def _kill(self) -> None:
        """One worker dies in the middle of its work, and another one takes its place."""
        await asyncio.sleep(self._rng.uniform(0, 0.15))
        number = self._rng.randrange(len(self._lives))
        self._lives[number].send_signal(signal.SIGKILL)
        await self._lives[number].wait()
        self._kills += 1
        self._lives[number] = await self._begin()

    async def _begin(self) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "tests.harness.shop.worker", str(os.getpid())]
        return await asyncio.create_subprocess_exec(
            *command, env=self._environment(), cwd=ROOT, stdout=self._log, stderr=self._log
        )

    def _environment(self) -> dict[str, str]:
        from_here = {name: value for name, value in os.environ.items() if not name.startswith(("SCHEDULE_", "ALERT_"))}
        return {
            **from_here,
            **UNSCHEDULED,
            "REDIS_URL": self._servers.redis_url,
            "MONGODB_URI": self._servers.mongodb_uri,
            "MONGODB_DATABASE": self._database,
            "PANCAKE_BASE_URL": self._base_url,
            "PANCAKE_ACCESS_TOKEN": self._world.user_token,
            "PANCAKE_ALLOW_TOKEN_MINTING": "true",
            "PANCAKE_MAX_CALLS_PER_SECOND": "0",
            "WEBHOOK_ALLOW_HTTP": "true",
            "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "WORKER_METRICS_PORT": "0",
            "WORKER_LEASE_SECONDS": "1",
            "WORKER_HISTORY_DAYS": "0",
            "ALERT_MAX_MESSAGES_PER_HOUR": "100000",
            "LOG_LEVEL": "WARNING",
            CLOCK: str(self._folder / "clock"),
        }

    @asynccontextmanager
    async def _deps(self) -> AsyncIterator[Deps]:
        settings = with_webhooks(load_settings(None)).replace(
            redis=RedisSettings(url=SecretStr(self._servers.redis_url)),
            mongo=MongoSettings(uri=SecretStr(self._servers.mongodb_uri), database=self._database),
            pancake=PancakeSettings(base_url=self._base_url, access_token=SecretStr(self._world.user_token)),
        )
        async with open_deps(settings) as deps:
            yield deps
