"""Policies as they are stored: two people who write at once, and one who wrote nonsense by hand."""

import asyncio
from typing import Any

import pytest

from src.clients.mongo import Database, open_database
from src.log import configure_logging
from src.rules.policy import Policy, steps_due
from src.settings import AlertSettings, Settings
from src.store.reply_policies import EVERY_PAGE, ReplyPolicies

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(settings: Settings) -> Any:
    async with open_database(settings.mongo) as opened:
        await ReplyPolicies(opened).ensure_indexes()
        yield opened


@pytest.fixture
def base(settings: Settings) -> Policy:
    return AlertSettings(to="telegram:-100", hours="daily 08:00-22:00").policy(settings.service.zone)


async def test_a_page_has_its_own_then_that_of_all_then_the_shops(database: Database, base: Policy) -> None:
    """What a page does not say, `*` says, and what that does not say, the settings say."""
    policies = ReplyPolicies(database)
    assert (await policies.load(base)).of("1") is base
    await policies.change(EVERY_PAGE, {"thresholdMinutes": 45, "hours": "mon-fri 09:00-17:00"}, base)
    await policies.change("1", {"thresholdMinutes": 10}, base)
    book = await policies.load(base)
    assert (book.of("1").threshold_s, book.of("2").threshold_s) == (600, 2_700)
    assert book.of("1").calendar == book.of("2").calendar != base.calendar
    assert book.of("1").steps[1].to == base.steps[1].to
    assert await policies.remove("1")
    assert not await policies.remove("1")
    assert (await policies.load(base)).of("1").threshold_s == 2_700


async def test_two_who_change_other_fields_at_once_both_keep_theirs(database: Database, base: Policy) -> None:
    """Nothing that was written is taken back by somebody who had read before."""
    one, other = ReplyPolicies(database), ReplyPolicies(database)
    fields = ["thresholdMinutes", "warnMinutes", "maxAgeDays", "escalateMinutes"]
    await asyncio.gather(
        *(
            policies.change("1", {name: number}, base)
            for number in range(1, 6)
            for name, policies in zip(fields, (one, other, one, other), strict=True)
        )
    )
    document = (await one.all())["1"]
    assert set(document) == {*fields, "pageId", "updatedAt"}
    assert all(1 <= document[name] <= 5 for name in fields)


async def test_a_field_is_taken_away_and_the_others_stay(database: Database, base: Policy) -> None:
    policies = ReplyPolicies(database)
    await policies.change("1", {"thresholdMinutes": 10, "to": ["slack:sales"], "language": "en"}, base)
    document = await policies.change("1", {"to": None, "warnMinutes": 2}, base)
    assert document == {**(await policies.all())["1"], "updatedAt": document["updatedAt"]}
    assert {name: document.get(name) for name in ("thresholdMinutes", "warnMinutes", "language", "to")} == {
        "thresholdMinutes": 10,
        "warnMinutes": 2,
        "language": "en",
        "to": None,
    }


async def test_one_entry_of_a_field_is_changed_and_the_others_stay(database: Database, base: Policy) -> None:
    """Whoever adds a member of the staff need not know the others."""
    policies = ReplyPolicies(database)
    await policies.change("1", {"staff": {"u1": ["telegram:1"]}, "leaveOut": {"tags": ["spam"]}}, base)
    await policies.change("1", {"staff": {"u2": ["slack:bo"]}, "leaveOut": {"types": ["COMMENT"]}}, base)
    document = await policies.change("1", {"staff": {"u1": None}}, base)
    assert document["staff"] == {"u2": ["slack:bo"]}
    assert document["leaveOut"] == {"tags": ["spam"], "types": ["COMMENT"]}


async def test_what_cannot_be_read_is_not_stored(database: Database, base: Policy) -> None:
    """Neither as a change nor whole; what there was stays."""
    policies = ReplyPolicies(database)
    await policies.change("1", {"thresholdMinutes": 10}, base)
    with pytest.raises(ValueError, match="hours: "):
        await policies.change("1", {"hours": "8h-17h", "thresholdMinutes": 5}, base)
    with pytest.raises(ValueError, match="to: "):
        await policies.save({"pageId": "1", "to": ["pigeon:1"]})
    assert (await policies.all())["1"]["thresholdMinutes"] == 10


async def test_one_that_was_broken_by_hand_stops_no_other(
    database: Database, base: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its page has the shop's policy meanwhile; the fault is told, once for as long as nothing changes."""
    configure_logging("WARNING", "json")
    policies = ReplyPolicies(database)
    await policies.change("2", {"thresholdMinutes": 5}, base)
    await database["reply_policies"].insert_many(
        [
            {"pageId": "1", "thresholdMinutes": "soon", "hours": {"mon": 8}},
            {"pageId": 3, "holidays": ["tết"], "thresholdMinutes": 20.5},
        ]
    )
    for _ in range(3):
        book = await policies.load(base)
    assert book.of("1") == base
    assert (book.of("2").threshold_s, book.of("3").threshold_s) == (300, 1_230)
    assert set(book.faults) == {"1"}
    assert "thresholdMinutes: is to be a number" in book.faults["1"]
    assert capsys.readouterr().err.count("thresholdMinutes") == 1

    await policies.change("1", {"thresholdMinutes": 15, "hours": None}, base)  # mended, though written by hand
    book = await policies.load(base)
    assert (book.of("1").threshold_s, book.faults) == (900, {})


async def test_what_is_broken_for_all_leaves_the_settings_in_force(database: Database, base: Policy) -> None:
    policies = ReplyPolicies(database)
    await database["reply_policies"].insert_one({"pageId": EVERY_PAGE, "timezone": "Hanoi", "thresholdMinutes": 1})
    await policies.change("1", {"thresholdMinutes": 5}, base)
    book = await policies.load(base)
    assert book.of("2") == base
    assert book.of("1").threshold_s == 300
    assert set(book.faults) == {EVERY_PAGE}


async def test_a_change_is_seen_by_the_next_look_of_another_worker(database: Database, base: Policy) -> None:
    """Nothing is remembered past a change; what did not change is not read again."""
    here, there = ReplyPolicies(database), ReplyPolicies(database)
    before = await here.load(base)
    assert await here.load(base) is before
    await there.change("1", {"hours": "daily 10:00-11:00"}, base)
    after = (await here.load(base)).of("1")
    assert after.version != before.of("1").version
    assert steps_due(after, 1_790_000_000.0) != steps_due(base, 1_790_000_000.0)
