"""Notices on channels that fail while what they tell of ends: no alarm comes after its end, and none is without one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from src.alerts.notices import close_notice, open_notice
from src.alerts.send import send_all
from src.deps import Deps, open_deps
from src.errors import Permanent
from src.settings import AlertSettings, Settings
from tests.harness.alerts import START, Hands, Post

pytestmark = pytest.mark.anyio

OFFICE, HOME = "telegram:-9", "telegram:-8"
LANE, LETTERS = "machine:lane_old:sync", "machine:letters_grew:*"


@dataclass
class Office:
    """Whoever is told what goes wrong."""

    deps: Deps
    post: Post = field(default_factory=Post)
    time: list[float] = field(default_factory=lambda: [float(START)])

    async def begins(self, key: str = LANE) -> None:
        kind = key.split(":")[1]
        facts = {"lane": "sync", "pending": 3, "new": 1, "count": 1}
        await open_notice(self.deps, key, kind=kind, severity="high", facts=facts)

    async def told(self, to: str = OFFICE) -> list[str]:
        """Send what there is; the first letters of the titles that came."""
        before = len(self.post.to(to))
        self.time[0] += 60
        await send_all(self.deps, to, is_last_try=True)
        return [note.title[0] for note in self.post.to(to)[before:]]


@pytest.fixture
async def office(settings: Settings) -> AsyncIterator[Office]:
    alerts = AlertSettings(_env_file=None, operations_to=(OFFICE, HOME), language="en")
    async with open_deps(settings.replace(alerts=alerts)) as deps:
        found = Office(deps)
        found.deps = replace(deps, hands=Hands(), channels=found.post, now=lambda: found.time[0])  # type: ignore[arg-type]
        yield found


async def test_what_could_not_be_told_is_not_told_after_its_end(office: Office) -> None:
    """The channel was away for as long as the trouble and longer; whoever was told of it hears its end."""
    office.post.faults[OFFICE] = [Permanent("Telegram refuses")]
    await office.begins()
    with pytest.raises(Permanent):
        await office.told()
    await office.told(HOME)
    await close_notice(office.deps, LANE)
    await office.begins(LETTERS)
    await office.told()
    await office.told(HOME)
    assert ["sync" in note.text for note in office.post.to(OFFICE)] == [False]
    assert ["sync" in note.text for note in office.post.to(HOME)] == [True, True]


async def test_what_could_not_be_told_is_told_as_long_as_it_lasts(office: Office) -> None:
    """And then its end is, too."""
    office.post.faults[OFFICE] = [Permanent("Telegram refuses")]
    await office.begins()
    with pytest.raises(Permanent):
        await office.told()
    await office.begins(LETTERS)
    assert await office.told() == ["🔔", "🔔"]
    await close_notice(office.deps, LANE)
    assert await office.told() == ["✅"]


async def test_a_sender_that_begins_as_it_ends_tells_nothing(office: Office) -> None:
    """Between what was told is read and what waits is dropped, a row could be taken up and never be ended."""
    await office.begins()
    read = office.deps.outbox.told

    async def told(alert_ids: object) -> object:
        found = await read(alert_ids)  # type: ignore[arg-type]
        assert await office.deps.outbox.begin(OFFICE, "msg_between", office.time[0]) is None
        return found

    office.deps.outbox.told = told  # type: ignore[assignment, method-assign]
    await close_notice(office.deps, LANE)
    assert await office.told() == []


async def test_a_message_left_over_by_a_dead_sender_is_not_told_after_its_end(office: Office) -> None:
    """It had taken it up, and died before its call."""
    await office.begins()
    await office.deps.outbox.begin(OFFICE, "msg_left", office.time[0])
    await close_notice(office.deps, LANE)
    office.time[0] += 3_600
    assert await office.told() == []
