"""What every collection of Pancake's rows has in common: newer wins, one bad row harms no other, deletions by sweep.

A row is written only over an older version of itself: an older `updatedAt`, or the same one (its grain is a second,
and two changes within one are normal) fetched earlier. `syncedAt` holds when we asked for what is stored, so of two
passes that overlap the one that asked later wins, whichever writes last. `seenAt` moves even where an older version
is met: it says that the row is alive.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import bson
from pymongo import ASCENDING, DESCENDING, IndexModel, InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from .. import meters
from ..clients.mongo import UNENCODABLE, Collection, Document
from ..errors import Transient

_DUPLICATE_KEY = 11000
#: Server codes that speak of one document: BadValue, TypeMismatch, InvalidBSON, dollar-prefixed, dotted or empty field
#: name, immutable or invalid _id, validation failure, object too large, nested too deep, unindexable value.
_ROW_CODES = frozenset({2, 9, 14, 15, 22, 52, 53, 55, 56, 57, 66, 121, 10334, 17280, 16755})


@dataclass(slots=True)
class Stored:
    """What became of a batch. `inserted` of the `written` rows were new.

    `refused`: index in the batch and the reason, of rows MongoDB cannot hold.
    """

    written: int = 0
    inserted: int = 0
    already_newer: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)


class RowStore:
    """Upserts of one collection. `identity` are the fields that make a row unique, `order` is its time of change."""

    def __init__(self, collection: Collection, *, identity: Sequence[str], order: str) -> None:
        self._collection = collection
        self._identity = tuple(identity)
        self._order = order

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat and to run from several processes."""
        by_time = [("pageId", ASCENDING), (self._order, ASCENDING)]
        by_time_back = [("pageId", ASCENDING), (self._order, DESCENDING)]
        unique = IndexModel([(name, ASCENDING) for name in self._identity], unique=True)
        await self._collection.create_indexes([unique, IndexModel(by_time), IndexModel(by_time_back)])

    async def upsert(self, rows: Sequence[Document], asked_at: datetime, *, expect_new: bool = False) -> Stored:
        """Store `rows`, each with its identity and order fields, as they were when we asked at `asked_at`.

        Safe to repeat and to run at the same time from several processes. A row that is stored in a newer version is
        counted in `already_newer` and only marked as seen. `expect_new` changes nothing but the price: inserts first,
        which cost half an upsert where the row is new, and one write more where it is not.
        """
        stored = await self._upserted(rows, asked_at, expect_new=expect_new) if rows else Stored()
        name, updated = self._collection.name, stored.written - stored.inserted
        for result, count in (("inserted", stored.inserted), ("updated", updated), ("known", stored.already_newer)):
            if count:
                meters.ROWS.add(name, result, by=count)
        return stored

    async def _upserted(self, rows: Sequence[Document], asked_at: datetime, *, expect_new: bool) -> Stored:
        try:
            return await self._bulk(rows, range(len(rows)), asked_at, insert=expect_new)
        except UNENCODABLE:
            return await self._without_unencodable(rows, asked_at)
        except OperationFailure as e:
            if not _is_one_rows_fault(e):
                raise
            return await self._one_by_one(rows, range(len(rows)), asked_at)

    async def forget_missing(self, page_id: str, sweep_started_at: datetime, now: datetime) -> tuple[int, int]:
        """After a full sweep: rows of the page it did not meet. Returns how many are suspected now, how many deleted.

        A row is marked `deletedAt` when a second sweep misses it too; it stays in the collection. Meeting it again
        clears both marks. Safe to repeat for one sweep.
        """
        unseen = {"pageId": page_id, "seenAt": {"$lt": sweep_started_at}, "deletedAt": None}
        twice = {**unseen, "missingSince": {"$lt": sweep_started_at}}
        once = {**unseen, "missingSince": None}
        deleted = await self._collection.update_many(twice, {"$set": {"deletedAt": now}})
        suspected = await self._collection.update_many(once, {"$set": {"missingSince": sweep_started_at}})
        return suspected.modified_count, deleted.modified_count

    async def mark_seen(self, keys: Sequence[Document], asked_at: datetime) -> None:
        """Rows of these identities were met, in whatever version: a sweep must not miss them. Safe to repeat."""
        alive: Document = {"$max": {"seenAt": asked_at}, "$unset": {"missingSince": "", "deletedAt": ""}}
        if keys:
            await self._collection.bulk_write([UpdateOne(key, alive) for key in keys], ordered=False)

    async def count_current(self, rows: Sequence[Document]) -> int:
        """How many of `rows` are stored in this version or a newer one."""
        current = [{**self._key(row), self._order: {"$gte": row[self._order]}} for row in rows]
        return int(await self._collection.count_documents({"$or": current})) if current else 0

    async def oldest(self, page_id: str) -> int | None:
        """The oldest second any stored row of the page changed, or None."""
        row = await self._collection.find_one({"pageId": page_id}, {self._order: 1}, sort=[(self._order, ASCENDING)])
        return row[self._order] if row else None

    async def count(self, page_id: str) -> int:
        """How many rows of the page are stored and not deleted."""
        return int(await self._collection.count_documents({"pageId": page_id, "deletedAt": None}))

    def _insert(self, row: Document, asked_at: datetime) -> InsertOne[Document]:
        return InsertOne({**row, "syncedAt": asked_at, "seenAt": asked_at})

    def _write(self, row: Document, asked_at: datetime, *, upsert: bool = True) -> UpdateOne:
        older: list[Document] = [
            {self._order: {"$lt": row[self._order]}},
            {self._order: row[self._order], "syncedAt": {"$lte": asked_at}},
        ]
        return UpdateOne(
            {**self._key(row), "$or": older},
            {
                "$set": {**row, "syncedAt": asked_at},
                "$max": {"seenAt": asked_at},
                "$unset": {"missingSince": "", "deletedAt": ""},
            },
            upsert=upsert,
        )

    def _key(self, row: Document) -> Document:
        return {name: row[name] for name in self._identity}

    async def _bulk(
        self, rows: Sequence[Document], places: Sequence[int], asked_at: datetime, *, insert: bool = False
    ) -> Stored:
        """Write the rows at `places`; raises what the driver raises when a document cannot be encoded."""
        write = self._insert if insert else self._write
        try:
            result = await self._collection.bulk_write(
                [write(rows[place], asked_at) for place in places], ordered=False
            )
        except BulkWriteError as e:
            stored = Stored(inserted=e.details.get("nInserted", 0) + e.details.get("nUpserted", 0))
            conflicts: list[Document] = []
            for error in e.details["writeErrors"]:
                place = places[error["index"]]
                if error["code"] == _DUPLICATE_KEY:
                    conflicts.append(rows[place])
                elif error["code"] in _ROW_CODES:
                    stored.refused.append((place, f"MongoDB cannot hold it (error {error['code']})"))
                else:  # not this row's fault, so nothing may be taken as stored; the error's text holds the rows
                    raise Transient(f"MongoDB refused a batch of rows (error {error['code']})") from None
            if e.details["writeConcernErrors"]:
                raise Transient("MongoDB could not confirm that a batch of rows is safe") from None
            stored.written = len(places) - len(conflicts) - len(stored.refused)
            await self._settle(conflicts, stored, asked_at)
            return stored
        return Stored(written=len(places), inserted=result.inserted_count + result.upserted_count)

    async def _settle(self, rows: list[Document], stored: Stored, asked_at: datetime) -> None:
        """A duplicate key means that the row is there: in a newer version, or in an older one that we now replace."""
        if not rows:
            return
        again = await self._collection.bulk_write(
            [self._write(row, asked_at, upsert=False) for row in rows], ordered=False
        )
        stored.written += again.matched_count
        if again.matched_count < len(rows):
            stored.already_newer += len(rows) - again.matched_count
            await self.mark_seen([self._key(row) for row in rows], asked_at)

    async def _without_unencodable(self, rows: Sequence[Document], asked_at: datetime) -> Stored:
        """The driver refuses a whole batch for one row that BSON cannot hold: find it here, write the others."""
        good: list[int] = []
        refused: list[tuple[int, str]] = []
        for place, row in enumerate(rows):
            try:
                bson.encode(row)
            except UNENCODABLE as e:
                refused.append((place, f"cannot be stored: {type(e).__name__}"))
            else:
                good.append(place)
        try:
            stored = await self._bulk(rows, good, asked_at) if good else Stored()
        except OperationFailure as e:
            if not _is_one_rows_fault(e):
                raise
            stored = await self._one_by_one(rows, good, asked_at)
        stored.refused += refused
        return stored

    async def _one_by_one(self, rows: Sequence[Document], places: Sequence[int], asked_at: datetime) -> Stored:
        """The server refuses a whole batch for one row that is too large or too deep; find that row."""
        total = Stored()
        for place in places:
            try:
                one = await self._bulk(rows, [place], asked_at)
            except (*UNENCODABLE, OperationFailure) as e:
                if not _is_one_rows_fault(e):
                    raise
                total.refused.append((place, f"cannot be stored: {type(e).__name__}"))
                continue
            total.written += one.written
            total.inserted += one.inserted
            total.already_newer += one.already_newer
            total.refused += one.refused
        return total


def _is_one_rows_fault(error: Exception) -> bool:
    """Whether a whole batch was refused for one document: by the driver, or by the server before it read the rest."""
    return error.code in _ROW_CODES if isinstance(error, OperationFailure) else True
