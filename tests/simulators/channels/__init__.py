"""Local servers that speak as the providers of alert channels do: Telegram, Slack, Zalo, any HTTP service, SMTP.

Each keeps what it received, and fails as it is told: refuse, be slow, hang, cut the connection.

    async with running(TelegramServer()) as telegram:      # in the caller's loop
        settings = ChannelSettings(telegram_token=telegram.token, telegram_base_url=telegram.url)

    with in_thread(SlackServer()) as slack: ...            # for commands that run as processes
"""

from tests.simulators.channels.provider import Fault, Provider, Service, in_thread, running
from tests.simulators.channels.providers import SlackServer, TelegramServer, ZaloServer
from tests.simulators.channels.smtp import SmtpServer

__all__ = [
    "Fault",
    "Provider",
    "Service",
    "SlackServer",
    "SmtpServer",
    "TelegramServer",
    "ZaloServer",
    "in_thread",
    "running",
]
