"""Notices that end without a word: what they speak of is not looked at any more."""

from collections.abc import Iterable

from ..deps import Deps
from ..store.alerts import Alert


async def end_quietly(deps: Deps, notices: Iterable[Alert], reason: str) -> None:
    """What was not sent yet is never sent, and nobody hears that it is over, for it may not be. Safe to repeat."""
    alert_ids = [notice.alert_id for notice in notices]
    if alert_ids:
        await deps.outbox.drop_pending(alert_ids, but_step="")
        await deps.alerts.resolve(alert_ids, deps.now(), reason)
