"""`sync_state`: per stream and page, which seconds were read."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from ..clients.mongo import Database, Document
from ..rules.coverage import Coverage, Sweep
from ..rules.intervals import Spans, subtract


class SyncStates:
    """One document per stream and page, `_id` `<stream>:<pageId>`. Writers agree through `version`."""

    def __init__(self, database: Database) -> None:
        self._collection = database["sync_state"]

    async def load(self, stream: str, page_id: str) -> Coverage:
        """The page's state; an empty one before its first pass."""
        return _read(await self._collection.find_one({"_id": f"{stream}:{page_id}"}))

    async def change(self, stream: str, page_id: str, change: Callable[[Coverage], Coverage]) -> Coverage:
        """Apply `change` to the stored state and store the result; returns it.

        Where another writer came between, `change` runs again on what that one stored, so it must be pure.
        """
        key = f"{stream}:{page_id}"
        while True:
            document = await self._collection.find_one({"_id": key})
            after = change(_read(document))
            fields = {"stream": stream, "pageId": page_id, **_written(after), "savedAt": datetime.now(UTC)}
            if document is None:
                try:
                    await self._collection.insert_one({"_id": key, "version": 1, **fields})
                except DuplicateKeyError:
                    continue
                return after
            version = document["version"]
            result = await self._collection.update_one(
                {"_id": key, "version": version}, {"$set": {**fields, "version": version + 1}}
            )
            if result.matched_count:
                return after

    async def marks(self, stream: str) -> dict[str, int]:
        """Per page, the newest Unix second read."""
        found = self._collection.find({"stream": stream}, {"pageId": 1, "covered": 1})
        return {document["pageId"]: document["covered"][-1][1] async for document in found if document["covered"]}

    async def all_marks(self) -> dict[tuple[str, str], int]:
        """The same of every stream: (stream, page) -> second."""
        found = self._collection.find({}, {"stream": 1, "pageId": 1, "covered": {"$slice": -1}})
        rows = [each async for each in found if each.get("covered")]
        return {(each["stream"], each["pageId"]): each["covered"][-1][1] for each in rows}


def _written(state: Coverage) -> Document:
    """The state as stored. `gaps` and `cursor` are there for people: what is still to be read below the mark."""
    covered = state.covered
    holes = subtract([(0, covered[-1][1])], covered) if covered else ()
    return {
        "covered": _lists(covered),
        "settled": _lists(state.settled),
        "recent": _lists(state.recent),
        "gaps": _lists(holes),
        "cursor": holes[-1][1] if holes else None,
        "initialFrom": state.initial_from,
        "sweep": None if state.sweep is None else {**asdict(state.sweep), "settled": _lists(state.sweep.settled)},
        "sweptAt": state.swept_at,
    }


def _read(document: Document | None) -> Coverage:
    if document is None:
        return Coverage()
    sweep: dict[str, Any] | None = document.get("sweep")
    return Coverage(
        settled=_spans(document["settled"]),
        recent=_spans(document["recent"]),
        initial_from=document["initialFrom"],
        sweep=Sweep(**{**sweep, "settled": _spans(sweep["settled"])}) if sweep else None,
        swept_at=document["sweptAt"],
    )


def _lists(spans: Spans) -> list[list[int]]:
    return [list(span) for span in spans]


def _spans(lists: list[list[int]]) -> Spans:
    return tuple((start, end) for start, end in lists)
