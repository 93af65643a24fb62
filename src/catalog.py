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


def _is_not_incremental(page_id: str, mode: Mode = "incremental") -> bool:
    return mode != "incremental"


@declare(lane="sync", unique_key=_page_and_mode, ends_itself=_is_not_incremental)
def sync_page_customers(page_id: str, mode: Mode = "incremental") -> None:
    """One pass over one page's customers."""


@declare(lane="sync")
def sync_posts_incremental() -> None:
    """Start a pass over every page's new posts."""


@declare(lane="sync")
def sync_posts_backfill() -> None:
    """Start a pass over every page's older posts."""


@declare(lane="sync", unique_key=_page_and_mode, ends_itself=_is_not_incremental)
def sync_page_posts(page_id: str, mode: Mode = "incremental") -> None:
    """One pass over one page's posts."""


@declare(lane="sync")
def sync_conversations_incremental() -> None:
    """Start a pass over what is new in every page's conversations, messages included."""


@declare(lane="sync")
def sync_conversations_backfill() -> None:
    """Start a pass over every page's older conversations, messages included."""


# its next tick is a minute away, and finds the page busy as long as this one waits
@declare(lane="sync", unique_key=_page_and_mode, ends_itself=_is_not_incremental, retry_cap_s=60.0)
def sync_page_conversations(page_id: str, mode: Mode = "incremental") -> None:
    """One pass over one page's conversations and the messages of those that changed."""


def _page(page_id: str) -> str:
    return page_id


@declare(lane="sync", unique_key=_page, history_days=1.0)
def sync_page_staff(page_id: str) -> None:
    """Sample who of a page's staff is there."""


@declare(lane="sync", history_days=0.25)
def ingest_pancake_event(event: dict[str, Any], received_at: float = 0.0) -> None:
    """Store what one of Pancake's own webhooks says, and wake a poll of its page."""


@declare(lane="monitoring", unique_key=lambda: "")
def monitor_conversations() -> None:
    """Find customers who have waited too long, and have them told of."""


@declare(lane="monitoring", unique_key=_page, history_days=1.0)
def monitor_page(page_id: str) -> None:
    """The same for one page."""


def _to(to: str) -> str:
    return to


@declare(lane="monitoring", unique_key=_to, timeout_s=120.0, max_tries=8, retry_base_s=2.0)
def send_alerts(to: str) -> None:
    """Send one address what waits for it, as few messages."""


@declare(lane="monitoring", unique_key=lambda: "")
def check_agents() -> None:
    """Find agents that no longer check in, and sample who of the staff is there."""


@declare(lane="monitoring", unique_key=lambda: "", timeout_s=60.0)
def check_health() -> None:
    """Look at every outside system, and tell of changes."""


@declare(lane="monitoring", unique_key=lambda: "", timeout_s=30.0, history_days=0.25)
def check_jobs() -> None:
    """Look whether the machine itself works: jobs, schedules, lanes, workers."""


def _day(day: str | None = None) -> str:
    return day or ""


@declare(lane="reports", unique_key=_day)
def report_response_times(day: str | None = None) -> None:
    """How long customers waited, by page, staff and day; yesterday where no `day` (2026-05-14) is given."""


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
        sync_posts_incremental,
        sync_posts_backfill,
        sync_page_posts,
        sync_conversations_incremental,
        sync_conversations_backfill,
        sync_page_conversations,
        sync_page_staff,
        ingest_pancake_event,
        monitor_conversations,
        monitor_page,
        send_alerts,
        check_agents,
        check_health,
        check_jobs,
        report_response_times,
        deliver_webhook,
        send_webhook,
        reconcile_webhooks,
    )
}
