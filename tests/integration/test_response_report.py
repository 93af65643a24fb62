"""The report of response times, from stored messages: held against reading every conversation whole."""

import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from src.deps import Deps, open_deps
from src.engine.inline import run_to_end
from src.engine.letters import Call, current_call
from src.errors import Misuse, Snooze
from src.jobs import ALL_JOBS
from src.monitoring.reports import bounds, day_of, page_report, policies
from src.rules.coverage import Coverage
from src.rules.response_times import Row, Wait, report_of
from src.rules.waiting import Said, episodes
from src.settings import AlertSettings, MonitorSettings, Settings
from tests.harness.alerts import Hands, Post

pytestmark = pytest.mark.anyio

SAIGON = ZoneInfo("Asia/Ho_Chi_Minh")
DAY = date(2026, 5, 14)
SINCE, UNTIL = bounds(DAY, DAY, SAIGON)
PAGE, OTHER, BOSS = "100", "200", "telegram:-5"


@pytest.fixture
async def deps(settings: Settings) -> AsyncIterator[Deps]:
    """The morning after DAY, half past seven."""
    settings = settings.replace(
        alerts=AlertSettings(_env_file=None, language="en"), monitor=MonitorSettings(_env_file=None, report_to=BOSS)
    )
    async with open_deps(settings) as opened:
        await opened.pages.upsert_named([PAGE, OTHER])
        for page_id in (PAGE, OTHER):
            await opened.sync_states.change(
                "conversations", page_id, lambda _: Coverage(settled=((0, UNTIL + 27_000),))
            )
        yield replace(opened, hands=Hands(), channels=Post(), now=lambda: UNTIL + 7.5 * 3600)  # type: ignore[arg-type]


def message(conversation_id: str, number: int, at_s: float, sender: str, staff: str | None = None) -> dict[str, Any]:
    stamp = int(at_s * 1_000_000)
    return {
        "messageId": f"{conversation_id}_{number}",
        "conversationId": conversation_id,
        "pageId": PAGE,
        "insertedAt": stamp // 1_000_000,
        "stamp": stamp,
        "sender": sender,
        "staffId": staff,
        "isRemoved": False,
    }


async def store(deps: Deps, messages: Iterable[dict[str, Any]]) -> None:
    await deps.messages.rows.upsert(list(messages), datetime.now(UTC), expect_new=True)


async def rows_of(deps: Deps, since: int = SINCE, until: int = UNTIL) -> list[Row]:
    return await page_report(deps, PAGE, since, until, await policies(deps))


def shown(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    return [(row.staff_id, row.answered, row.unanswered, row.times.median_s if row.times else None) for row in rows]


async def test_what_belongs_to_the_day(deps: Deps) -> None:
    """What began on it: answered on it, later or never. Who waits since yesterday stays yesterday's."""
    hour = 3600
    await store(
        deps,
        [
            message("same-day", 1, SINCE + hour, "customer"),
            message("same-day", 2, SINCE + 2 * hour, "agent", "lan"),
            message("next-day", 1, UNTIL - 60, "customer"),
            message("next-day", 2, UNTIL + 60, "agent", "minh"),
            message("never", 1, SINCE, "customer"),
            message("never", 2, SINCE + 1, "bot"),
            message("before", 1, SINCE - 60, "customer"),
            message("before", 2, SINCE + hour, "customer"),
            message("before", 3, SINCE + 2 * hour, "agent", "lan"),
            message("since-yesterday", 1, SINCE - 60, "customer"),
            message("since-yesterday", 2, SINCE + 60, "bot"),
            message("since-yesterday", 3, SINCE + 120, "customer"),
            message("answered-before", 1, SINCE - 600, "customer"),
            message("answered-before", 2, SINCE - 300, "agent", "lan"),
            message("answered-before", 3, SINCE + 300, "customer"),
            message("answered-before", 4, SINCE + 420, "agent"),
            message("tomorrow", 1, UNTIL, "customer"),
            {**message("removed", 1, SINCE + hour, "customer"), "isRemoved": True},
            {**message("elsewhere", 1, SINCE + hour, "customer"), "pageId": OTHER},
        ],
    )
    assert shown(await rows_of(deps)) == [
        (None, 3, 1, 120.0),
        ("lan", 1, 0, 3600.0),
        ("minh", 1, 0, 120.0),
        (None, 1, 0, 120.0),
    ]


async def test_any_day_as_if_each_conversation_were_read_whole(deps: Deps) -> None:
    """Invented talk of three days, many of it within one second."""
    rng = random.Random(8)
    talk: dict[str, list[dict[str, Any]]] = {}
    for number in range(60):
        name = f"c{number}"
        seconds = sorted(rng.choice((SINCE, rng.randrange(SINCE - 86_400, UNTIL + 86_400))) for _ in range(25))
        talk[name] = [
            message(name, place, second + rng.random(), rng.choice(("customer", "agent", "bot", "system")))
            for place, second in enumerate(seconds)
        ]
        for said in talk[name]:
            if said["sender"] == "agent":
                said["staffId"] = rng.choice(("lan", "minh", None))
    await store(deps, (said for said_of in talk.values() for said in said_of))
    expected = [
        Wait(
            DAY.isoformat(),
            found.replied_by,
            *([(found.replied_us - found.since_us) / 1e6] * 2 if found.replied_us is not None else (None, None)),
        )
        for said_of in talk.values()
        for found in episodes(Said(one["messageId"], one["stamp"], one["sender"], one["staffId"]) for one in said_of)
        if SINCE <= found.since_us / 1e6 < UNTIL
    ]
    assert len(expected) > 100
    found_rows, expected_rows = await rows_of(deps), report_of(expected)
    assert [(row.staff_id, row.answered, row.unanswered) for row in found_rows] == [
        (row.staff_id, row.answered, row.unanswered) for row in expected_rows
    ]
    for found_row, expected_row in zip(found_rows, expected_rows, strict=True):
        assert found_row.times is not None
        assert expected_row.times is not None
        assert found_row.times.median_s == pytest.approx(expected_row.times.median_s, abs=1e-3)
        assert found_row.times.longest_s == pytest.approx(expected_row.times.longest_s, abs=1e-3)


async def test_business_time_and_what_is_not_watched_are_the_policys(deps: Deps) -> None:
    """An hour at night is none of the shop's time; who is marked as spam is nobody who waits."""
    alerts = AlertSettings(_env_file=None, hours="daily 08:00-17:00", leave_out_tags="spam", leave_out_types="comment")
    deps = replace(deps, settings=deps.settings.replace(alerts=alerts))
    evening = SINCE + 16 * 3600 + 1800  # half an hour before the shop closes
    await store(
        deps,
        [message("late", 1, evening, "customer"), message("late", 2, evening + 16 * 3600, "agent", "lan")]
        + [message(name, 1, evening, "customer") for name in ("spam", "comment", "unknown")],
    )
    await deps.database["conversations"].insert_many(
        {"conversationId": name, "pageId": PAGE, "updatedAt": UNTIL, "type": kind, "tags": ["3"], "tagNames": names}
        for name, kind, names in (
            ("late", "INBOX", ["vip"]),
            ("spam", "INBOX", ["Spam"]),
            ("comment", "COMMENT", []),
        )
    )
    page, lan = await rows_of(deps)
    assert (page.answered, page.unanswered) == (1, 1)
    assert lan.times is not None
    assert lan.business is not None
    assert (lan.times.longest_s, lan.business.longest_s) == (16 * 3600, 3600)


async def test_the_job_stores_yesterday_and_sends_it_once(deps: Deps) -> None:
    """However often it runs; what came meanwhile is in what is stored."""
    await deps.staff.sample(
        PAGE, [{"userId": "lan", "name": "Lan", "isOnline": True, "status": "x", "panCakeData": {}}], datetime.now(UTC)
    )
    await store(deps, [message("a", 1, SINCE, "customer"), message("b", 1, SINCE, "customer")])
    await store(deps, [message("a", 2, SINCE + 300, "agent", "lan")])
    outcome: Any = await ALL_JOBS["report_response_times"].run(deps)
    assert (outcome, outcome.details) == (
        "reported",
        {"day": "2026-05-14", "pages": 2, "answered": 1, "unanswered": 1, "told": 1},
    )
    await store(deps, [message("b", 2, UNTIL + 60, "agent", "lan")])
    await ALL_JOBS["report_response_times"].run(deps)
    stored = await deps.reports.get("response_times", "2026-05-14", PAGE)
    assert stored is not None
    assert [(row["staffId"], row["answered"], row["unanswered"]) for row in stored["rows"]] == [
        (None, 2, 0),
        ("lan", 2, 0),
    ]
    assert stored["rows"][1]["times"] == {"medianS": 43380.0, "p90S": 86460.0, "longestS": 86460.0}
    assert await deps.database["reports"].count_documents({}) == 2
    for to in await deps.outbox.addresses(deps.now()):
        await run_to_end(ALL_JOBS, deps, "send_alerts", {"to": to}, max_tries=1)
    (note,) = deps.channels.to(BOSS)  # type: ignore[attr-defined]
    assert note.title == "ℹ️ Response times of 2026-05-14"
    assert note.text.splitlines() == [
        f"{PAGE}: 1 answered, 1 unanswered",
        "  median 5 min, 90% within 5 min, longest 5 min",
        "  • Lan: 1, median 5 min, longest 5 min",
    ]


async def test_it_waits_for_what_is_not_read_yet(deps: Deps) -> None:
    """On a new shop's first day, or after an outage; for two hours, then it says what is lacking."""
    await store(deps, [message("a", 1, SINCE, "customer")])
    await deps.sync_states.change("conversations", OTHER, lambda _: Coverage(settled=((0, SINCE), (UNTIL, UNTIL + 9))))
    late = {"conversationId": "a", "pageId": PAGE, "updatedAt": SINCE, "messagesDue": True}
    await deps.database["conversations"].insert_one(late)
    token = current_call.set(Call("job", "reports", enqueued_at=deps.now() - 7_000))
    with pytest.raises(Snooze, match="pages: 2"):
        await ALL_JOBS["report_response_times"].run(deps)
    await deps.database["conversations"].update_one({"conversationId": "a"}, {"$set": {"messagesDue": False}})
    with pytest.raises(Snooze, match="pages: 1"):
        await ALL_JOBS["report_response_times"].run(deps)
    deps = replace(deps, now=lambda: UNTIL + 10 * 3600)
    outcome: Any = await ALL_JOBS["report_response_times"].run(deps)
    current_call.reset(token)
    assert (outcome, outcome.details["told"]) == ("incomplete", 1)
    item = await deps.database["alert_items"].find_one({"to": BOSS})
    assert item is not None
    assert item["facts"]["text"].splitlines()[-1] == f"Not everything has been read yet of {OTHER}"


async def test_a_day_without_a_customer_is_not_told(deps: Deps) -> None:
    outcome: Any = await ALL_JOBS["report_response_times"].run(deps)
    assert (outcome, outcome.details["told"]) == ("reported", 0)


async def test_a_day_that_is_asked_for_is_stored_and_not_sent(deps: Deps) -> None:
    """Working out a month again is no month of messages."""
    outcome: Any = await ALL_JOBS["report_response_times"].run(deps, day="2026-04-01")
    assert (outcome.details["day"], outcome.details["told"]) == ("2026-04-01", 0)
    assert await deps.outbox.addresses(deps.now()) == set()
    with pytest.raises(Misuse, match="is no day"):
        await ALL_JOBS["report_response_times"].run(deps, day="yesterday")


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [(SAIGON, DAY, 24), (ZoneInfo("Europe/Berlin"), date(2026, 3, 29), 23), (ZoneInfo("UTC"), DAY, 24)],
)
async def test_a_day_is_that_of_the_clock_on_the_wall(zone: ZoneInfo, day: date, hours: int) -> None:
    """The one on which the clocks go forward is an hour shorter; yesterday is what is over there."""
    since, until = bounds(day, day, zone)
    assert until - since == hours * 3600
    assert datetime.fromtimestamp(since, zone).isoformat()[:19] == f"{day}T00:00:00"
    assert day_of(None, until, zone) == day_of(None, until + 86_000, zone) == day
