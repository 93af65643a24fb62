"""Entry point: `arq src.worker.WorkerSettings`. Reads the settings; wrong ones end the start, a line per fault."""

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, ClassVar

from loguru import logger
from redis.exceptions import AuthenticationError, ResponseError

from .clients.redis import JOB_KEPT_MS, arq_settings, be_patient
from .deps import open_deps
from .engine.arq_jobs import arq_function, cron_job, enqueue, fire, make_up, schedules_of
from .engine.running import Running
from .engine.wire import deserialize, serialize
from .errors import Misuse, ServiceError
from .jobs import ALL_JOBS
from .log import configure_logging
from .rules.redact import redact
from .runtime import prepare_process
from .settings import Settings, load_settings

Ctx = dict[str, Any]
HEALTH_EVERY_S = 5  # `arq --check` believes a reading this old


def _settings() -> Settings:
    try:
        return load_settings()
    except Misuse as e:
        sys.exit(f"cannot start, the settings are wrong:\n{e}")


prepare_process()
settings = _settings()
schedules = schedules_of(ALL_JOBS.values(), settings.schedules.model_dump(), settings.service.zone)


def _in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A dependency that is not there is no bug: say what to do, without a traceback."""
    if isinstance(error, ServiceError):
        sys.stderr.write(f"cannot start: {error}\n")
    elif isinstance(error, AuthenticationError | ResponseError):
        sys.stderr.write(f"cannot go on: Redis at {settings.redis.shown} refuses us: {redact(str(error))}\n")
    elif isinstance(error, ConnectionError | TimeoutError) or kind.__module__.startswith("redis."):
        sys.stderr.write(f"cannot start: Redis does not answer at {settings.redis.shown}: start it, or set REDIS_URL\n")
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _in_one_line


async def startup(ctx: Ctx) -> None:
    """Open the dependencies, take over the signals, and do at once what cannot wait for its first tick."""
    patience = await be_patient(ctx["redis"])
    service = settings.service
    fields = {"service": service.service_name_worker, "environment": service.environment}
    configure_logging(service.log_level, service.log_format, directory=service.log_dir, fields=fields)
    ctx["stack"] = stack = AsyncExitStack()
    deps = await stack.enter_async_context(open_deps(settings, job_serializer=serialize, job_deserializer=deserialize))
    deps = ctx["deps"] = replace(deps, spawn=partial(enqueue, deps))
    ctx["running"] = running = Running(
        deps.redis,
        deps.stopping,
        grace_s=settings.worker.shutdown_seconds,
        lease_s=settings.worker.lease_seconds,
        on_stop=patience.end,
    )
    ctx["leases"] = asyncio.create_task(running.keep_leases())
    stack.callback(ctx["leases"].cancel)
    main = asyncio.current_task()  # arq awaits this hook inside its polling task
    if main is not None:
        running.take_over_signals(main)
    now = datetime.now(UTC).replace(microsecond=0)
    if "sync_pages" in schedules:
        await fire(deps, ALL_JOBS["sync_pages"], now)
    for name, schedule in schedules.items():
        await make_up(deps, ALL_JOBS[name], schedule, now)
    logger.info("worker started", jobs=len(ALL_JOBS), schedules=len(schedules), pancake=settings.pancake.base_url)


async def shutdown(ctx: Ctx) -> None:
    """Close in reverse order."""
    if "stack" in ctx:
        await ctx["stack"].aclose()
    logger.info("worker stopped")


def read_job(data: bytes) -> dict[str, Any]:
    """`deserialize`, and a line in the log: arq itself drops what it cannot read without a word."""
    try:
        return deserialize(data)
    except ValueError:
        logger.error("a job in the queue is not our JSON and is dropped; give its sender the serializer of engine/wire")
        raise


class WorkerSettings:
    """What arq reads. arq itself runs in UTC: with a zone, its cron stands still for an hour each autumn."""

    functions: ClassVar = [arq_function(job, settings.worker.default_timeout_seconds) for job in ALL_JOBS.values()]
    cron_jobs: ClassVar = [cron_job(ALL_JOBS[name], schedule) for name, schedule in schedules.items()]
    redis_settings = arq_settings(settings.redis)
    on_startup = startup
    on_shutdown = shutdown
    timezone = UTC
    max_jobs = settings.worker.max_concurrent_jobs
    keep_result = 0
    poll_delay = 0.2
    health_check_interval = HEALTH_EVERY_S
    expires_extra_ms = JOB_KEPT_MS
    job_serializer = serialize
    job_deserializer = read_job
    log_results = False
