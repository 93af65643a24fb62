"""What is noted of a job that somebody stopped while it waited: no worker had it, so none tells of its end."""

import time
from datetime import UTC, datetime, timedelta

from ..clients.mongo import Database
from ..engine.boundary import End, run_of
from ..engine.facts import Stopped
from ..engine.history import History
from ..engine.inline import this_process
from ..engine.letters import Call
from ..engine.wire import read_job
from ..settings import Settings
from ..store.job_runs import JobRuns
from ..store.run_minutes import RunMinutes
from ..store.schedules import LastRun, Schedules
from .plan import Declared

WHY = "it was stopped while it waited"


async def note_stopped(
    database: Database, settings: Settings, job_id: str, stopped: Stopped, declared: Declared
) -> None:
    """Write it into the history, and to the schedule whose tick it was. `declared`: our jobs.

    Raises what MongoDB does. A job that nobody can read leaves nothing to be told.
    """
    try:
        envelope = read_job(stopped.payload)
    except ValueError:
        return
    now = time.time()
    call = Call(
        job_id,
        stopped.lane,
        0,
        envelope.enqueued_ms / 1000,
        envelope.traceparent,
        this_process(),
        envelope.schedule,
        envelope.tick_at,
        stopped.fence,
    )
    kept_days = declared[envelope.name].history_days if envelope.name in declared else None
    run = run_of(envelope.name, call, End("cancelled", error=WHY), now, 0.0, envelope.kwargs, kept_days)
    if days := settings.worker.history_days:
        kept = timedelta(days=settings.worker.rollup_days)
        history = History(
            JobRuns(database), RunMinutes(database, kept), days=days, worker=this_process(), known=declared
        )
        history.add(run)
        await history.close()
    if envelope.schedule:
        tick_at = None if run.tick_at is None else datetime.fromtimestamp(run.tick_at, UTC)
        last = LastRun("cancelled", datetime.fromtimestamp(now, UTC), 0.0, WHY, tick_at)
        await Schedules(database).ran(envelope.schedule, last, stopped.fence)
