"""Jobs that report."""

from .. import catalog
from ..deps import Deps
from ..engine.job import Job, Outcome
from ..monitoring.reports import day_of, report_day, send_report


async def report_response_times(deps: Deps, day: str | None = None) -> str:
    """Store how long customers waited on a day; yesterday's, which nobody asked for by name, is sent as well.

    Safe to repeat and to kill: what is stored is replaced, what was sent is not sent again. Raises Misuse.
    """
    on = day_of(day, deps.now(), deps.settings.service.zone)
    pages = await report_day(deps, on)
    told = await send_report(deps, on, pages) if day is None else 0
    page_rows = [rows[0] for rows in pages.values() if rows]
    return Outcome(
        "reported",
        day=on.isoformat(),
        pages=len(pages),
        answered=sum(row.answered for row in page_rows),
        unanswered=sum(row.unanswered for row in page_rows),
        told=told,
    )


JOBS = (Job(catalog.report_response_times, report_response_times),)
