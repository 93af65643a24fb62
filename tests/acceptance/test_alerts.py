"""A worker as operators run it: a customer of the simulated Pancake waits, and people hear of it on every channel."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from redis import Redis

from tests.acceptance.processes import UNSCHEDULED, WORKER, environment, of_simulator, running, until
from tests.conftest import Servers
from tests.simulators.channels import Fault, SlackServer, SmtpServer, TelegramServer, in_thread
from tests.simulators.pancake import SimulatorProcess

PLANTED = "planted-" + "s3cret" * 4


@dataclass
class Street:
    """Everything around the worker."""

    telegram: TelegramServer
    slack: SlackServer
    mail: SmtpServer
    simulator: SimulatorProcess
    env: dict[str, str]
    log: Path


@pytest.fixture
def street(servers: Servers, database_name: str, tmp_path: Path) -> Iterator[Street]:
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    with ExitStack() as stack:
        telegram, slack = (
            stack.enter_context(in_thread(TelegramServer())),
            stack.enter_context(in_thread(SlackServer())),
        )
        mail = stack.enter_context(in_thread(SmtpServer()))
        simulator = stack.enter_context(
            SimulatorProcess(
                "--pages", "1", "--customers", "60", "--days", "2", "--live", "0", "--switches", '{"rate_limit": 0}'
            )
        )
        env = environment(
            servers,
            database_name,
            **of_simulator(simulator),
            **{
                **UNSCHEDULED,
                "SCHEDULE_SYNC_PAGES": "*/30 * * * *",
                "SCHEDULE_SYNC_CONVERSATIONS_INCREMENTAL": "@every 1s",
                "SCHEDULE_MONITOR_CONVERSATIONS": "@every 1s",
            },
            ALERT_THRESHOLD_MINUTES="0.02",
            ALERT_WARN_MINUTES="0",
            ALERT_ESCALATE_MINUTES="0",
            ALERT_TO="telegram:42,slack:sales,email:boss@shop.example",
            ALERT_TELEGRAM_TOKEN=telegram.token,
            ALERT_TELEGRAM_BASE_URL=telegram.url,
            ALERT_SLACK_WEBHOOKS=f"sales={slack.hook(PLANTED)}",
            ALERT_SMTP_HOST="127.0.0.1",
            ALERT_SMTP_PORT=str(mail.port),
            ALERT_SMTP_TLS="none",
            ALERT_SMTP_FROM="alerts@shop.example",
            ALERT_SMTP_PASSWORD=PLANTED,
            PANCAKE_WEBHOOK_SECRET=PLANTED,
            LOG_LEVEL="DEBUG",
        )
        yield Street(telegram, slack, mail, simulator, env, tmp_path / "worker.log")


def test_a_customer_who_waits_is_told_of_on_every_channel(street: Street, servers: Servers) -> None:
    """Telegram refuses at first and Slack hangs: mail comes all the same, and they follow. No secret is in any line."""
    street.telegram.fail(Fault(status=502))
    street.slack.fail(Fault(silence="hang"))
    street.env["ALERT_CHANNEL_TIMEOUT_SECONDS"] = "3"
    with (
        MongoClient[dict[str, Any]](servers.mongodb_uri) as client,
        running(WORKER, street.env, street.log),
    ):
        database = client[street.env["MONGODB_DATABASE"]]
        until(lambda: bool(street.mail.received), "a mail has come")
        waiting = set(database["conversations"].distinct("conversationId", {"awaitingReplySince": {"$gt": 0}}))
        until(lambda: bool(street.telegram.messages), "Telegram has it after all")
        until(lambda: bool(street.slack.messages), "Slack has it after all")
        told = database["notifications"]
        until(lambda: set(told.distinct("conversationId")) == waiting, "the app shows each of them")
        assert told.count_documents({"step": "breach"}) == len(waiting) == database["alerts"].count_documents({})
        written = str(
            [list(database[name].find()) for name in ("alerts", "alert_items", "alert_messages", "dead_letters")]
        )
    log = street.log.read_text()
    assert "Traceback" not in log
    for secret in (PLANTED, street.telegram.token, street.simulator.user_token):
        assert secret not in log
        assert secret not in written
