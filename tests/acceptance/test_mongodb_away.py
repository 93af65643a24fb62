"""MongoDB goes away under a running worker, and with it all that would be told from: it is told all the same."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from scripts._services import start_mongod
from tests.acceptance.processes import UNSCHEDULED, WORKER, ended, environment, running, until
from tests.conftest import CACHE, Servers
from tests.simulators.channels import TelegramServer, in_thread


@pytest.fixture
def telegram() -> Iterator[TelegramServer]:
    with in_thread(TelegramServer()) as server:
        yield server


@pytest.mark.parametrize("how", ["killed", "hangs"])
def test_operators_hear_that_mongodb_is_away_and_that_it_is_back(
    servers: Servers, telegram: TelegramServer, tmp_path: Path, how: str
) -> None:
    """Once each; the worker lives through it, and its end is clean."""
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    first = start_mongod(tmp_path / "mongod", CACHE, environ={})
    env = {
        **environment(Servers(servers.redis_url, first.url), "shop"),
        **UNSCHEDULED,
        "SCHEDULE_CHECK_HEALTH": "@every 1s",
        "MONITOR_HEALTH_FAILURES": "1",
        "ALERT_TELEGRAM_TOKEN": telegram.token,
        "ALERT_TELEGRAM_BASE_URL": telegram.url,
        "ALERT_OPERATIONS_TO": "telegram:42",
        "ALERT_LANGUAGE": "en",
    }

    def told() -> list[str]:
        return [message["shown"].splitlines()[0] for message in telegram.messages]

    port = int(first.url.rpartition(":")[2].partition("/")[0])
    try:
        with running(WORKER, env, tmp_path / "log") as worker:
            until(lambda: '"worker started successfully"' in (tmp_path / "log").read_text(), "the worker starts")
            if how == "killed":
                first.stop()
            else:
                assert first.pid is not None
                os.kill(first.pid, signal.SIGSTOP)
            until(lambda: len(told()) == 1, "it is told")
            assert told()[0].startswith("🚨 MongoDB does not work")
            if how == "killed":
                first = start_mongod(tmp_path / "mongod", CACHE, port=port, environ={})
            else:
                assert first.pid is not None
                os.kill(first.pid, signal.SIGCONT)
            until(lambda: len(told()) == 2, "its return is told")
            assert "MongoDB works again" in told()[1]
            assert ended(worker, signal.SIGTERM) == 0
            assert len(told()) == 2
    finally:
        first.stop()
    assert "Traceback" not in (tmp_path / "log").read_text()
