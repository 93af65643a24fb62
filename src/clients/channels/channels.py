"""All channels as one: by the name in the address, each with its own pace, so that none waits for another."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from ...errors import Permanent, ServiceError
from ...rules.recipients import Recipient
from ...rules.vault import Vault
from ...settings.channels import ChannelSettings
from .calls import Caller
from .longtail import LongTail
from .mail import Mail
from .note import Channel, Note
from .slack import Slack
from .telegram import Telegram
from .zalo import Zalo
from .zalo_tokens import TokenShelf, ZaloTokens


class Channels:
    """Sends notes. Made and closed by `open_channels`. `telegram` is there to be asked for its chats."""

    def __init__(self, channels: Mapping[str, Channel], telegram: Telegram) -> None:
        self._channels = channels
        self.telegram = telegram

    def configured(self, to: Recipient) -> str | None:
        """None where `to` can be reached by what is set; else a sentence that names the variable to set."""
        channel = self._channels.get(to.channel)
        return channel.missing(to.target) if channel else f"{to.channel} is no channel that is sent to from here"

    async def send(self, to: Recipient, note: Note) -> str | None:
        """Send `note` once, and return the provider's id of the message where it gives one.

        Raises Transient where a later try may succeed (with the provider's own hint where it gave one), its kind Unsure
        where the message may have arrived all the same, and Permanent where no try ever will; the words say what to do.
        """
        if lacking := self.configured(to):
            raise Permanent(f"{to}: {lacking}")
        return await self._channels[to.channel].send(to.target, note)

    async def check(self) -> list[tuple[str, bool, str]]:
        """(channel, is it well, a sentence) of each that is set up, all asked at once; nothing is sent."""

        async def asked(name: str, channel: Channel) -> tuple[str, bool, str] | None:
            try:
                found = await channel.check()
            except ServiceError as e:
                found = (False, str(e))
            return None if found is None else (name, *found)

        found = await asyncio.gather(*(asked(name, channel) for name, channel in self._channels.items()))
        return [finding for finding in found if finding is not None]


@asynccontextmanager
async def open_channels(
    settings: ChannelSettings,
    *,
    shelf: TokenShelf | None = None,
    vault: Vault | None = None,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[Channels]:
    """The channels that `settings` give access to. Nothing is connected before the first message.

    `shelf` keeps Zalo's tokens, sealed by `vault`; without one Zalo is not used. Certificates are checked against
    certifi's authorities, or those of SSL_CERT_FILE or SSL_CERT_DIR where set.
    """
    # two: httpcore writes into its own that it speaks HTTP, which mail servers may refuse
    for_http, for_mail = (functools.cache(httpx.create_ssl_context) for _ in range(2))
    async with AsyncExitStack() as stack:

        def caller(name: str) -> Caller:
            made = Caller(name, settings.channel_timeout_seconds, for_http)
            stack.push_async_callback(made.aclose)
            return made

        for_zalo = caller("Zalo")
        tokens = ZaloTokens(settings, for_zalo, shelf, vault or Vault(), now) if shelf is not None else None
        zalo = Zalo(settings, for_zalo, tokens)
        stack.push_async_callback(zalo.aclose)
        telegram = Telegram(settings, caller("Telegram"))
        yield Channels(
            {
                "telegram": telegram,
                "slack": Slack(settings, caller("Slack")),
                "email": Mail(settings, for_mail),
                "zalo": zalo,
                "apprise": LongTail(settings),
            },
            telegram,
        )
