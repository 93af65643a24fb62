"""The tokens of a Zalo Official Account: kept where all workers see them, renewed once, written down at once.

An access token lives 25 hours. A refresh token is good for one renewal and three months, and the renewal answers with
the next one: whoever loses that has to ask the account's administrator for a new grant (developers.zalo.me, Official
Account, "Access Token"). So one worker renews at a time, and keeps what came before anything else happens.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from loguru import logger
from pydantic import SecretStr

from ...errors import Permanent
from ...rules.vault import Vault
from ...settings.channels import ChannelSettings
from .calls import Caller

EARLY_S = 600.0  # renewed so long before it runs out
LIFETIME_S = 90_000.0  # where the answer does not say
GRANT = (
    "have the account's administrator grant access again (oauth.zaloapp.com/v4/oa/permission) and set the new "
    "ALERT_ZALO_REFRESH_TOKEN"
)


class TokenShelf(Protocol):
    """Where tokens are kept. What is put on it is sealed already, where there is a key."""

    async def load(self, name: str) -> Mapping[str, Any] | None:
        """What was saved last under `name`."""

    async def save(self, name: str, fields: Mapping[str, Any]) -> None:
        """Keep `fields`; it is safe, or an error was raised, when this returns."""

    def lock(self, name: str) -> AbstractAsyncContextManager[object]:
        """Held by one worker at a time; raises Transient where another one takes too long."""


@dataclass(frozen=True, slots=True)
class _Tokens:
    access: str
    refresh: str
    until: float  # Unix seconds
    seed: str  # which first token of the settings they descend from

    def __repr__(self) -> str:
        return "<_Tokens>"


class ZaloTokens:
    """The access token to use now."""

    def __init__(
        self, settings: ChannelSettings, caller: Caller, shelf: TokenShelf, vault: Vault, now: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._caller = caller
        self._shelf = shelf
        self._vault = vault
        self._now = now
        self._name = f"zalo:{settings.zalo_app_id}"
        self._known: _Tokens | None = None
        self._unsaved: _Tokens | None = None  # what the shelf did not take yet: nobody else has it
        self._renewing: set[asyncio.Task[_Tokens]] = set()

    async def current(self, refused: str = "") -> str:
        """An access token other than `refused`. Raises Transient, and Permanent where a new grant is needed."""
        if self._is_usable(self._known, refused):
            return self._known.access
        # a caller that is cut short must not take with it what only this answer holds
        task = asyncio.create_task(self._renewed(refused))
        self._renewing.add(task)
        task.add_done_callback(self._renewing.discard)
        self._known = await asyncio.shield(task)
        return self._known.access

    async def aclose(self) -> None:
        """Wait for a renewal that is under way, and try once more to keep what could not be kept."""
        await asyncio.gather(*self._renewing, return_exceptions=True)
        try:
            await self._save()
        except Exception as e:  # noqa: BLE001 - of whatever kind the shelf's errors are, the grant goes with the process
            logger.error("zalo tokens are lost: " + GRANT, error=type(e).__name__)

    def _is_usable(self, tokens: _Tokens | None, refused: str) -> TypeGuard[_Tokens]:
        return (
            tokens is not None
            and tokens.access != refused
            and tokens.seed == self._seed
            and tokens.until - EARLY_S > self._now()
        )

    @property
    def _first(self) -> str:
        return _plain(self._settings.zalo_refresh_token)

    @property
    def _seed(self) -> str:
        return hashlib.sha256(self._first.encode()).hexdigest()[:16]

    async def _renewed(self, refused: str) -> _Tokens:
        async with self._shelf.lock(self._name):
            await self._save()
            stored = self._opened(await self._shelf.load(self._name))
            if self._is_usable(stored, refused):
                return stored
            # a token set anew stands for a new grant, whatever is stored
            refresh = stored.refresh if stored is not None and stored.seed == self._seed else self._first
            self._unsaved = tokens = await self._granted(refresh)
            await self._save()
            return tokens

    async def _save(self) -> None:
        if (tokens := self._unsaved) is None:
            return
        await self._shelf.save(
            self._name,
            {
                "accessToken": self._vault.seal(tokens.access),
                "refreshToken": self._vault.seal(tokens.refresh),
                "until": tokens.until,
                "seed": tokens.seed,
            },
        )
        self._unsaved = None

    async def _granted(self, refresh: str) -> _Tokens:
        """developers.zalo.me/docs/official-account/bat-dau/xac-thuc-va-uy-quyen-cho-ung-dung-new"""
        answer = await self._caller.post(
            f"{self._settings.zalo_oauth_url}/v4/oa/access_token",
            form={
                "refresh_token": refresh,
                "app_id": str(self._settings.zalo_app_id),
                "grant_type": "refresh_token",
            },
            headers={"secret_key": _plain(self._settings.zalo_app_secret)},
            is_message=False,
        )
        self._caller.judge(answer, "check ALERT_ZALO_OAUTH_URL")
        found = answer.json()
        access, following = found.get("access_token"), found.get("refresh_token")
        if not (isinstance(access, str) and isinstance(following, str) and access and following):
            code = found.get("error")
            shown = f" (error {code})" if isinstance(code, int) else f" ({answer.status})"
            raise Permanent(f"Zalo: the refresh token was refused{shown}; {GRANT}")
        lifetime = str(found.get("expires_in", ""))
        lifetime_s = float(lifetime) if lifetime.isdecimal() else LIFETIME_S
        return _Tokens(access, following, self._now() + lifetime_s, self._seed)

    def _opened(self, stored: Mapping[str, Any] | None) -> _Tokens | None:
        if stored is None:
            return None
        access, refresh = (self._vault.open(str(stored[name])) for name in ("accessToken", "refreshToken"))
        return _Tokens(access, refresh, float(stored["until"]), str(stored["seed"]))


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
