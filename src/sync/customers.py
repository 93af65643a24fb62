"""The stream of page customers."""

from typing import Any

from ..clients.mongo import Document
from ..clients.pancake.client import CUSTOMERS_PER_CALL, PancakeClient
from ..clients.pancake.models import PageCustomer
from ..rules.times import unix_seconds
from ..store.rows import RowStore
from .stream import Stream

NAME = "customers"


def customer_stream(client: PancakeClient, store: RowStore) -> Stream:
    """Page customers by `updated_at`, so that new ones and changed ones both come."""
    return Stream(
        name=NAME,
        page_size=CUSTOMERS_PER_CALL,
        read=client.page_customers,
        map_row=customer_document,
        key=customer_key,
        store=store,
    )


def customer_document(page_id: str, raw: Any) -> tuple[int | None, Document]:
    """The second a raw customer is ordered by, and its document. Raises ValueError with what is wrong with the row.

    A row without `updated_at` is stored by its `inserted_at`, but says nothing of where in the list it stands.

    `customerId` is the person across pages (`customer_id`), as in conversations; older answers had only `id`.
    `panCakeData` is the raw row with `page_id` added (customer-sync, note 1).
    """
    row = PageCustomer.model_validate(raw)
    changed = row.updated_at or row.inserted_at
    if changed is None:
        raise ValueError("updated_at and inserted_at are both missing")
    updated_at = unix_seconds(changed)
    document: Document = {
        "psid": row.psid,
        "pageId": page_id,
        "customerId": row.customer_id or row.id,
        "name": row.name,
        "phoneNumbers": [number for number in row.phone_numbers or () if number],
        "emails": [email for email in row.emails or () if email],
        "insertedAt": unix_seconds(row.inserted_at) if row.inserted_at else None,
        "updatedAt": updated_at,
        "panCakeData": {**raw, "page_id": page_id},
    }
    return updated_at if row.updated_at else None, document


def customer_key(page_id: str, raw: Any) -> Document | None:
    """Whom a row is about, even where the rest of it cannot be read; None where it does not say."""
    psid = raw.get("psid") if isinstance(raw, dict) else None
    return {"psid": str(psid), "pageId": page_id} if isinstance(psid, str | int) and psid != "" else None
