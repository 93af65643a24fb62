"""Policies: what is due when, who is told, what is left out; and every fault of a document named."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from src.rules.policy import ASSIGNEE, Policy, Step, applies, steps_due, told_outside
from src.rules.policy_document import policy_of
from src.settings import AlertSettings

VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")


def shop(**given: object) -> Policy:
    return AlertSettings(_env_file=None, **given).policy(VIETNAM)  # type: ignore[arg-type]


def names(policy: Policy) -> list[tuple[str, float, tuple[str, ...]]]:
    return [(step.name, step.offset_s / 60, step.to) for step in policy.steps]


def test_the_usual_steps() -> None:
    policy = shop(
        threshold_minutes=30, to="telegram:-100, email:boss@shop.example", escalate_to="email:owner@shop.example"
    )
    assert names(policy) == [
        ("warn", -10, (ASSIGNEE,)),
        ("breach", 0, (ASSIGNEE, "telegram:-100", "email:boss@shop.example")),
        ("escalate", 30, ("email:owner@shop.example",)),
    ]
    assert [step.severity for step in policy.steps] == ["warning", "high", "critical"]
    assert names(shop(threshold_minutes=5, warn_minutes=10))[0] == ("warn", -2.5, (ASSIGNEE,))
    assert [name for name, _, _ in names(shop(warn_minutes=0, escalate_minutes="0"))] == ["breach"]
    assert [name for name, _, _ in names(shop(escalate_minutes="30,60"))][2:] == ["escalate", "escalate 2"]


def test_steps_are_due_in_business_time() -> None:
    policy = shop(threshold_minutes=30, hours="mon-fri 08:00-12:00 13:00-17:30")
    evening = datetime(2026, 5, 15, 17, 20, tzinfo=VIETNAM).timestamp()  # a Friday
    found = {step.name: datetime.fromtimestamp(due, VIETNAM) for step, due in steps_due(policy, evening)}
    assert found == {
        "warn": datetime(2026, 5, 18, 8, 10, tzinfo=VIETNAM),
        "breach": datetime(2026, 5, 18, 8, 20, tzinfo=VIETNAM),
        "escalate": datetime(2026, 5, 18, 8, 50, tzinfo=VIETNAM),
    }


def test_a_page_says_only_what_differs() -> None:
    base = shop(threshold_minutes=30, hours="daily 08:00-22:00", to="telegram:-100", holidays="2027-02-05..2027-02-11")
    page = policy_of({"pageId": "1", "thresholdMinutes": 10}, base)
    assert page.threshold_s == 600
    assert page.calendar == base.calendar
    assert names(page) == [
        ("warn", -5, (ASSIGNEE,)),
        ("breach", 0, (ASSIGNEE, "telegram:-100")),
        ("escalate", 30, ("telegram:-100",)),
    ]
    other = policy_of({"to": ["slack:sales"], "escalateMinutes": [15, 45], "days": ["2027-02-11 09:00-11:00"]}, base)
    assert names(other)[1:] == [
        ("breach", 0, (ASSIGNEE, "slack:sales")),
        ("escalate", 15, ("slack:sales",)),
        ("escalate 2", 45, ("slack:sales",)),
    ]
    assert len(other.calendar.days) == 7
    assert policy_of({}, base) == base


def test_steps_of_its_own_replace_the_usual_ones() -> None:
    steps = [
        {"name": "late", "minutes": 5, "severity": "critical", "to": ["email:a@b.example"]},
        {"name": "soon", "minutes": -5, "to": ["assignee"]},
    ]
    policy = policy_of({"thresholdMinutes": 20, "steps": steps}, shop())
    assert policy.steps == (
        Step("soon", -300.0, "high", (ASSIGNEE,)),
        Step("late", 300.0, "critical", ("email:a@b.example",)),
    )


def test_the_boss_is_told_of_a_page_with_a_group_of_its_own() -> None:
    """Unless the page names somebody else; where the shop names nobody for it, the page's group is told again."""
    boss = shop(to="telegram:-100", escalate_to="email:boss@shop.example")
    assert names(policy_of({"to": ["telegram:-200"]}, boss))[-1] == ("escalate", 30, ("email:boss@shop.example",))
    page = {"to": ["telegram:-200"], "escalateTo": ["email:other@shop.example"]}
    assert names(policy_of(page, boss))[-1] == ("escalate", 30, ("email:other@shop.example",))
    assert names(policy_of({"to": ["telegram:-200"]}, shop(to="telegram:-100")))[-1] == (
        "escalate",
        30,
        ("telegram:-200",),
    )


def test_steps_that_were_set_for_all_stay_where_a_page_has_another_threshold() -> None:
    """Only a page that says who is told, or when beside the threshold, has the usual steps again."""
    steps = [{"name": "soon", "minutes": -5, "to": ["slack:a"]}, {"name": "late", "to": ["slack:b"]}]
    for_all = policy_of({"steps": steps}, shop(to="telegram:-100"))
    assert policy_of({"thresholdMinutes": 3}, for_all).steps == for_all.steps
    assert names(policy_of({"to": ["slack:c"]}, for_all)) == [("breach", 0, (ASSIGNEE, "slack:c"))]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"thresholdMinute": 5}, "thresholdMinute: there is no such field"),
        ({"thresholdMinutes": "soon"}, "thresholdMinutes: is to be a number"),
        ({"thresholdMinutes": 0}, "thresholdMinutes: is to be a number"),
        ({"hours": "mon 8-12"}, "hours: '8-12' is not of the form"),
        ({"timezone": "Hanoi"}, "timezone: is no time zone"),
        ({"holidays": ["30/4"]}, "holidays or days: '30/4' is no closed day"),
        ({"to": ["sms:0900"]}, "to: 'sms:0900' is no address: write telegram:"),
        ({"to": ["telegram:me"]}, "to: 'telegram:me' is no address of telegram"),
        ({"language": "fr"}, "language: is to be one of vi, en"),
        ({"leaveOut": ["spam"]}, "leaveOut: is to be of the form"),
        ({"staff": {"u1": ["assignee"]}}, "staff u1: 'assignee' is no address"),
        ({"quietHours": {"email:a@b.example": "night"}}, "quietHours: "),
        ({"steps": [{"name": "resolved", "minutes": 1}]}, "steps: each is to have a name of its own"),
        ({"steps": [{"minutes": 1}]}, "steps 1: is to have a name"),
        ({"steps": [{"name": "a", "minutes": -60}]}, "steps 1: minutes are to be a number"),
        ({"escalateMinutes": ["x"]}, "escalateMinutes: is to be a number of minutes"),
    ],
)
def test_every_fault_is_named(document: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        policy_of(document, shop())


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
FIELDS = ("thresholdMinutes", "warnMinutes", "escalateMinutes", "to", "steps", "hours", "holidays", "days", "leaveOut")
MORE = ("staff", "quietHours", "maxAgeDays", "language", "timezone", "other")


@given(st.dictionaries(st.sampled_from(FIELDS + MORE), values, max_size=5))
def test_whatever_stands_in_a_document_it_is_read_or_refused(document: dict[str, object]) -> None:
    """A person may write it by hand: no shape of it ends in anything but a policy or a line about its faults."""
    try:
        policy = policy_of(document, shop())
    except ValueError as e:
        assert ":" in str(e)  # noqa: PT017
    else:
        assert steps_due(policy, 1_790_000_000.0) is not None


def test_what_decides_when_is_in_the_version_and_nothing_else() -> None:
    base = shop(hours="daily 08:00-22:00")
    assert policy_of({"to": ["slack:x"], "language": "en"}, base).version == base.version
    for change in (
        {"thresholdMinutes": 31},
        {"hours": "daily 08:00-21:00"},
        {"holidays": ["tet"]},
        {"timezone": "UTC"},
    ):
        assert policy_of(change, base).version != base.version
    assert policy_of({"leaveOut": {"tags": ["spam"]}}, base).version != base.version


def test_left_out_by_type_and_tag() -> None:
    policy = policy_of({"leaveOut": {"tags": ["Spam", "57"], "types": ["comment"]}}, shop())
    assert applies(policy, "INBOX", ["1"], ["VIP"])
    assert not applies(policy, "INBOX", ["1"], ["spam "])
    assert not applies(policy, "INBOX", ["57"], [])
    assert not applies(policy, "COMMENT", [], [])
    assert applies(policy, None, [], [])


@pytest.mark.parametrize(
    ("hours", "moment", "expected"),
    [
        ("22:00-07:00", "2026-05-15 23:00", "2026-05-16 07:00"),
        ("22:00-07:00", "2026-05-15 06:59", "2026-05-15 07:00"),
        ("22:00-07:00", "2026-05-15 12:00", "2026-05-15 12:00"),
        ("sat-sun 00:00-24:00", "2026-05-16 12:00", "2026-05-18 00:00"),
    ],
)
def test_quiet_hours_hold_until_they_are_over(hours: str, moment: str, expected: str) -> None:
    calendar = told_outside(hours, VIETNAM)
    at = datetime.fromisoformat(moment).replace(tzinfo=VIETNAM).timestamp()
    told = calendar.next_open(at)
    assert told is not None
    assert datetime.fromtimestamp(told, VIETNAM).isoformat(sep=" ")[:16] == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"hours": "8h-17h"},
        {"to": "sms:1"},
        {"holidays": "tomorrow"},
        {"timezone": "Hanoi"},
        {"staff": "u1=nobody"},
        {"quiet_hours": "telegram:1=later"},
        {"escalate_minutes": "-5"},
    ],
)
def test_wrong_settings_stop_the_start(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        shop(**wrong)


def test_staff_are_told_by_their_own_addresses() -> None:
    policy = shop(staff="u1=telegram:1 email:a@shop.example,u2=slack:bo")
    assert policy.staff == {"u1": ("telegram:1", "email:a@shop.example"), "u2": ("slack:bo",)}
