"""Jobs that report."""

from .. import catalog
from ..deps import Deps
from ..engine.job import Job, Outcome
from ..engine.letters import current_call
from ..errors import Snooze
from ..monitoring.reports import bounds, day_of, lacking, report_day, send_report

LOOK_AGAIN_S, LONGEST_WAIT_S = 300.0, 7_200.0  # for data that is late; then the report goes out and says so


async def report_response_times(deps: Deps, day: str | None = None) -> str:
    """Store how long customers waited on a day; yesterday's, which nobody asked for by name, is sent as well.

    Safe to repeat and to kill: what is stored is replaced, what was sent is not sent again. Raises Misuse, and Snooze
    where yesterday's messages are not all read yet: on a new shop's first day, or after an outage.
    """
    on = day_of(day, deps.now(), deps.settings.service.zone)
    page_ids = await deps.pages.to_sync(deps.settings.pancake.page_ids)
    late = await lacking(deps, page_ids, *bounds(on, on, deps.settings.service.zone))
    if late and day is None and _may_wait(deps):
        unread = f"not everything of {on} has been read yet; pages: {len(late)}"
        raise Snooze(unread, after_s=LOOK_AGAIN_S, is_usual=True)  # each new shop's first day begins so
    pages = await report_day(deps, on)
    told = await send_report(deps, on, pages, late) if day is None else 0
    page_rows = [rows[0] for rows in pages.values() if rows]
    return Outcome(
        "reported" if not late else "incomplete",
        day=on.isoformat(),
        pages=len(pages),
        answered=sum(row.answered for row in page_rows),
        unanswered=sum(row.unanswered for row in page_rows),
        told=told,
    )


def _may_wait(deps: Deps) -> bool:
    """Whether the job was enqueued not long ago; by hand nobody waits."""
    call = current_call.get()
    return call is not None and 0 < deps.now() - call.enqueued_at < LONGEST_WAIT_S


JOBS = (Job(catalog.report_response_times, report_response_times),)
