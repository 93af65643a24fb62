"""Every job there is, as its callers see it: name, arguments, lane, limits. The coroutines of the same names, which do
the work, stand in `jobs/`.

Light: an app that only enqueues imports it (through `enqueue`), and then needs neither MongoDB's driver nor httpx.
"""

from typing import Any

from .engine.declaration import Declaration, declare
from .rules.coverage import Mode


@declare(lane="sync", scheduled_arguments={"start_new": True})
def sync_pages(start_new: bool = False) -> None:
    """Store the pages of the account; with `start_new`, fetch at once the customers of pages met for the first time."""


@declare(lane="sync")
def sync_customers_incremental() -> None:
    """Start a pass over what is new on every page."""


@declare(lane="sync")
def sync_customers_backfill() -> None:
    """Start a pass over every page's history, and over deleted customers where that is due."""


def _page_and_mode(page_id: str, mode: Mode = "incremental") -> str:
    return f"{page_id}:{mode}"


@declare(lane="sync", unique_key=_page_and_mode)
def sync_page_customers(page_id: str, mode: Mode = "incremental") -> None:
    """One pass over one page's customers."""


# how often a delivery is tried is a setting (WEBHOOK_MAX_TRIES) and counted with the delivery: here only what is no
# failure of the endpoint counts, and that must not cost an event
@declare(lane="webhooks", retry_lane="webhooks_retry", timeout_s=30.0, max_tries=1_000, max_kills=20)
def deliver_webhook(
    merchant_id: str,
    event: str,
    payload: dict[str, Any],
    idempotency_key: str | None = None,
    order_key: str | None = None,
) -> None:
    """Deliver an event to the merchant's subscribed endpoints."""


@declare(lane="webhooks", retry_lane="webhooks_retry", timeout_s=30.0, max_tries=1_000, max_kills=20)
def send_webhook(delivery_id: str, replay_id: str | None = None) -> None:
    """Send an event that is stored to one endpoint; for a replay only while that is not cancelled."""


@declare(lane="periodic", unique_key=lambda: "")
def reconcile_webhooks() -> None:
    """Find deliveries that are due and that no job carries, and give them one."""


CATALOG: dict[str, Declaration[Any]] = {
    declaration.name: declaration
    for declaration in (
        sync_pages,
        sync_customers_incremental,
        sync_customers_backfill,
        sync_page_customers,
        deliver_webhook,
        send_webhook,
        reconcile_webhooks,
    )
}
