"""The stream of page customers."""

from datetime import tzinfo
from typing import Any

from ..clients.mongo import Document
from ..clients.pancake.client import CUSTOMERS_PER_CALL, PancakeClient
from ..clients.pancake.models import PageCustomer
from ..store.rows import RowStore
from .stream import Stream

NAME = "customers"


def customer_stream(client: PancakeClient, store: RowStore, naive_zone: tzinfo) -> Stream:
    """Page customers by `updated_at`, so that new ones and changed ones both come."""

    def map_row(page_id: str, raw: Any) -> tuple[int, Document]:
        return customer_document(page_id, raw, naive_zone)

    return Stream(name=NAME, page_size=CUSTOMERS_PER_CALL, read=client.page_customers, map_row=map_row, store=store)


def customer_document(page_id: str, raw: Any, naive_zone: tzinfo) -> tuple[int, Document]:
    """The second a raw customer is ordered by, and its document. Raises ValueError with what is wrong with the row.

    `customerId` is the person across pages (`customer_id`), as in conversations; older answers had only `id`.
    `panCakeData` is the raw row with `page_id` added (customer-sync, note 1).
    """
    row = PageCustomer.model_validate(raw, context={"zone": naive_zone})
    updated_at = row.updated_at if row.updated_at is not None else row.inserted_at
    if updated_at is None:
        raise ValueError("updated_at and inserted_at are both missing")
    document: Document = {
        "psid": row.psid,
        "pageId": page_id,
        "customerId": row.customer_id or row.id,
        "name": row.name,
        "phoneNumbers": list(row.phone_numbers),
        "emails": list(row.emails),
        "insertedAt": row.inserted_at,
        "updatedAt": updated_at,
        "panCakeData": {**raw, "page_id": page_id},
    }
    return updated_at, document
