"""What two real workers write: one form from the first line to the last, each into files of its own, no secret."""

import json
import signal
from pathlib import Path

from tests.acceptance.processes import UNSCHEDULED, WORKER, ended, environment, running, until
from tests.conftest import Servers

SECRET = "s3cr3t-0f-n0body"


def test_all_lines_are_ours_and_each_worker_has_its_file(servers: Servers, database_name: str, tmp_path: Path) -> None:
    """A collector can read the stream line by line; LOG_DIR holds the same lines, apart for each process."""
    logs, outs = tmp_path / "logs", [tmp_path / "first", tmp_path / "second"]
    env = {
        **environment(servers, database_name, LOG_DIR=str(logs), LOG_FORMAT="json", PANCAKE_ACCESS_TOKEN=SECRET),
        **UNSCHEDULED,
        "PANCAKE_BASE_URL": f"http://127.0.0.1:9/v1?access_token={SECRET}",  # stands in the line of the start
    }
    with running(WORKER, env, outs[0]) as first:
        until(lambda: "worker started successfully" in outs[0].read_text(), "the first worker has started")
        with running(WORKER, env, outs[1]) as second:
            until(lambda: "worker started successfully" in outs[1].read_text(), "the second worker has started")
            assert ended(second, signal.SIGTERM) == 0
        assert ended(first, signal.SIGTERM) == 0
    for out, file in zip(outs, (logs / "worker.log", logs / "worker.2.log"), strict=True):
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert lines[0]["message"] == "initializing worker"
        assert lines[-1]["message"] == "worker shutdown completed"
        assert all({"timestamp", "level", "message", "service", "environment"} <= line.keys() for line in lines)
        assert out.read_text() == file.read_text()
        assert "access_token=***" in out.read_text()
        assert SECRET not in out.read_text()
