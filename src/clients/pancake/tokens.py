"""Which page token to use, and where another comes from when Pancake refuses it.

A page token has no expiry but dies when somebody makes a new one, and minting one kills the old: workers that each
minted their own once made nine calls of ten fail. So a refused token is looked up again first, minted only where the
settings allow it, by one process at a time, and stored before anybody uses it.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pydantic import SecretStr

from ...errors import TokenRejected


class TokenStore(Protocol):
    """Where page tokens are kept for all processes."""

    async def token(self, page_id: str) -> str | None:
        """The page's stored token."""
        ...

    async def save_token(self, page_id: str, token: str) -> None:
        """Replace the page's stored token."""
        ...


class PageTokens:
    """The page tokens of one process: what works is remembered, what was refused is not tried again.

    `listed` asks list-pages for a page's token, `mint` makes a new one (None where not allowed), `lock` gives the
    page's lock across processes.
    """

    def __init__(
        self,
        settings: Mapping[str, SecretStr],
        store: TokenStore,
        *,
        listed: Callable[[str], Awaitable[str | None]] | None,
        mint: Callable[[str], Awaitable[str]] | None,
        lock: Callable[[str], AbstractAsyncContextManager[object]],
    ) -> None:
        self._settings = settings
        self._store = store
        self._listed = listed
        self._mint = mint
        self._lock = lock
        self._working: dict[str, str] = {}
        self._refused: dict[str, set[str]] = {}

    async def current(self, page_id: str) -> str:
        """A token for the page. Raises TokenRejected, with what to do, when there is none."""
        return self._working.get(page_id) or await self._find(page_id)

    async def after_refusal(self, page_id: str, token: str) -> str:
        """Another token than the refused one: stored, listed or minted. Raises TokenRejected when there is none."""
        self._refused.setdefault(page_id, set()).add(token)
        if self._working.get(page_id) == token:
            del self._working[page_id]
        return await self.current(page_id)

    async def _find(self, page_id: str) -> str:
        token = await self._known(page_id)
        if token is None and self._listed is not None:
            token = self._fresh(page_id, await self._listed(page_id))
            if token is not None:
                await self._store.save_token(page_id, token)
        if token is None and self._mint is not None:
            async with self._lock(page_id):
                token = await self._known(page_id)  # another process may have minted while we waited
                if token is None:
                    token = await self._mint(page_id)
                    await self._store.save_token(page_id, token)
        if token is None:
            raise TokenRejected(self._advice(page_id))
        self._working[page_id] = token
        return token

    async def _known(self, page_id: str) -> str | None:
        secret = self._settings.get(page_id)
        given = self._fresh(page_id, secret.get_secret_value() if secret else None)
        return given or self._fresh(page_id, await self._store.token(page_id))

    def _fresh(self, page_id: str, token: str | None) -> str | None:
        return token if token and token not in self._refused.get(page_id, ()) else None

    def _advice(self, page_id: str) -> str:
        state = "was refused" if self._refused.get(page_id) else "is not known"
        # a token that is put back later must be tried again, in a process that lives for months
        self._refused.pop(page_id, None)
        return (
            f"page {page_id}: its token {state}; make one in Pancake under Settings -> Tools and set it in "
            "PANCAKE_PAGE_TOKENS, or allow PANCAKE_ALLOW_TOKEN_MINTING with an administrator's PANCAKE_ACCESS_TOKEN"
        )
