"""`customers`: one document per customer of a page, identified by `psid` and `pageId`."""

from ..clients.mongo import Database
from .rows import RowStore


def customers(database: Database) -> RowStore:
    """The store of page customers; of two versions the one with the newer `updatedAt` stays."""
    return RowStore(database["customers"], identity=("psid", "pageId"), order="updatedAt")
