"""The stream of posts."""

from typing import Any

from ..clients.mongo import Document
from ..clients.pancake.client import POSTS_PER_CALL, PancakeClient
from ..clients.pancake.models import Post
from ..rules.times import unix_seconds
from ..store.rows import RowStore
from .stream import Stream

NAME = "posts"


def post_stream(client: PancakeClient, store: RowStore) -> Stream:
    """Posts by `inserted_at`, the only order there is: changes of a post come with sweeps and Pancake's webhooks."""
    return Stream(
        name=NAME,
        page_size=POSTS_PER_CALL,
        read=client.posts,
        map_row=post_document,
        key=post_key,
        store=store,
    )


def post_document(page_id: str, raw: Any) -> tuple[int | None, Document]:
    """The second a raw post was inserted, and its document. Raises ValueError with what is wrong with the row."""
    row = Post.model_validate(raw)
    if row.inserted_at is None:
        raise ValueError("inserted_at is missing")
    inserted_at = unix_seconds(row.inserted_at)
    document: Document = {
        "postId": row.id,
        "pageId": page_id,
        "type": row.type,
        "message": row.message,
        "insertedAt": inserted_at,
        "panCakeData": raw,
    }
    return inserted_at, document


def post_key(page_id: str, raw: Any) -> Document | None:
    """Which post a row is about, even where the rest of it cannot be read; None where it does not say."""
    post_id = raw.get("id") if isinstance(raw, dict) else None
    return {"postId": str(post_id), "pageId": page_id} if isinstance(post_id, str | int) and post_id != "" else None
