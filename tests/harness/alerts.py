"""A page of the simulated Pancake with a monitor that looks when it is told to, at the time it is told."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import SecretStr

from src.alerts.monitor import Looked
from src.clients.channels import Note
from src.deps import Deps, NoHands, open_deps
from src.engine.inline import run_to_end
from src.jobs import ALL_JOBS
from src.jobs.monitoring import look
from src.rules.recipients import Recipient
from src.settings import AlertSettings, PancakeSettings, Settings
from tests.simulators.pancake import Switches, VirtualClock, World, running

T = TypeVar("T")
START = 1_790_042_400  # a Tuesday, 09:00 in Vietnam


class Hands(NoHands):
    """Notes which jobs were handed on; runs none."""

    def __init__(self) -> None:
        self.spawned: list[tuple[str, dict[str, Any]]] = []

    async def spawn(self, name: str, arguments: dict[str, Any], *, job_id: str | None = None, group: str = "") -> bool:
        self.spawned.append((name, arguments))
        return True


@dataclass
class Post:
    """Stands in for the channels: what was sent where, and what is to happen instead."""

    sent: list[tuple[str, Note]] = field(default_factory=list)
    faults: dict[str, list[Exception]] = field(default_factory=dict)

    async def send(self, to: Recipient, note: Note) -> str | None:
        if self.faults.get(str(to)):
            raise self.faults[str(to)].pop(0)
        self.sent.append((str(to), note))
        return f"id-{len(self.sent)}"

    async def check(self) -> list[tuple[str, bool, str]]:
        return []

    def to(self, address: str) -> list[Note]:
        return [note for to, note in self.sent if to == address]


@dataclass
class Watch:
    """One page, watched. `at` is the time, in seconds since START."""

    deps: Deps
    world: World
    clock: VirtualClock
    page_id: str
    post: Post
    hands: Hands

    @property
    def at(self) -> float:
        return self.clock.now_us() / 1_000_000 - START

    def go_to(self, seconds: float) -> None:
        self.clock.advance(seconds - self.at)

    def customer(self, *seconds: float, kind: str = "INBOX") -> str:
        """A new conversation in which a customer writes at these seconds; returns its id."""
        rid = self.world.open_conversation(self.page_id, kind, at=START + seconds[0])
        for second in seconds:
            self.say(rid, "customer", second)
        return rid

    def say(self, rid: str, who: str, second: float) -> str:
        return self.world.say(self.page_id, rid, who, at=START + second)

    async def sync(self, mode: str = "incremental") -> None:
        arguments = {"page_id": self.page_id, "mode": mode}
        ran = await run_to_end(ALL_JOBS, self.deps, "sync_page_conversations", arguments)
        assert ran.is_ok, ran.report()

    async def look(self, seconds: float | None = None, *, deps: Deps | None = None) -> Looked:
        """Let the monitor look at the page now, or at this second; nothing is sent."""
        if seconds is not None:
            self.go_to(seconds)
        return await look(deps or self.deps, self.page_id)

    async def send(self, deps: Deps | None = None) -> None:
        """Send what waits, to every address."""
        deps = deps or self.deps
        for to in sorted(
            await deps.outbox.addresses(deps.now()) | await deps.outbox.addresses(deps.now(), self.page_id)
        ):
            await run_to_end(ALL_JOBS, deps, "send_alerts", {"to": to}, max_tries=1)

    async def told(self, seconds: float | None = None) -> Sequence[str]:
        """Sync, look and send; the titles of what came to `telegram:-1`."""
        before = len(self.post.to("telegram:-1"))
        if seconds is not None:
            self.go_to(seconds)
        await self.sync()
        await self.look()
        await self.send()
        return [note.title for note in self.post.to("telegram:-1")[before:]]

    async def item(self, **query: Any) -> dict[str, Any]:
        found = await self.deps.database["alert_items"].find_one(query)
        assert found is not None
        return found

    async def conversation(self, rid: str) -> dict[str, Any]:
        found = await self.deps.database["conversations"].find_one({"conversationId": rid})
        assert found is not None
        return found


@asynccontextmanager
async def watching(settings: Settings, **alerts: Any) -> AsyncIterator[Watch]:
    """A watched page. `alerts` are the ALERT_ settings; by default 10 minutes, no warning, an escalation 20 later."""
    given = {"threshold_minutes": 10, "warn_minutes": 0, "escalate_minutes": "20", "to": "telegram:-1", **alerts}
    clock, switches = VirtualClock(START), Switches()
    switches.update({"rate_limit": 0, "token_in_list_pct": 100.0, "advance_s_per_call": 0.0})
    world = World(1, pages=1, customers=0, days=1, clock=clock, switches=switches)
    world.set_rates(type(world.rates)())
    async with running(world) as simulator:
        pancake = PancakeSettings(
            base_url=simulator.base_url, access_token=SecretStr(world.user_token), max_calls_per_second=0
        )
        settings = settings.replace(pancake=pancake, alerts=AlertSettings(_env_file=None, **given))
        async with open_deps(settings) as deps:
            post, hands = Post(), Hands()
            # by the last answer's clock it would be late by whatever a test has let pass since
            deps.pancake.server_now = lambda: clock.now_us() // 1_000_000  # type: ignore[method-assign]
            deps = replace(deps, hands=hands, channels=post, now=lambda: clock.now_us() / 1_000_000)  # type: ignore[arg-type]
            await run_to_end(ALL_JOBS, deps, "sync_pages", {})
            watch = Watch(deps, world, clock, next(iter(world.pages)), post, hands)
            await watch.sync()
            yield watch
