"""What `scripts/start` shows while the worker works: counts from MongoDB and the worker's own log."""

import re
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from scripts._terminal import Screen, printable

AT_ONCE = 3
_LOUD = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|^Traceback")


class Counts:
    """How much is stored."""

    def __init__(self, url: str, database: str) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(url, serverSelectionTimeoutMS=2000, timeoutMS=2000)
        self._database = self._client[database]

    def text(self) -> str:
        """One line. The newest customer is the last one stored: its `_id` is indexed, its times only within a page."""
        try:
            pages = self._database["pages"].estimated_document_count()
            customers = self._database["customers"].estimated_document_count()
            conversations = self._database["conversations"].estimated_document_count()
            waiting = self._database["conversations"].count_documents({"awaitingReplySince": {"$gt": 0}})
            newest = self._database["customers"].find_one({}, {"name": 1}, sort=[("_id", -1)])
        except PyMongoError as error:
            return f"MongoDB does not answer: {type(error).__name__}"
        line = f"pages {pages:,}   customers {customers:,}   conversations {conversations:,}, {waiting:,} wait"
        return f"{line}   newest: {printable(str(newest.get('name') or 'without a name'))}" if newest else line

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class LogFollower:
    """Shows what is added to a log: every line, or only warnings and worse, a few at a time."""

    def __init__(self, log: Path, screen: Screen, *, everything: bool) -> None:
        self.log = log
        self._screen = screen
        self._everything = everything
        self._at = 0

    def show(self) -> None:
        """Show what came since the last call."""
        lines = self._new_lines()
        chosen = lines if self._everything else [line for line in lines if _LOUD.search(line[:200])]
        shown = chosen if self._everything else chosen[:AT_ONCE]
        for line in shown:
            self._screen.say(printable(line) if self._everything else printable(line)[:240])
        if len(shown) < len(chosen):
            self._screen.say(f"  ... {len(chosen) - len(shown)} more in {self.log}")

    def _new_lines(self) -> list[str]:
        try:
            with self.log.open("rb") as file:
                file.seek(self._at)
                whole, _, _ = file.read(1 << 20).rpartition(b"\n")
        except OSError:
            return []
        if not whole:
            return []
        self._at += len(whole) + 1
        return whole.decode("utf-8", errors="replace").splitlines()
