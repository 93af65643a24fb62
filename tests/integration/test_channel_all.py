"""All channels side by side: none waits for another, and no secret of any gets out."""

import asyncio
import io
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest
from loguru import logger
from pydantic import SecretStr

from src.clients.channels import Note, open_channels
from src.errors import ServiceError
from src.log import configure_logging
from src.rules.recipients import Recipient, recipient_of
from src.settings import ChannelSettings
from tests.integration.test_channel_zalo import Shelf
from tests.simulators.channels import Fault, Provider, SlackServer, SmtpServer, TelegramServer, ZaloServer, running

pytestmark = pytest.mark.anyio
SECRET = "s3cret0fnobody"
TOKEN = "123456:" + SECRET * 3
NOTE = Note("n1", "Khách chờ 31 phút", "Phụ trách: An")


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class House:
    """One server of each kind, and settings that lead to them."""

    def __init__(self) -> None:
        self.telegram, self.slack, self.mail = TelegramServer(TOKEN), SlackServer(), SmtpServer()
        self.zalo = ZaloServer(secret=f"app-{SECRET}", refresh=f"refresh-{SECRET}")

    def settings(self, timeout_s: float) -> ChannelSettings:
        return ChannelSettings(
            channel_timeout_seconds=timeout_s,
            telegram_token=SecretStr(TOKEN),
            telegram_base_url=self.telegram.url,
            slack_webhooks={"sales": SecretStr(self.slack.hook(SECRET))},
            smtp_host="127.0.0.1",
            smtp_port=self.mail.port,
            smtp_tls="none",
            smtp_user="shop",
            smtp_password=SecretStr(SECRET),
            smtp_from="alerts@shop.test",
            zalo_app_id=self.zalo.app_id,
            zalo_app_secret=SecretStr(self.zalo.secret),
            zalo_refresh_token=SecretStr(f"refresh-{SECRET}"),
            zalo_base_url=self.zalo.url,
            zalo_oauth_url=self.zalo.url,
        )

    def secrets(self) -> list[tuple[Provider, str]]:
        """Each HTTP provider with what it knows of ours."""
        return [(self.telegram, TOKEN), (self.slack, self.slack.hook(SECRET)), (self.zalo, self.zalo.secret)]


def faults_of(own: str) -> list[Fault]:
    """Answers that repeat what they should not, and none at all."""
    words = orjson.dumps({"ok": False, "error": -299, "description": f"no {own}!", "message": own})
    plain = [Fault(status, own.encode()) for status in (200, 400, 500)]
    moved = Fault(302, headers={"Location": f"https://{SECRET}.test"})
    return [Fault(400, words), *plain, moved, Fault(silence="cut"), Fault(silence="hang")]


ADDRESSES = [recipient_of(text) for text in ("telegram:42", "slack:sales", "email:boss@shop.test", "zalo:1234567890")]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    async with AsyncExitStack() as stack:
        for server in (house.telegram, house.slack, house.mail, house.zalo):
            await stack.enter_async_context(running(server))
        yield house


@pytest.mark.parametrize("slow", ADDRESSES, ids=str)
async def test_a_channel_that_hangs_delays_no_other(house: House, slow: Recipient) -> None:
    """While one waits in vain, the others are through; what that one's own deadline does is tested with it."""
    house.mail.user, house.mail.password = "shop", SECRET
    server = {"telegram": house.telegram, "slack": house.slack, "zalo": house.zalo}.get(slow.channel)
    async with open_channels(house.settings(60), shelf=Shelf()) as channels:
        await channels.check()  # which renews Zalo's tokens
        if server is not None:
            server.fail(Fault(silence="hang"))
        else:
            house.mail.faults["connect"] = "hang"
        (server or house.mail).called.clear()
        hanging = asyncio.create_task(channels.send(slow, NOTE))
        await (server or house.mail).called.wait()
        await asyncio.gather(*(channels.send(to, NOTE) for to in ADDRESSES if to != slow))
        assert not hanging.done()
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)


async def test_no_secret_gets_out(house: House) -> None:
    """Not by an error, its traceback, its causes, `check`, or a line of the log, whatever the servers answer."""
    out = io.StringIO()
    configure_logging("TRACE", "json", stream=out)
    logging.getLogger("httpx").setLevel(logging.DEBUG)
    logging.getLogger().setLevel(logging.DEBUG)
    told: list[str] = []
    nowhere = house.settings(0.3).model_copy(
        update={
            "telegram_base_url": "http://127.0.0.1:1",
            "slack_webhooks": {"sales": SecretStr(f"http://127.0.0.1:1/{SECRET}")},
            "zalo_oauth_url": "http://127.0.0.1:1",
        }
    )
    try:
        for settings, number in [*((house.settings(0.3), number) for number in range(7)), (nowhere, 0)]:
            for server, own in house.secrets():
                server.faults.clear()
                server.fail(*[faults_of(own)[number]] * 4)
            async with open_channels(settings, shelf=Shelf()) as channels:
                for result in await asyncio.gather(
                    *(channels.send(to, NOTE) for to in ADDRESSES), return_exceptions=True
                ):
                    assert isinstance(result, ServiceError)
                    told += [str(result), repr(result), repr(vars(result)), "".join(traceback.format_exception(result))]
                    logger.opt(exception=result).error("job failed", error=str(result))
                told += [repr(finding) for finding in await channels.check()]
            told.append(repr(settings))
    finally:
        logger.remove()
        logging.basicConfig(handlers=[], level=logging.WARNING, force=True)
    everything = "\n".join([*told, out.getvalue()])
    assert "job failed" in everything
    for secret in (SECRET, TOKEN):
        assert [line for line in everything.splitlines() if secret in line] == []
