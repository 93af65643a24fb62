"""What stands in deploy/ is read by the tools it is for, and names only what there is."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from src.rules.vitals import DEAD_S

ROOT = Path(__file__).parents[2]
PROMETHEUS, UNITS = ROOT / "deploy" / "prometheus", sorted((ROOT / "deploy").glob("*.service"))
NAME = re.compile(r"\b(?:folkform_|process_|python_)\w+\b")
PARTS = re.compile(r"_(?:bucket|sum|count)$")
ROW = re.compile(r"\| `(folkform_\w+)` \|([\w, ]*)\|")


def documented() -> dict[str, set[str]]:
    """Each metric of docs/metrics.md with its labels."""
    rows = ROW.findall((ROOT / "docs" / "metrics.md").read_text())
    return {name: {label for label in labels.replace(" ", "").split(",") if label} for name, labels in rows}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
    return found


def questions() -> Iterator[str]:
    """What the dashboard asks Prometheus, with its variables filled in as Grafana does."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed here")
    return path


def run(*command: str) -> str:
    """What the tool says. Fails where it is not content."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_metric_that_is_asked_for_is_documented() -> None:
    """That docs/metrics.md names just what a worker exports is tested against a worker."""
    known = documented()
    asked = {name for text in (*questions(), *(rule["expr"] for rule in rules())) for name in NAME.findall(text)}
    records = {part for rule in rules() if "record" in rule for part in NAME.findall(rule["record"])}
    ours = {name for name in asked if name.startswith("folkform_")}
    assert {name for name in ours if PARTS.sub("", name) not in known and name not in records} == set()
    assert len(ours) > 20


def test_every_documented_metric_is_on_the_dashboard() -> None:
    """What nobody looks at need not be counted."""
    shown = {
        PARTS.sub("", name)
        for text in (*questions(), *(rule["expr"] for rule in rules()))
        for name in NAME.findall(text)
    }
    assert set(documented()) - shown == set()


def test_labels_that_are_asked_for_are_there() -> None:
    known = documented()
    for text in (*questions(), *(rule["expr"] for rule in rules())):
        for name, inside in re.findall(r"\b(folkform_\w+)\{([^}]*)\}", text):
            labels = set(re.findall(r"(\w+)(?==|!=|=~|!~)", re.sub(r'"[^"]*"', '""', inside)))
            assert labels <= known[PARTS.sub("", name)] | {"instance", "le"}, (name, labels)


def test_every_alert_says_how_grave_it_is_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) >= 15
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].rstrip().endswith(".")


def test_the_panels_have_a_place_each_and_ask_the_chosen_prometheus() -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        at = panel["gridPos"]
        squares = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not squares & taken, panel["title"]
        assert all(x < 24 for x, _ in squares)
        taken |= squares
        if panel["type"] != "row":
            assert panel["targets"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_prometheus_accepts_rules_and_configuration() -> None:
    promtool = tool("promtool")
    run(promtool, "check", "rules", str(PROMETHEUS / "rules.yml"))
    run(promtool, "check", "config", str(PROMETHEUS / "prometheus.yml"))


def test_the_rules_fire_when_they_should() -> None:
    run(tool("promtool"), "test", "rules", str(PROMETHEUS / "rules_test.yml"))


def test_prometheus_understands_every_question_of_the_dashboard(tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(questions())]
    (tmp_path / "asked.yml").write_text(json.dumps({"groups": [{"name": "asked", "rules": recorded}]}))
    run(tool("promtool"), "check", "rules", str(tmp_path / "asked.yml"))


@pytest.mark.parametrize("unit", UNITS, ids=[unit.stem for unit in UNITS])
def test_systemd_accepts_the_units(unit: Path, tmp_path: Path) -> None:
    """With a program and a user that are there."""
    analyze = tool("systemd-analyze")
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.M)
    text = re.sub(r"^(User|Group)=.*", r"\1=root", text, flags=re.M)
    (tmp_path / unit.name).write_text(text)
    said = run(analyze, "verify", "--man=no", str(tmp_path / unit.name))
    assert unit.name not in said


def test_the_units_agree_on_what_they_may() -> None:
    """Both are as narrow as each other; who narrows one is told of the other."""
    first, second = ({line for line in unit.read_text().splitlines() if _is_narrowing(line)} for unit in UNITS)
    assert first == second


def _is_narrowing(line: str) -> bool:
    names = ("Protect", "Private", "Restrict", "Capability", "Ambient", "NoNew", "Lock", "MemoryDeny", "SystemCall")
    return line.startswith((*names, "UMask", "RemoveIPC", "LimitCORE", "User=", "Group=", "Environment"))


def test_the_worker_is_watched_as_long_as_it_may_stand_still() -> None:

    assert f"WatchdogSec={DEAD_S:.0f}\n" in (ROOT / "deploy" / "folkform-worker.service").read_text()


def test_the_health_check_of_the_container_asks_whether_it_lives() -> None:
    """Not whether it is ready: no restart brings Redis back."""
    text = (ROOT / "Dockerfile").read_text()
    worker = text[text.index("AS worker") :]
    assert "/health/live" in worker
    assert "/health/ready" not in worker
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert "test" not in services["worker"]["healthcheck"]
