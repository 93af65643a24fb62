"""`agents`, `health`, `report` as a person and a script use them.

The commands run in this process, which is much faster; one test calls them as a person does.
"""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from typer.testing import CliRunner

from src.cli import app
from src.log import configure_logging
from tests.acceptance.processes import COMMAND, environment, run
from tests.conftest import Servers

#: Nine in the morning in Vietnam.
NINE = int(datetime(2026, 5, 14, 2, tzinfo=UTC).timestamp())


@pytest.fixture
def database(
    servers: Servers, settings: object, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database[dict[str, Any]]]:
    """The servers in the environment, and the database behind the commands."""
    ours = {"REDIS_URL": servers.redis_url, "MONGODB_URI": servers.mongodb_uri, "MONGODB_DATABASE": database_name}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    with MongoClient[dict[str, Any]](servers.mongodb_uri, tz_aware=True) as client:
        yield client[database_name]
    configure_logging("INFO", "text")  # a command has pointed the log at its own output


def called(*arguments: str, code: int = 0) -> str:
    """What a command prints: to stdout where it goes well, else to stderr as well."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def records(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in called(*arguments).splitlines()]


def test_an_agent_checks_in_is_seen_missed_and_removed(database: Database[dict[str, Any]]) -> None:
    """All that the documents ask of it, from a script of its machine."""
    assert records("agents", "check-in", "till-7", "--info", "os=linux", "--info", "cmd=a=b", "--metric", "cpu=4") == [
        {"agent": "till-7", "online": True, "came_back": False}
    ]
    (shown,) = records("agents", "list", "--json")
    assert (shown["state"], shown["system_info"], shown["metrics"]) == (
        "online",
        {"os": "linux", "cmd": "a=b"},
        {"cpu": "4"},
    )
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    database["agents"].update_one({"agentId": "till-7"}, {"$set": {"lastCheckInAt": long_ago}})
    assert json.loads(called("run", "check_agents"))["missing"] == 1
    heads, line = called("agents", "list").splitlines()
    assert heads.split()[:3] == ["agent", "kind", "state"]
    assert line.split()[:5] == ["till-7", "agent", "OFFLINE", "2h", "ago"]
    assert [alert["agent"] for alert in records("alerts", "list", "--json")] == ["till-7"]
    (line,) = called("alerts", "list", "--machine").splitlines()[1:]
    assert "Agent till-7 has been gone for 2 h 0 min" in line  # as it was told
    assert len(called("alerts", "list", "--customers").splitlines()) == 1
    assert "name one of them" in called("alerts", "list", "--customers", "--machine", code=2)
    assert records("agents", "check-in", "till-7")[0]["came_back"] is True
    assert records("agents", "remove", "till-7") == [{"agent": "till-7", "removed": True}]
    assert called("agents", "list", "--json") == ""


def test_a_wrong_call_does_nothing(database: Database[dict[str, Any]]) -> None:
    """Exit code 2, and a sentence that says how to call."""
    assert "write name=value" in called("agents", "check-in", "till-7", "--info", "linux", code=2)
    assert "characters" in called("agents", "check-in", " ", code=2)
    assert "agents list" in called("agents", "remove", "till-7", code=2)
    assert "not both" in called("report", "response-times", "--day", "2026-05-14", "--since", "2026-05-14", code=2)
    assert "is no day" in called("report", "response-times", "--day", "yesterday", code=2)
    assert "lies before" in called("report", "response-times", "--since", "2026-05-14", "--until", "2026-05-13", code=2)
    assert "--since" in called("report", "response-times", "--until", "2026-05-13", code=2)
    assert database["agents"].count_documents({}) == 0


def test_health_shows_what_is_down(database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so with its exit code, for scripts."""
    assert "run check_health" in called("health", code=1)
    monkeypatch.setenv("MONITOR_HEALTH_URLS", "shop=http://127.0.0.1:1/?token=s3cret")
    monkeypatch.setenv("MONITOR_HEALTH_FAILURES", "2")
    assert json.loads(called("run", "check_health"))["down"] == 0
    well = {line.split()[0]: line for line in called("health").splitlines()}
    assert well["redis"].split()[1] == well["mongodb"].split()[1] == "up"
    assert "failing (1 in a row)" in well["url:shop"]
    assert json.loads(called("run", "check_health"))["down"] == 1
    shown = called("health", code=1)
    assert "DOWN" in shown
    assert "it cannot be reached" in shown
    assert "s3cret" not in shown
    stale = {"$set": {"checkedAt": datetime.now(UTC).timestamp() - 3_000}}
    database["health_checks"].update_many({}, stale)
    assert "is a worker running?" in called("health", code=1)


@pytest.fixture
def talk(database: Database[dict[str, Any]]) -> None:
    """Two days of a page: Lan answers after 5 minutes and 15, somebody from the app after 2 hours, one waits."""
    database["pages"].insert_one({"pageId": "100", "name": "=Shop", "isActive": True, "isSync": True})
    database["staff"].insert_one({"userId": "lan", "pageId": "100", "name": "Lan"})

    def said(conversation: str, number: int, minute: int, sender: str, staff: str | None = None) -> dict[str, Any]:
        at = NINE + minute * 60
        return {
            "messageId": f"{conversation}_{number}",
            "conversationId": conversation,
            "pageId": "100",
            "insertedAt": at,
            "stamp": at * 1_000_000,
            "sender": sender,
            "staffId": staff,
            "isRemoved": False,
        }

    day = 24 * 60
    database["messages"].insert_many(
        [
            said("a", 1, 0, "customer"),
            said("a", 2, 5, "agent", "lan"),
            said("b", 1, 0, "customer"),
            said("b", 2, 15, "agent", "lan"),
            said("c", 1, day, "customer"),
            said("c", 2, day + 120, "agent"),
            said("d", 1, day, "customer"),
        ]
    )


@pytest.mark.usefixtures("talk")
def test_response_times_by_day_page_and_staff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table for people, JSON and CSV for programs; business time where it is asked for."""
    table = [line.split() for line in called("report", "response-times", "--day", "2026-05-14").splitlines()]
    assert table == [
        ["day", "page", "staff", "answered", "unanswered", "median", "p90", "longest"],
        ["2026-05-14", "=Shop", "all", "2", "0", "10m", "15m", "15m"],
        ["2026-05-14", "=Shop", "Lan", "2", "10m", "15m", "15m"],
    ]
    monkeypatch.setenv("ALERT_HOURS", "daily 09:10-17:00")
    day = ("report", "response-times", "--page", "100", "--day", "2026-05-14", "--business")
    assert called(*day).splitlines()[2].split()[-4:] == ["2m", "30s", "5m", "5m"]
    both = records("report", "response-times", "--since", "2026-05-14", "--until", "2026-05-15", "--json")
    shown = [(row["day"], row["staff"], row["answered"], row["unanswered"], row["longest_s"]) for row in both]
    assert shown == [
        ("2026-05-14", "all", 2, 0, 900.0),
        ("2026-05-14", "Lan", 2, None, 900.0),
        ("2026-05-15", "all", 1, 1, 7200.0),
        ("2026-05-15", "(not named)", 1, None, 7200.0),
        (None, "all", 3, 1, 7200.0),
        (None, "Lan", 2, None, 900.0),
        (None, "(not named)", 1, None, 7200.0),
    ]
    rows = list(csv.DictReader(io.StringIO(called("report", "response-times", "--day", "2026-05-14", "--csv"))))
    assert [(row["page"], row["staff"], row["median_s"]) for row in rows] == [
        ("'=Shop", "all", "600.0"),
        ("'=Shop", "Lan", "600.0"),
    ]


def test_as_a_person_calls_it(servers: Servers, settings: object, database_name: str) -> None:
    """A real process; and where no server is, one line and no traceback."""
    done = run([*COMMAND, "agents", "check-in", "till-7"], environment(servers, database_name))
    assert (done.returncode, json.loads(done.stdout)["online"]) == (0, True), done.stderr
    nowhere = Servers("redis://127.0.0.1:1", servers.mongodb_uri)
    done = run([*COMMAND, "report", "response-times"], environment(nowhere, database_name))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Redis" in done.stderr
