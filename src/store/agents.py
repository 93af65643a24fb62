"""`agents`: programs that say now and then that they are there: the shop's agents, and our own workers.

One document each. It is `online` from a check-in until nobody heard of it for too long, or until it checked out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from ..clients.mongo import Database, Document
from ..rules.times import EPOCH

Kind = Literal["agent", "worker"]


@dataclass(frozen=True, slots=True)
class Agent:
    """One of them, as last heard of. `has_left`: it said goodbye. `is_removed`: a person said it will not come back."""

    agent_id: str
    kind: Kind
    is_online: bool
    last_check_in_at: datetime
    system_info: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    job_status: tuple[dict[str, Any], ...] = ()
    has_left: bool = False
    is_removed: bool = False

    @property
    def is_missing(self) -> bool:
        """Whether it should be there and is not."""
        return not (self.is_online or self.has_left or self.is_removed)


class Agents:
    """Every method may be repeated and run from several workers at once."""

    def __init__(self, database: Database) -> None:
        self._collection = database["agents"]

    async def ensure_indexes(self) -> None:
        """Create what is missing."""
        await self._collection.create_indexes(
            [
                IndexModel([("agentId", ASCENDING)], unique=True),
                IndexModel([("status", ASCENDING), ("lastCheckInAt", ASCENDING)]),
            ]
        )

    async def check_in(
        self,
        agent_id: str,
        at: datetime,
        *,
        kind: Kind = "agent",
        system_info: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        job_status: Sequence[Mapping[str, Any]] | None = None,
    ) -> bool:
        """It is there, since `at` at the latest; returns whether it was missing. What it does not tell stays as it was.

        Who is new is registered, who was removed is back.
        """
        told = {"systemInfo": system_info, "metrics": metrics, "jobStatus": job_status}
        known = {name: value for name, value in told.items() if value is not None}
        empty: Document = {"systemInfo": {}, "metrics": {}, "jobStatus": []}
        change: Document = {
            "$set": {"status": "online", "checkedOutAt": None, "isRemoved": False, **known},
            "$max": {"lastCheckInAt": at},
            "$setOnInsert": {
                "kind": kind,
                "firstSeenAt": at,
                **{name: value for name, value in empty.items() if name not in known},
            },
        }
        while True:
            try:
                before = await self._collection.find_one_and_update(
                    {"agentId": agent_id}, change, upsert=True, return_document=ReturnDocument.BEFORE
                )
            except DuplicateKeyError:  # its first two at once
                continue
            return before is not None and _agent(before).is_missing

    async def clock(self) -> datetime:
        """What MongoDB's clock says: the one that all agents share, however wrong that of a till may be."""
        answer: Document = await self._collection.database.command("hello")
        return answer["localTime"].astimezone(UTC)  # type: ignore[no-any-return]

    async def check_out(self, agent_id: str, at: datetime) -> bool:
        """It leaves on purpose. Returns whether it is known."""
        gone = {"$set": {"status": "offline", "checkedOutAt": at}}
        return bool((await self._collection.update_one({"agentId": agent_id}, gone)).matched_count)

    async def give_way(self, agent_id: str, at: datetime) -> bool:
        """It will not come back, for another one stands in its place. Returns whether it was still waited for."""
        gone = {"$set": {"status": "offline", "checkedOutAt": at}}
        waited_for = {"agentId": agent_id, "checkedOutAt": None}
        return bool((await self._collection.update_one(waited_for, gone)).modified_count)

    async def remove(self, agent_id: str) -> bool:
        """It is not expected any more, until it checks in again. Returns whether it was."""
        gone = {"$set": {"status": "offline", "isRemoved": True}}
        expected = {"agentId": agent_id, "isRemoved": {"$ne": True}}
        return bool((await self._collection.update_one(expected, gone)).matched_count)

    async def turn_offline(self, silent_since: datetime, kind: Kind) -> int:
        """Those that were not heard of since; returns how many there are now that were online."""
        silent = {**_of(kind), "status": "online", "lastCheckInAt": {"$lt": silent_since}}
        return int((await self._collection.update_many(silent, {"$set": {"status": "offline"}})).modified_count)

    async def all(self, *, with_removed: bool = False, kind: Kind | None = None) -> list[Agent]:
        """Every one, or of a kind, by its name. What others wrote here without a name is left out (`doctor` tells)."""
        query: Document = {"agentId": {"$type": "string"}, **_of(kind)}
        if not with_removed:
            query["isRemoved"] = {"$ne": True}
        return [_agent(document) async for document in self._collection.find(query).sort("agentId", ASCENDING)]

    async def nameless(self) -> int:
        """How many documents name no agent: a program of the shop wrote them, and nobody can tell of whom."""
        return int(await self._collection.count_documents({"agentId": {"$not": {"$type": "string"}}}))

    async def forget(self, agent_ids: Sequence[str]) -> None:
        """They never were; one that checked in meanwhile stays."""
        await self._collection.delete_many({"agentId": {"$in": list(agent_ids)}, "status": "offline"})


def _of(kind: Kind | None) -> Document:
    """Who writes here itself need not say that it is an agent."""
    return {} if kind is None else {"kind": "worker" if kind == "worker" else {"$ne": "worker"}}


def _agent(document: Document) -> Agent:
    """Agents of the shop may write here themselves: what they leave out is nothing."""
    last, told = document.get("lastCheckInAt"), document.get("jobStatus")
    return Agent(
        agent_id=document["agentId"],
        kind="worker" if document.get("kind") == "worker" else "agent",
        is_online=document.get("status") == "online",
        last_check_in_at=last.astimezone(UTC) if isinstance(last, datetime) else EPOCH,
        system_info=_mapping(document.get("systemInfo")),
        metrics=_mapping(document.get("metrics")),
        job_status=tuple(each for each in told if isinstance(each, dict)) if isinstance(told, list) else (),
        has_left=document.get("checkedOutAt") is not None,
        is_removed=document.get("isRemoved") is True,
    )


def _mapping(told: object) -> dict[str, Any]:
    return told if isinstance(told, dict) else {}
