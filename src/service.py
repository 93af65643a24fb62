"""A worker process: what arq's Worker is given, what is opened when it starts, and in which order it ends."""

import asyncio
import secrets
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from os import getpid
from typing import Any

from arq import func
from loguru import logger

from .clients.redis import arq_settings, be_patient, connect, open_redis
from .deps import Deps, open_deps
from .engine import metrics
from .engine.dead_letters import recount
from .engine.front_door import FrontDoor, run_by_lanes
from .engine.hands import QueueHands
from .engine.job import Job
from .engine.keys import FRONT_DOOR
from .engine.lanes import Lanes
from .engine.queue import Queue
from .engine.recorder import Recorder, recording
from .engine.shutdown import Shutdown
from .engine.wire import deserialize, serialize
from .log import configure_logging
from .monitoring.present import present, usual_name
from .monitoring.vitals import vitals
from .scheduling.desk import run_at_start
from .scheduling.ticker import Ticker
from .settings import Settings
from .traced import traced

Ctx = dict[str, Any]
FIRST = "sync_pages"  # of all schedules the one that a new worker does not wait for
HEALTH_EVERY_S = 5  # `arq --check` believes a reading this old


class Service:
    """One worker process for `jobs`; `arq_options` is what arq's Worker is to be made of."""

    def __init__(self, settings: Settings, jobs: Mapping[str, Job[Any]]) -> None:
        self._settings = settings
        self._jobs = jobs
        self._token = f"{socket.gethostname()}:{getpid()}:{secrets.token_hex(4)}"
        self._stack = AsyncExitStack()

    def arq_options(self) -> dict[str, Any]:
        """What arq's Worker is told; its own clock is not used."""
        door = connect(self._settings.redis, FrontDoor, retries=1)
        door.job_serializer, door.job_deserializer = serialize, deserialize  # else arq would pickle
        door.health = metrics.RUNS.in_arq_words
        return {
            "functions": [func(run_by_lanes, name=name) for name in self._jobs],
            "redis_pool": door,
            "redis_settings": arq_settings(self._settings.redis),  # for `arq --check`
            "queue_name": FRONT_DOOR,
            "health_check_key": f"{FRONT_DOOR}:health-check:{socket.gethostname()}",  # of this machine's worker
            "health_check_interval": HEALTH_EVERY_S,
            "on_startup": self.startup,
            "on_shutdown": self.shutdown,
        }

    async def startup(self, ctx: Ctx) -> None:
        """Open the dependencies, start the lanes, and do at once what cannot wait for its first tick."""
        door: FrontDoor = ctx["redis"]
        patience = await be_patient(door)
        service, worker = self._settings.service, self._settings.worker
        fields = {"service": service.service_name_worker, "environment": service.environment}
        us = {**fields, "worker": self._token.rpartition(":")[0]}
        configure_logging(
            service.log_level, service.log_format, directory=service.log_dir, fields=us, zone=service.zone
        )
        logger.info("initializing worker", **fields)
        await self._stack.enter_async_context(traced(self._settings, service.service_name_worker))
        deps = await self._stack.enter_async_context(open_deps(self._settings))
        logger.info("database connection established", database=self._settings.mongo.shown)
        logger.info("redis connection established", redis=self._settings.redis.shown)
        queue = Queue(deps.redis, {name: job.declaration for name, job in self._jobs.items()})
        recorder = await self._stack.enter_async_context(recording(deps, self._jobs, self._token))
        hands = QueueHands(queue)
        ctx["deps"] = deps = replace(deps, hands=hands, record=recorder)
        lanes = await self._start_lanes(deps)
        hands.slots = lanes.slots
        self._shutdown = Shutdown(lanes, deps.stopping, grace_s=worker.shutdown_seconds, on_drained=patience.end)
        main = asyncio.current_task()  # arq awaits this hook inside its polling task
        if main is not None:
            self._shutdown.take_over_signals(main)
        await recount(deps)
        ticker = await self._start_ticker(deps, queue, recorder, lanes)
        self._shutdown.on_begin.append(ticker.stop_firing)
        await self._stack.enter_async_context(present(deps, usual_name(deps)))  # who could not start never was
        await self._stack.enter_async_context(vitals(deps, lanes.slots))
        logger.info(
            "worker started successfully",
            jobs_registered=len(self._jobs),
            slots=lanes.slots.size,
            pancake=self._settings.pancake.base_url,
        )

    async def shutdown(self, ctx: Ctx) -> None:
        """Drain where no signal did it, say goodbye, and close in reverse order."""
        if hasattr(self, "_shutdown"):
            await self._shutdown.drained()
        await self._stack.aclose()
        logger.info("worker shutdown completed")
        await logger.complete()

    async def _start_lanes(self, deps: Deps) -> Lanes:
        redis = await self._stack.enter_async_context(open_redis(self._settings.redis, retries=0))
        lanes = Lanes(deps, redis, self._jobs, self._token)
        await lanes.start()
        return lanes

    async def _start_ticker(self, deps: Deps, queue: Queue, recorder: Recorder, lanes: Lanes) -> Ticker:
        """Begin to fire schedules; the pages are listed at once, whatever their schedule."""
        declared = {name: job.declaration for name, job in self._jobs.items()}
        ticker = Ticker(deps, queue, declared, lanes.slots.stop)
        recorder.on_run.append(ticker.ran)
        self._stack.push_async_callback(ticker.close)
        await ticker.start()
        on = [plan for plan in ticker.book.plans.values() if plan.is_on]
        for plan in on:
            logger.info("job registered: {job}", job=plan.job, schedule=plan.expression, name=plan.name)
        logger.info(
            "starting scheduler",
            jobs_count=len(on),
            default_timeout_seconds=self._settings.worker.default_timeout_seconds,
        )
        if any(plan.name == FIRST for plan in on):
            await run_at_start(queue, ticker.book.plans[FIRST], deps.now())
        return ticker
