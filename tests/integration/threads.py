"""A simulated page, its conversations and posts, and everything a job may use to copy them."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from pydantic import SecretStr

from src.clients.mongo import Document
from src.deps import Deps, open_deps
from src.engine.inline import Ran, run_to_end
from src.jobs import ALL_JOBS
from src.settings import PancakeSettings, Settings
from src.sync.messages import Drained, drain_messages
from tests.simulators.pancake import Simulator, VirtualClock, World
from tests.simulators.pancake.clock import SECOND_US
from tests.simulators.pancake.page import Page
from tests.simulators.pancake.switches import Switches

START_S = 1_780_000_000
#: Who else may write a message than those it is stored under.
NAMED = {"native": "agent", "auto": "bot"}
Body = dict[str, Any]


class Wire(httpx.AsyncBaseTransport):
    """The way to Pancake: `before` is told of each call, `change` may answer something else."""

    def __init__(self, world: World) -> None:
        self._inner = httpx.ASGITransport(Simulator(world))
        self.before: Callable[[httpx.Request], None] = lambda _: None
        self.change: Callable[[httpx.Request, Body], Body] = lambda _, body: body
        self.paths: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass it on, and the answer back."""
        self.paths.append(request.url.path)
        self.before(request)
        response = await self._inner.handle_async_request(request)
        body = json.loads(await response.aread())
        headers = {"date": response.headers["date"]} if "date" in response.headers else {}
        return httpx.Response(response.status_code, json=self.change(request, body), headers=headers)

    def calls(self, end: str) -> int:
        """How many calls went to paths that end so."""
        return sum(path.endswith(end) for path in self.paths)


@dataclass
class Shop:
    """One page whose clock stands still unless a test moves it."""

    world: World
    deps: Deps
    wire: Wire
    page: Page = field(init=False)

    def __post_init__(self) -> None:
        self.page = next(iter(self.world.pages.values()))

    @property
    def page_id(self) -> str:
        """Its id."""
        return self.page.page_id

    async def run(self, mode: str = "incremental", stream: str = "conversations") -> Ran:
        """The job of one page, to its end."""
        return await run_to_end(
            ALL_JOBS, self.deps, f"sync_page_{stream}", {"page_id": self.page_id, "mode": mode}, max_tries=1
        )

    async def run_all(self, stream: str = "conversations") -> list[Ran]:
        """What is new, then the history."""
        return [await self.run("incremental", stream), await self.run("backfill", stream)]

    async def drain(self, **how: Any) -> Drained:
        """Only the messages that are due."""
        deps = self.deps
        return await drain_messages(
            deps.pancake, deps.conversations, deps.messages, deps.dead_letters, self.page_id, **how
        )

    async def later(self, seconds: float) -> None:
        """Let time pass, and a call tell the client of it."""
        self.world.step(seconds)
        await self.deps.pancake.tags(self.page_id)

    def touch(self, ids: list[str], at_s: int) -> None:
        """Change conversations in one and the same second, as a tag given to all of them does."""
        shelf, now_us = self.page.threads, self.world.now_us()
        for place, rid in enumerate(ids):
            row = shelf.latest[rid]
            stamp = at_s * SECOND_US + place
            shelf.put(replace(row, updated_us=stamp, version=row.version + 1, body=None), now_us, now_us)

    async def rows(self, collection: str = "conversations", key: str = "conversationId") -> dict[str, Document]:
        """What is stored."""
        found = await self.deps.database[collection].find({}, {"_id": 0}).to_list(None)
        return {document[key]: document for document in found}

    async def wrong(self) -> list[str]:
        """Every conversation and message that is not stored as it is, and every standing that is not theirs."""
        rows, said = await self.rows(), await self.rows("messages", "messageId")
        found = []
        for rid, thread in self.page.threads.latest.items():
            stored, messages = rows.get(rid), self.page.messages(rid)
            if stored is None or stored["panCakeData"]["sim_version"] != thread.version or stored.get("deletedAt"):
                found.append(f"{rid}: {stored}")
            elif (stands := stands_of(stored)) != told_by(messages):
                found.append(f"{rid}: stands as {stands}, by its messages as {told_by(messages)}")
            found += [message.mid for message in messages if message.mid not in said]
        return found


def told_by(messages: list[Any]) -> tuple[Any, ...]:
    """How a conversation stands, the slow way: last sender, when, since when it waits, for what, the last answer."""
    last = since = waits_for = replied = None
    for message in sorted(messages, key=lambda each: (each.inserted_us, each.mid)):
        last, at_s = NAMED.get(message.sender, message.sender), message.inserted_us // SECOND_US
        if last == "agent":
            since, waits_for, replied = None, None, at_s
        elif last == "customer" and since is None:
            since, waits_for = at_s, message.mid
    if last is None:
        return None, None, None, None, None
    return last, at_s, since, waits_for, replied


def stands_of(stored: Document) -> tuple[Any, ...]:
    """The same, as it is stored."""
    names = ("lastSender", "lastMessageAt", "awaitingReplySince", "awaitingMessageId", "repliedAt")
    return tuple(stored.get(name) for name in names)


@asynccontextmanager
async def shop(settings: Settings, *, customers: int = 330, days: float = 90, **switches: Any) -> AsyncIterator[Shop]:
    """A world at rest."""
    quiet = Switches(rate_limit=0, advance_s_per_call=0.0)
    quiet.update(switches)
    world = World(pages=1, customers=customers, days=days, clock=VirtualClock(START_S), switches=quiet)
    page, wire = next(iter(world.pages.values())), Wire(world)
    pancake = PancakeSettings(
        base_url="http://pancake.test/api", page_tokens={page.page_id: SecretStr(page.token)}, max_calls_per_second=0
    )
    async with open_deps(settings.replace(pancake=pancake), transport=wire) as deps:
        made = Shop(world, deps, wire)
        await deps.pancake.tags(page.page_id)  # learns Pancake's clock, as the first call of a worker does
        yield made
