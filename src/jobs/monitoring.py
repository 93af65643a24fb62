"""Jobs that see to it that no customer waits unseen."""

from .. import catalog
from ..alerts.monitor import Looked, look_at_page
from ..alerts.outgoing import spawn_senders
from ..alerts.send import send_all
from ..deps import Deps
from ..engine.job import Job, Outcome
from ..engine.letters import current_call


async def monitor_conversations(deps: Deps) -> str:
    """Have every page looked at, and what is left in the outbox sent. Safe to repeat."""
    page_ids = await deps.pages.to_sync(deps.settings.pancake.page_ids)
    for page_id in page_ids:
        await MONITOR_PAGE.spawn(deps, page_id=page_id)
    senders = await spawn_senders(deps, await deps.outbox.addresses(deps.now()))
    return Outcome("enqueued" if page_ids else "no_pages", pages=len(page_ids), senders=senders)


async def monitor_page(deps: Deps, page_id: str) -> str:
    """Bring the alerts of a page up to date. Safe to repeat, to kill and to run twice at once."""
    looked = await look(deps, page_id)
    return Outcome(
        "late" if looked.is_late else "looked",
        page_id=page_id,
        planned=looked.planned,
        due=looked.due,
        told=looked.told,
        resolved=looked.resolved,
        held=looked.held,
        faulty=looked.faulty,
    )


async def look(deps: Deps, page_id: str) -> Looked:
    """One look at a page, by its policy."""
    settings = deps.settings
    policy = (await deps.policies.load(settings.alerts.policy(settings.service.zone))).of(page_id)
    return await look_at_page(deps, page_id, policy)


async def send_alerts(deps: Deps, to: str) -> str:
    """Send one address what waits for it. Safe to repeat and to kill: see `alerts/send.py`."""
    call = current_call.get()
    is_last = call is None or call.attempt >= catalog.send_alerts.max_tries
    messages, told = await send_all(deps, to, is_last_try=is_last)
    return Outcome("sent" if messages else "nothing_to_send", messages=messages, told=told)


MONITOR_PAGE = Job(catalog.monitor_page, monitor_page)
JOBS = (
    Job(catalog.monitor_conversations, monitor_conversations),
    MONITOR_PAGE,
    Job(catalog.send_alerts, send_alerts),
)
