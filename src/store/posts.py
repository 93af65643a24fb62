"""`posts`: one document per post of a page, identified by `postId` and `pageId`."""

from ..clients.mongo import Database
from .rows import RowStore


def posts(database: Database) -> RowStore:
    """The store of posts. Pancake orders them by `insertedAt`, so of two versions the one asked for later stays."""
    return RowStore(database["posts"], identity=("postId", "pageId"), order="insertedAt")
