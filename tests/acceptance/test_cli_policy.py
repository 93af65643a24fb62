"""`policy ...` as a manager uses it: set hours and Tet for a page, see them, try them before the day comes.

The commands run in this process, which is much faster; one test calls them as a person does.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from typer.testing import CliRunner, Result

from src.cli import app
from src.log import configure_logging
from tests.acceptance.processes import COMMAND, environment, run
from tests.conftest import Servers

PAGE = ("--page", "100")
SHOP = {
    "ALERT_TO": "telegram:-100900",
    "ALERT_HOURS": "daily 08:00-22:00",
    "ALERT_TELEGRAM_TOKEN": "123456:" + "x" * 35,
    "TIMEZONE": "Asia/Ho_Chi_Minh",
}
HOURS = "t2-t6 08:00-12:00 13:00-17:30; t7 08:00-12:00"
TET = "2027-02-05..2027-02-11 Tet"


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of the shop; no server is there."""
    for name, value in {**SHOP, "REDIS_URL": "redis://127.0.0.1:1", "MONGODB_URI": "mongodb://127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    yield
    configure_logging("INFO", "text")  # a command has pointed the log at its own output


@pytest.fixture
def documents(
    shop: None, servers: Servers, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MongoClient[dict[str, Any]]]:
    """The same with servers, and pages 100 and 200 in the database."""
    ours = {"REDIS_URL": servers.redis_url, "MONGODB_URI": servers.mongodb_uri, "MONGODB_DATABASE": database_name}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    with MongoClient[dict[str, Any]](servers.mongodb_uri) as client:
        pages = client[database_name]["pages"]
        pages.insert_many({"pageId": page_id, "isActive": True, "isSync": True} for page_id in ("100", "200"))
        yield client


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["policy", *arguments])


def lines(*arguments: str) -> list[dict[str, Any]]:
    """What a command that must go well prints, each line as JSON."""
    done = call(*arguments)
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def tried(*arguments: str) -> list[tuple[str, str, list[str]]]:
    """(step, when on the page's clock, who is told), in order."""
    return [(row["step"], row["due"], row["told"]) for row in lines("test", *arguments, "--json")]


@pytest.mark.usefixtures("documents")
def test_a_page_gets_hours_tet_and_a_group_and_is_tried() -> None:
    """The example of docs/alerts.md: who writes on the eve of Tet is told of when the shop opens again."""
    done = call(
        "set", *PAGE, "--threshold", "15", "--hours", HOURS, "--holiday", TET,
        "--to", "telegram:-100123", "--escalate-to", "email:boss@shop.example", "--staff", "u1=telegram:55",
        "--quiet", "email:boss@shop.example=17:00-08:10",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert done.stderr == "email:boss@shop.example cannot be told yet: set ALERT_SMTP_HOST and ALERT_SMTP_FROM\n"

    assert tried(*PAGE, "--since", "2027-02-04 17:20", "--assignee", "u1") == [
        ("warn", "2027-02-04T17:27:30+07:00", ["telegram:55"]),
        ("breach", "2027-02-12T08:05:00+07:00", ["telegram:55", "telegram:-100123"]),
        ("escalate", "2027-02-12T08:35:00+07:00", ["email:boss@shop.example"]),
    ]
    shown = call("test", *PAGE, "--since", "2027-02-05 20:00").stdout
    assert "time counts from Fri 2027-02-12 08:00" in shown
    assert "Fri 2027-02-12 08:15" in shown
    assert "telegram:-100123" in shown

    shown = call("show", *PAGE).stdout
    for words in ("Mon-Fri 08:00-12:00 13:00-17:30; Sat 08:00-12:00; Sun closed", "2027-02-05..2027-02-11 closed"):
        assert words in shown
    listed = call("list").stdout
    assert "telegram:-100123" in listed
    assert "telegram:-100900" in listed  # of the other page


@pytest.mark.usefixtures("documents")
def test_quiet_hours_are_told_of() -> None:
    """A step in an address' quiet hours is due then and told after."""
    lines("set", *PAGE, "--quiet", "telegram:-100900=21:00-09:00", "--escalate", "0")
    shown = call("test", *PAGE, "--since", "2026-05-15 21:00").stdout
    assert "telegram:-100900 is told Sat 2026-05-16 09:00" in shown
    assert "escalate" not in shown


@pytest.mark.usefixtures("documents")
def test_what_is_not_given_stays_and_what_is_unset_is_the_shops_again() -> None:
    lines("set", *PAGE, "--threshold", "15", "--to", "slack:a", "--to", "slack:b", "--warn", "0")
    lines("set", *PAGE, "--staff", "u1=telegram:1", "--staff", "u1=email:a@shop.example")
    (now,) = lines("set", *PAGE, "--staff", "u2=slack:bo", "--to", "none", "--unset", "warn")
    assert (now["thresholdMinutes"], now["to"], now.get("warnMinutes")) == (15, [], None)
    assert now["staff"] == {"u1": ["telegram:1", "email:a@shop.example"], "u2": ["slack:bo"]}
    (now,) = lines("set", *PAGE, "--staff", "u1=none", "--leave-out-tag", "spam")
    assert (now["staff"], now["leaveOut"]) == ({"u2": ["slack:bo"]}, {"tags": ["spam"]})
    left_out = call("test", *PAGE, "--tag", "Spam")
    assert left_out.stdout.startswith("nobody is told")


@pytest.mark.usefixtures("documents")
def test_what_is_set_for_all_counts_where_a_page_says_nothing() -> None:
    """And what is removed is the settings' again. Both may be repeated."""
    lines("set", "--all", "--threshold", "60")
    lines("set", *PAGE, "--threshold", "10")

    def listed() -> dict[str, tuple[str, float]]:
        rows = lines("list", "--json")
        return {row["page_id"]: (row["policy"], row["threshold_minutes"]) for row in rows}

    assert listed() == {"*": ("set for all", 60), "100": ("own", 10), "200": ("set for all", 60)}
    for said in ("page 100 has no policy of its own\n", "page 100 had no policy of its own\n"):
        assert call("remove", *PAGE).stdout == said
    call("remove", "--all")
    assert listed() == {"*": ("settings", 30), "100": ("settings", 30), "200": ("settings", 30)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", *PAGE), "nothing was given to set"),
        (("set", "--threshold", "5"), "write --page ID for one page, or --all"),
        (("set", *PAGE, "--all", "--threshold", "5"), "write --page ID for one page, or --all"),
        (("set", *PAGE, "--threshold", "0"), "thresholdMinutes: "),
        (("set", *PAGE, "--threshold", "nan"), "thresholdMinutes: "),
        (("set", *PAGE, "--hours", "8h-17h"), "hours: "),
        (("set", *PAGE, "--holiday", "30/4"), "'30/4' is no closed day: write 2027-02-05..2027-02-11 Tet"),
        (("set", *PAGE, "--timezone", "Hanoi"), "timezone: is no time zone"),
        (("set", *PAGE, "--to", "0901234567"), "'0901234567' is no address: write telegram:"),
        (("set", *PAGE, "--staff", "u1"), "--staff u1: write USER_ID=ADDRESS"),
        (("set", *PAGE, "--quiet", "telegram:1=later"), "quietHours: "),
        (("set", *PAGE, "--unset", "hour"), "--unset hour: there are threshold, "),
        (("set", *PAGE, "--to", "slack:a", "--unset", "to"), "exclude each other"),
        (("test", *PAGE, "--since", "Tet"), "--since: 'Tet' is no time: write "),
        (("show",), "write --page ID for one page, or --all"),
    ],
    ids=lambda given: " ".join(given[1:]) if isinstance(given, tuple) else "",
)
@pytest.mark.usefixtures("shop")
def test_a_wrong_call_says_what_to_write_and_asks_no_server(arguments: tuple[str, ...], said: str) -> None:
    done = call(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_what_a_person_should_know_is_said(documents: MongoClient[dict[str, Any]], database_name: str) -> None:
    """A page nobody knows, one that was broken by hand, and one whose alerts reach nobody."""
    assert "no page 101 is known yet" in call("set", "--page", "101", "--threshold", "5").stderr
    assert "nobody is told but in the app" in call("set", *PAGE, "--to", "none").stderr

    change = {"$set": {"hours": "8h", "steps": []}}
    documents[database_name]["reply_policies"].update_one({"pageId": "101"}, change)
    (broken,) = (row for row in lines("list", "--json") if row["page_id"] == "101")
    assert (broken["policy"], broken["threshold_minutes"]) == ("does not count", 30)
    assert "hours: " in broken["fault"]
    still = call("set", "--page", "101", "--threshold", "6")
    assert still.exit_code == 2
    assert "nothing was changed: hours: " in still.stderr
    mended = call("set", "--page", "101", "--unset", "hours")
    assert mended.exit_code == 0
    assert "steps of its own" in mended.stderr


def test_the_commands_as_a_person_calls_them(servers: Servers, database_name: str) -> None:
    """From a shell: what is set by one process is there for the next."""
    env = environment(servers, database_name, **SHOP)
    done = run([*COMMAND, "policy", "set", *PAGE, "--threshold", "15", "--hours", HOURS], env)
    assert (done.returncode, json.loads(done.stdout)["hours"]) == (0, HOURS)
    shown = run([*COMMAND, "policy", "test", *PAGE, "--since", "2026-05-15 17:20"], env).stdout
    assert "Sat 2026-05-16 08:05" in shown


def test_whoever_needs_an_address_is_named(documents: MongoClient[dict[str, Any]], database_name: str) -> None:
    """`show` lists the page's staff with the ids that --staff takes."""
    staff = documents[database_name]["staff"]
    staff.insert_many(
        {"userId": user, "pageId": "100", "name": name}
        for user, name in (("u1", "An Invented"), ("u2", "Binh Invented"))
    )
    lines("set", *PAGE, "--staff", "u1=telegram:55")
    shown = call("show", *PAGE).stdout
    assert "u1 An Invented: telegram:55" in shown
    assert "u2 Binh Invented: no address" in shown
