"""MongoDB beside the truth."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database

from tests.simulators.pancake import World

Document = dict[str, Any]
#: What a job may die of in a world full of faults. Anything else is a bug.
EXPECTED = ("src.errors.Transient", "src.errors.RateLimited", "src.errors.PageUnavailable", "src.errors.TokenRejected")
SHOWN = 6


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

    def __init__(self, world: World, database: "Database[Document]") -> None:
        self._world = world
        self._database = database
        self._found: dict[str, set[tuple[str, str]]] = {}
        self._examples: list[str] = []

    def look(self) -> None:
        """What must hold at any moment: seconds read for good are stored as they are, nobody alive is deleted."""
        for page_id in self._world.pages:
            state = self._database["sync_state"].find_one({"_id": f"customers:{page_id}"}) or {}
            stored = self._stored(page_id)
            settled = state.get("settled", [])
            for row in self._world.truth(page_id)["rows"]:
                psid, found = row["psid"], stored.get(row["psid"])
                self._look_for_mark(page_id, psid, found)
                if any(low <= row["updated_at"] <= high for low, high in settled) and _version(found) != row["version"]:
                    self._note("broken_promises", page_id, psid, f"{row} stored as {found}; settled {settled}")

    def compare(self) -> None:
        """What must hold in the end: everybody alive is stored as they are."""
        for page_id in self._world.pages:
            stored = self._stored(page_id)
            for row in self._world.truth(page_id)["rows"]:
                psid, found = row["psid"], stored.get(row["psid"])
                self._look_for_mark(page_id, psid, found)
                if found is None:
                    self._note("missing", page_id, psid, f"{row}")
                elif _version(found) != row["version"]:
                    self._note("stale", page_id, psid, f"{row} stored as {found}")

    def compare_deleted(self) -> None:
        """What must hold after two full sweeps: who is gone is marked."""
        for page_id in self._world.pages:
            stored = self._stored(page_id)
            for psid in self._world.truth(page_id)["deleted"]:
                if psid in stored and stored[psid].get("deletedAt") is None:
                    self._note("undeleted", page_id, psid, f"{stored[psid]}")

    def compare_malformed(self) -> None:
        """Each malformed row is set aside by name, with words, or stored all the same."""
        for page_id in self._world.pages:
            stored = self._stored(page_id)
            found = self._database["dead_letters"].find({"kind": "row", "pageId": page_id})
            letters = [letter for letter in found if letter["error"]]
            ids = {letter["rowId"] for letter in letters}
            raws = [letter["raw"] for letter in letters]
            for row in self._world.truth(page_id)["malformed"]:
                if row["psid"] in stored or row["id"] in ids or row["psid"] in ids:
                    continue
                text = "null" if row["kind"] == "null_row" else row["id"]
                if not any(text in raw for raw in raws):
                    self._note("unnamed_malformed", page_id, row["psid"], f"{row}")

    def verdict(self, seed: int, algorithm: str) -> Verdict:
        """All that was found."""
        verdict = Verdict(seed, algorithm, examples=self._examples, bugs=self._bugs())
        for kind, rows in self._found.items():
            setattr(verdict, kind, len(rows))
        for page_id in self._world.pages:
            truth = self._world.truth(page_id)
            verdict.rows += len(truth["rows"])
            verdict.malformed += len(truth["malformed"])
            verdict.deleted += len(truth["deleted"])
        return verdict

    def _bugs(self) -> list[str]:
        """Errors of jobs that no fault of the world explains."""
        ends: Counter[str] = Counter()
        for letter in self._database["dead_letters"].find({"kind": "job"}):
            last = letter["traceback"].strip().splitlines()[-1]
            if not last.startswith(EXPECTED):
                ends[last[:200]] += 1
        return [f"{end} ({count} times)" for end, count in ends.items()]

    def _stored(self, page_id: str) -> dict[str, Document]:
        fields = {"_id": 0, "psid": 1, "updatedAt": 1, "seenAt": 1, "missingSince": 1, "deletedAt": 1}
        found = self._database["customers"].find({"pageId": page_id}, {**fields, "panCakeData.sim_version": 1})
        return {row["psid"]: row for row in found}

    def _look_for_mark(self, page_id: str, psid: str, found: Document | None) -> None:
        if found is not None and found.get("deletedAt") is not None:
            self._note("wrongly_deleted", page_id, psid, f"{found}")

    def _note(self, kind: str, page_id: str, psid: str, words: str) -> None:
        rows = self._found.setdefault(kind, set())
        if (page_id, psid) not in rows and len(rows) < SHOWN:
            self._examples.append(f"{kind}: page {page_id}: {words[:600]}")
        rows.add((page_id, psid))


def _version(stored: Document | None) -> int | None:
    return None if stored is None else stored["panCakeData"].get("sim_version")
