"""A worker process: what arq's Worker is given, what is opened when it starts, and in which order it ends."""

import asyncio
import secrets
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from os import getpid
from typing import Any

from arq import func
from loguru import logger

from .clients import mongo
from .clients.redis import arq_settings, be_patient, connect, open_redis
from .deps import Deps, open_deps
from .engine import metrics
from .engine.clock import Clock, cron_job, fire, make_up, run_by_lanes, schedules_of
from .engine.dead_letters import recount
from .engine.hands import QueueHands
from .engine.history import History
from .engine.job import Job
from .engine.keys import FRONT_DOOR
from .engine.lanes import Lanes
from .engine.queue import Queue
from .engine.shutdown import Shutdown
from .engine.upkeep import kept_up
from .engine.wire import deserialize, serialize
from .log import configure_logging
from .monitoring.present import present, usual_name
from .settings import Settings
from .store.job_runs import Run

Ctx = dict[str, Any]
RECOUNT_S, RECOUNT_ALL_S = 1.0, 60.0
HEALTH_EVERY_S = 5  # `arq --check` believes a reading this old


class Service:
    """One worker process for `jobs`; `arq_options` is what arq's Worker is to be made of."""

    def __init__(self, settings: Settings, jobs: Mapping[str, Job[Any]]) -> None:
        self._settings = settings
        self._jobs = jobs
        self._expressions = settings.schedules.model_dump()
        self._schedules = schedules_of(jobs.values(), self._expressions, settings.service.zone)
        self._stack = AsyncExitStack()

    def arq_options(self) -> dict[str, Any]:
        """arq runs in UTC: with a zone, its cron stands still for an hour each autumn."""
        clock = connect(self._settings.redis, Clock, retries=1)
        clock.job_serializer, clock.job_deserializer = serialize, deserialize  # else arq would pickle
        clock.health = metrics.RUNS.in_arq_words
        return {
            "functions": [func(run_by_lanes, name=name) for name in self._jobs],
            "cron_jobs": [cron_job(self._jobs[name], schedule) for name, schedule in self._schedules.items()],
            "redis_pool": clock,
            "redis_settings": arq_settings(self._settings.redis),  # for `arq --check`
            "queue_name": FRONT_DOOR,
            "health_check_key": f"{FRONT_DOOR}:health-check:{socket.gethostname()}",  # of this machine's worker
            "health_check_interval": HEALTH_EVERY_S,
            "on_startup": self.startup,
            "on_shutdown": self.shutdown,
            "timezone": UTC,
        }

    async def startup(self, ctx: Ctx) -> None:
        """Open the dependencies, start the lanes, and do at once what cannot wait for its first tick."""
        clock: Clock = ctx["redis"]
        patience = await be_patient(clock)
        service, worker = self._settings.service, self._settings.worker
        fields = {"service": service.service_name_worker, "environment": service.environment}
        configure_logging(service.log_level, service.log_format, directory=service.log_dir, fields=fields)
        logger.info("initializing worker", **fields)
        deps = await self._stack.enter_async_context(open_deps(self._settings))
        logger.info("database connection established", database=self._settings.mongo.shown)
        queue = Queue(deps.redis, {name: job.declaration for name, job in self._jobs.items()})
        hands = QueueHands(queue)
        ctx["deps"] = deps = replace(deps, hands=hands, record=await self._record(deps))
        for name in self._schedules:
            logger.info("job registered", job=name, schedule=self._expressions[name])
        logger.info(
            "starting scheduler",
            jobs_count=len(self._schedules),
            default_timeout_seconds=worker.default_timeout_seconds,
        )
        lanes = await self._start_lanes(deps)
        hands.slots = lanes.slots
        self._shutdown = Shutdown(lanes, deps.stopping, grace_s=worker.shutdown_seconds, on_drained=patience.end)
        main = asyncio.current_task()  # arq awaits this hook inside its polling task
        if main is not None:
            self._shutdown.take_over_signals(main)
        await self._first_ticks(clock, deps, queue)
        await self._stack.enter_async_context(present(deps, usual_name(deps)))  # last: who could not start never was
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
        metrics.serve(self._settings.worker.metrics_port)
        redis = await self._stack.enter_async_context(open_redis(self._settings.redis, retries=0))
        token = f"{socket.gethostname()}:{getpid()}:{secrets.token_hex(4)}"
        lanes = Lanes(deps, redis, self._jobs, token)
        await lanes.start()
        return lanes

    async def _record(self, deps: Deps) -> Any:
        """What is done with each run: counted, and written to the history unless that is off."""
        days = self._settings.worker.history_days
        history, deaths = History(deps.job_runs, days=days), asyncio.Event()
        loops = (history.keep, partial(_recount_after, deps, deaths))
        tasks = [asyncio.create_task(kept_up(loop)) for loop in loops]

        async def close() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await history.close()

        self._stack.push_async_callback(close)

        def record(run: Run) -> None:
            metrics.RUNS.count(run, is_known=run.job in self._jobs)
            if days:
                history.add(run)
            if run.end == "dead":
                deaths.set()

        return record

    async def _first_ticks(self, clock: Clock, deps: Deps, queue: Queue) -> None:
        async def on_tick(name: str, tick: datetime) -> None:
            await fire(deps, queue, self._jobs[name], tick)

        clock.on_tick = on_tick
        await recount(deps)
        now = datetime.now(UTC).replace(microsecond=0)
        if "sync_pages" in self._schedules:
            await on_tick("sync_pages", now)
        for name, schedule in self._schedules.items():
            await make_up(deps, queue, self._jobs[name], schedule, now)


async def _recount_after(deps: Deps, deaths: asyncio.Event) -> None:
    """Keep the number of dead letters that `Queue.stats` shows in step; until cancelled.

    Soon after each death, at most once a second; and each minute, in case Redis forgot.
    """
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(RECOUNT_ALL_S):
                await deaths.wait()
        deaths.clear()
        try:
            await recount(deps)
        except mongo.FAILURES as e:
            logger.warning("dead letters not counted", error=type(e).__name__)
            deaths.set()
        await asyncio.sleep(RECOUNT_S)
