"""What people do with alerts, by command now and by HTTP later."""

from datetime import datetime

from ..deps import Deps
from ..errors import Misuse
from ..store.alerts import WAITING, Alert

ACK_HOURS = 2.0


async def hush(deps: Deps, alert_id: str, until: datetime, *, by: str | None) -> Alert:
    """No further step of this alert before `until`; `by` is who acknowledges it, None for a snooze.

    After `until` the last step comes again, if the customer waits still, and those left follow. Safe to repeat:
    the last one counts. Raises Misuse where no such alert is open, or `until` has passed.
    """
    moment = until.timestamp()
    if moment <= deps.now():
        raise Misuse(f"{until:%Y-%m-%d %H:%M} has passed: name a time to come, or a span such as 2h")
    alert = await deps.alerts.hush(alert_id, moment, by)
    if alert is None:
        raise Misuse(f"no alert {alert_id!r} is open: `alerts list` shows those that are")
    if alert.kind == WAITING and alert.conversation_id:
        await deps.waiting.postpone(alert.conversation_id, moment)
    return alert
