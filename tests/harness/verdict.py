"""MongoDB beside the truth."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database

from tests.harness.subjects import Conversations, Stand, Subject, stand_of
from tests.simulators.pancake import World
from tests.simulators.pancake.threads import Message

Document = dict[str, Any]
#: What a job may die of in a world full of faults. Anything else is a bug.
EXPECTED = ("src.errors.Transient", "src.errors.RateLimited", "src.errors.PageUnavailable", "src.errors.TokenRejected")
SHOWN = 6
FIELDS = (
    *("updatedAt", "insertedAt", "seenAt", "missingSince", "deletedAt"),
    *("stamp", "messagesStamp", "messagesDue", "lastSender", "awaitingReplySince", "awaitingMessageId"),
)


@dataclass(slots=True)
class Verdict:
    """How a seed ended; the first eight numbers have to be 0, `bugs` empty.

    `missing`, `stale`, `wrongly_deleted`: rows alive in the end that are not stored, stored in an older version,
    stored but marked deleted (that one at any moment). `undeleted`: deleted rows without the mark after the sweeps.
    `unnamed_malformed`: malformed rows neither set aside by name nor stored. `broken_promises`: rows that the state
    called read for good while they were not stored in their last version, at any moment the harness looked.
    """

    seed: int
    algorithm: str
    missing: int = 0
    stale: int = 0
    wrongly_deleted: int = 0
    undeleted: int = 0
    unnamed_malformed: int = 0
    broken_promises: int = 0
    kills: int = 0
    calls: int = 0
    passes: int = 0
    rows: int = 0
    malformed: int = 0
    deleted: int = 0
    seconds: float = 0.0
    bugs: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Rows that are alive and not there, or not there as they are."""
        return self.missing + self.stale + self.wrongly_deleted

    @property
    def is_clean(self) -> bool:
        """Whether nothing at all was wrong."""
        return not (self.lost or self.undeleted or self.unnamed_malformed or self.broken_promises or self.bugs)


class Judge:
    """Collects what is wrong with the copy of a world, look by look. Looks are cheap and hold the world still."""

    def __init__(self, subject: Subject, world: World, database: "Database[Document]") -> None:
        self._subject = subject
        self._world = world
        self._database = database
        self._found: dict[str, set[tuple[str, str]]] = {}
        self._examples: list[str] = []

    def look(self) -> None:
        """What must hold at any moment: seconds read for good are stored as they are, nobody alive is deleted."""
        for page_id in self._world.pages:
            state = self._database["sync_state"].find_one({"_id": f"{self._subject.name}:{page_id}"}) or {}
            stored = self._stored(page_id)
            settled = state.get("settled", [])
            for row in self._subject.alive(self._world, page_id):
                found = stored.get(row.name)
                self._look_for_mark(page_id, row.name, found)
                if any(low <= row.second <= high for low, high in settled) and _version(found) != row.version:
                    self._note("broken_promises", page_id, row.name, f"{row} stored as {found}; settled {settled}")

    def compare(self) -> None:
        """What must hold in the end: everybody alive is stored as they are."""
        for page_id in self._world.pages:
            stored = self._stored(page_id)
            for row in self._subject.alive(self._world, page_id):
                found = stored.get(row.name)
                self._look_for_mark(page_id, row.name, found)
                if found is None:
                    self._note("missing", page_id, row.name, f"{row}")
                elif _version(found) != row.version:
                    self._note("stale", page_id, row.name, f"{row} stored as {found}")

    def compare_deleted(self) -> None:
        """What must hold after two full sweeps: who is gone is marked."""
        for page_id in self._world.pages:
            stored = self._stored(page_id)
            for name in self._subject.deleted(self._world, page_id):
                if name in stored and stored[name].get("deletedAt") is None:
                    self._note("undeleted", page_id, name, f"{stored[name]}")

    def compare_malformed(self) -> None:
        """Each malformed row is set aside by name, with words, or stored all the same."""
        for page_id in self._world.pages:
            stored, raws = self._stored(page_id), self._raws(page_id, self._subject.name)
            for row in self._subject.malformed(self._world, page_id):
                if row.name not in stored and not any(row.text in raw for raw in raws):
                    self._note("unnamed_malformed", page_id, row.name, f"{row}")

    def verdict(self, seed: int, algorithm: str) -> Verdict:
        """All that was found."""
        verdict = Verdict(seed, algorithm, examples=self._examples, bugs=self._bugs())
        for kind, rows in self._found.items():
            setattr(verdict, kind, len(rows))
        for page_id in self._world.pages:
            verdict.rows += len(self._subject.alive(self._world, page_id))
            verdict.malformed += len(self._subject.malformed(self._world, page_id))
            verdict.deleted += len(self._subject.deleted(self._world, page_id))
        return verdict

    def _bugs(self) -> list[str]:
        """Errors of jobs that no fault of the world explains."""
        ends: Counter[str] = Counter()
        for letter in self._database["dead_letters"].find({"kind": "job"}):
            last = letter["traceback"].strip().splitlines()[-1]
            if not last.startswith(EXPECTED):
                ends[last[:200]] += 1
        return [f"{end} ({count} times)" for end, count in ends.items()]

    def _raws(self, page_id: str, stream: str) -> list[str]:
        found = self._database["dead_letters"].find({"kind": "row", "stream": stream, "pageId": page_id})
        return [letter["raw"] for letter in found if letter["error"]]

    def _stored(self, page_id: str) -> dict[str, Document]:
        fields = {"_id": 0, self._subject.key: 1, "panCakeData.sim_version": 1, **dict.fromkeys(FIELDS, 1)}
        found = self._database[self._subject.name].find({"pageId": page_id}, fields)
        return {row[self._subject.key]: row for row in found}

    def _look_for_mark(self, page_id: str, name: str, found: Document | None) -> None:
        if found is not None and found.get("deletedAt") is not None:
            self._note("wrongly_deleted", page_id, name, f"{found}")

    def _note(self, kind: str, page_id: str, name: str, words: str) -> None:
        rows = self._found.setdefault(kind, set())
        if (page_id, name) not in rows and len(rows) < SHOWN:
            self._examples.append(f"{kind}: page {page_id}: {words[:600]}")
        rows.add((page_id, name))


class TalkJudge(Judge):
    """Looks into conversations too: every message is stored, and they stand as the messages say."""

    def look(self) -> None:
        """Beside the rows: where all messages are said to be read, they are."""
        super().look()
        for page_id in self._world.pages:
            page, stored = self._world.page(page_id), self._stored(page_id)
            ids = self._messages(page_id)
            for row in self._subject.alive(self._world, page_id):
                through = (stored.get(row.name) or {}).get("messagesStamp") or 0
                for message in page.messages(row.name):
                    if not message.fault and message.inserted_us <= through and message.mid not in ids:
                        words = f"{message} is not stored; {stored[row.name]}"
                        self._note("broken_promises", page_id, message.mid, words)

    def compare(self) -> None:
        """Beside the rows: their messages, and how they stand."""
        super().compare()
        for page_id in self._world.pages:
            page, stored, ids = self._world.page(page_id), self._stored(page_id), self._messages(page_id)
            for row in self._subject.alive(self._world, page_id):
                for message in page.messages(row.name):
                    if message.fault:
                        continue
                    if message.mid not in ids:
                        self._note("missing", page_id, message.mid, f"{message}; {stored.get(row.name)}")
                    elif ids[message.mid] != message.removed:
                        self._note("stale", page_id, message.mid, f"{message}; {stored.get(row.name)}")
                self._compare_stand(page_id, stored.get(row.name), stand_of(_readable(page.messages(row.name), ids)))

    def compare_deleted(self) -> None:
        """Beside the rows: who is gone waits for nobody."""
        super().compare_deleted()
        for page_id in self._world.pages:
            stored = self._stored(page_id)
            for name in self._subject.deleted(self._world, page_id):
                if name in stored and stored[name].get("awaitingReplySince") is not None:
                    self._note("undeleted", page_id, name, f"waits though it is gone: {stored[name]}")

    def compare_malformed(self) -> None:
        """Beside the rows: bad messages are named."""
        super().compare_malformed()
        for page_id in self._world.pages:
            page, raws, ids = self._world.page(page_id), self._raws(page_id, "messages"), self._messages(page_id)
            for row in self._subject.alive(self._world, page_id):
                for message in page.messages(row.name):
                    text = "null" if message.fault == "null_row" else f'{message.mid}"'
                    if message.fault and message.mid not in ids and not any(text in raw for raw in raws):
                        self._note("unnamed_malformed", page_id, message.mid, f"{message}")

    def _compare_stand(self, page_id: str, found: Document | None, true: Stand) -> None:
        if found is None:
            return
        stored = Stand(found.get("lastSender"), found.get("awaitingReplySince"), found.get("awaitingMessageId"))
        if stored != true:
            name = found[self._subject.key]
            self._note("stale", page_id, f"stand of {name}", f"{name} stands as {true}, stored as {found}")

    def _messages(self, page_id: str) -> dict[str, bool]:
        found = self._database["messages"].find({"pageId": page_id}, {"_id": 0, "messageId": 1, "isRemoved": 1})
        return {message["messageId"]: message["isRemoved"] for message in found}


def _readable(said: list[Message], stored: dict[str, bool]) -> list[Message]:
    """Those that count: what has a fault counts where a patient reader stored it all the same."""
    return [message for message in said if not message.fault or message.mid in stored]


def judge_of(subject: Subject, world: World, database: "Database[Document]") -> Judge:
    """The judge of a subject."""
    return (TalkJudge if isinstance(subject, Conversations) else Judge)(subject, world, database)


def _version(stored: Document | None) -> int | None:
    return None if stored is None else stored.get("panCakeData", {}).get("sim_version")
