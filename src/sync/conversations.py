"""The stream of conversations (list v2): by windows of time; the cursor serves only seconds fuller than an answer."""

from typing import Any

from ..clients.mongo import Document
from ..clients.pancake.client import CONVERSATIONS_PER_CALL, PancakeClient
from ..clients.pancake.models import Conversation, Named
from ..rules.senders import bare_id
from ..rules.times import unix_micros, unix_seconds
from ..store.conversations import Conversations
from .cursor import CursorReader
from .stream import Stream

NAME = "conversations"


def conversation_stream(client: PancakeClient, conversations: Conversations) -> Stream:
    """Conversations by `updated_at`. Those that changed are marked: `sync/messages.py` is to read their messages."""

    async def mark(rows: list[Document]) -> None:
        await conversations.mark_changed([row["conversationId"] for row in rows])

    return Stream(
        name=NAME,
        page_size=CONVERSATIONS_PER_CALL,
        read=CursorReader(client).read,
        map_row=conversation_document,
        key=conversation_key,
        store=conversations.rows,
        after_store=mark,
    )


def conversation_document(page_id: str, raw: Any) -> tuple[int | None, Document]:
    """The second a raw conversation is ordered by, and its document. Raises ValueError with what is wrong with the row.

    A row without `updated_at` is stored by its `inserted_at`, but says nothing of where in the list it stands. Who
    waits is not in it: that is worked out from the messages.
    """
    row = Conversation.model_validate(raw)
    changed = row.updated_at or row.inserted_at
    if changed is None:
        raise ValueError("updated_at and inserted_at are both missing")
    updated_at, customer = unix_seconds(changed), row.page_customer or Named()
    person = next((person for person in row.customers or () if person), Named())
    starter = row.from_ or Named()
    if starter.id is not None and bare_id(starter.id) == bare_id(page_id):
        starter = Named()  # the page itself wrote first
    document: Document = {
        "conversationId": row.id,
        "pageId": page_id,
        "type": row.type,
        "postId": row.post_id,
        "customerId": row.customer_id or customer.customer_id,
        "psid": customer.psid or person.fb_id or starter.id,
        "customerName": starter.name or customer.name or person.name,
        "insertedAt": unix_seconds(row.inserted_at) if row.inserted_at else None,
        "updatedAt": updated_at,
        "stamp": unix_micros(changed),
        "snippet": row.snippet,
        "seen": row.seen,
        "assigneeIds": [user_id for user_id in row.assignee_ids or () if user_id],
        "tags": [tag.id for tag in row.tags or () if tag and tag.id is not None],
        "tagNames": [tag.text for tag in row.tags or () if tag and tag.text],
        "panCakeData": raw,
    }
    return updated_at if row.updated_at else None, document


def conversation_key(page_id: str, raw: Any) -> Document | None:
    """Which conversation a row is about, even where the rest of it cannot be read; None where it does not say."""
    found = raw.get("id") if isinstance(raw, dict) else None
    return {"conversationId": str(found)} if isinstance(found, str | int) and found != "" else None
