"""ALERT_ settings: what a shop writes is the policy it gets; what is wrong stops the start, and the line names it."""

import json
import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from src.errors import Misuse
from src.rules.calendar import days_of, week_of
from src.rules.policy import ASSIGNEE, Policy, steps_due
from src.rules.policy_document import policy_of
from src.settings import AlertSettings, load_settings

VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")


def policy(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Policy:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(None)
    return settings.alerts.policy(settings.service.zone)


def test_nothing_set_is_a_policy_that_watches_every_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an hour by day and night, told in the app and to nobody else."""
    found = policy(monkeypatch)
    assert [(step.name, step.offset_s / 60) for step in found.steps] == [("warn", -10), ("breach", 0), ("escalate", 30)]
    assert {to for step in found.steps for to in step.to} == {ASSIGNEE}
    assert (found.threshold_s, found.language, found.calendar.is_always_open) == (1_800, "vi", True)
    assert found.calendar.zone.key == "Asia/Ho_Chi_Minh"


def test_what_a_shop_writes_is_what_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    found = policy(
        monkeypatch,
        ALERT_THRESHOLD_MINUTES="15",
        ALERT_ESCALATE_MINUTES="15, 45",
        ALERT_TO="telegram:-1001234,email:sales@shop.example",
        ALERT_ESCALATE_TO="zalo:12345678",
        ALERT_STAFF="u1=telegram:1 email:an@shop.example, u2=slack:binh",
        ALERT_QUIET_HOURS="telegram:-1001234=22:00-07:00",
        ALERT_HOURS="t2-t6 08:00-12:00 13:00-17:30; t7 08:00-12:00",
        ALERT_HOLIDAYS="2027-02-05..2027-02-11 Tet, vn",
        ALERT_DAYS="2027-02-11 09:00-11:00",
        ALERT_LEAVE_OUT_TAGS="Spam,57",
        ALERT_LEAVE_OUT_TYPES="comment",
        ALERT_LANGUAGE="en",
    )
    assert [step.name for step in found.steps] == ["warn", "breach", "escalate", "escalate 2"]
    assert found.steps[1].to == (ASSIGNEE, "telegram:-1001234", "email:sales@shop.example")
    assert found.steps[3].to == ("zalo:12345678",)
    assert found.staff == {"u1": ("telegram:1", "email:an@shop.example"), "u2": ("slack:binh",)}
    assert (*sorted(found.left_out_tags), *found.left_out_types) == ("57", "spam", "COMMENT")
    eve = datetime(2027, 2, 5, 20, 0, tzinfo=VIETNAM).timestamp()
    breach = {step.name: due for step, due in steps_due(found, eve)}["breach"]
    assert breach == datetime(2027, 2, 11, 9, 15, tzinfo=VIETNAM).timestamp()
    night = datetime(2026, 5, 15, 23, 0, tzinfo=VIETNAM).timestamp()
    assert not found.quiet["telegram:-1001234"].is_open(night)


def test_a_zone_of_its_own_goes_before_that_of_the_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    assert policy(monkeypatch, TIMEZONE="Europe/Berlin").calendar.zone.key == "Europe/Berlin"
    assert policy(monkeypatch, ALERT_TIMEZONE="Asia/Tokyo").calendar.zone.key == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("THRESHOLD_MINUTES", "0", "greater than 0"),
        ("THRESHOLD_MINUTES", "inf", "less than or equal"),
        ("WARN_MINUTES", "-5", "greater than or equal"),
        ("ESCALATE_MINUTES", "30,nan", "their minutes are 0 (off) to"),
        ("TO", "0901234567", "'0901234567' is no address: write telegram:"),
        ("WARN_TO", "telegram:me", "is no address of telegram"),
        ("OPERATIONS_TO", "email:nobody", "is no address of email"),
        ("STAFF", "u1", "is to be left=right"),
        ("STAFF", "u1=u2", "'u2' is no address"),
        ("QUIET_HOURS", "22:00-07:00", "is to be left=right"),
        ("QUIET_HOURS", "telegram:1=night", "is no day of the week"),
        ("HOURS", "8h-17h", "is not of the form 08:00-12:00 13:00-17:30"),
        ("HOURS", "mon-fri 8-17", "is not of the form 08:00-12:00 13:00-17:30"),
        ("HOLIDAYS", "30/4", "'30/4' is no closed day: write"),
        ("HOLIDAYS", "2027-02-30", "there is no such day"),
        ("DAYS", "2027-02-13", "is no day with hours: write 2027-02-13 09:00-12:00"),
        ("TIMEZONE", "Hanoi", "is no time zone"),
        ("LANGUAGE", "fr", "'vi' or 'en'"),
        ("MAX_AGE_DAYS", "nan", "less than or equal to"),
        ("MAX_MESSAGES_PER_HOUR", "0", "greater than or equal to 1"),
        ("LINK_TEMPLATE", "pancake.vn", "is to be an address with {conversation} in it"),
    ],
)
def test_a_wrong_value_stops_the_start_with_one_line(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Misuse) as caught:
        policy(monkeypatch, **{f"ALERT_{variable}": value})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"ALERT_{variable}: ")
    assert said in line


def test_the_manual_names_every_setting_and_its_example_can_be_read() -> None:
    """docs/alerts.md keeps up with the code."""
    manual = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    missing = [name for field in AlertSettings.model_fields if (name := f"`ALERT_{field.upper()}`") not in manual]
    assert missing == []
    (example,) = re.findall(r"```json\n(.*?)```", manual, re.DOTALL)
    found = policy_of(json.loads(example), Policy())
    assert [step.name for step in found.steps] == ["soon", "late", "very late"]
    for hours in re.findall(r'--hours "([^"]+)"', manual):
        assert week_of(hours)
    for closed in re.findall(r'--holiday "([^"]+)"', manual):
        assert days_of([closed])[0]
