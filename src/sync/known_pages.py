"""Which pages are ours, as far as was last heard: so that an event of a stranger's page costs no look into MongoDB."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from loguru import logger

from ..rules.pancake_event import PageNames

FRESH_S = 30.0


class KnownPages:
    """The ids `load` gives, read again when they are older than `FRESH_S`. Safe for many tasks at once.

    `load` may raise; the last list then stays in use, and `FRESH_S` later it is asked again.
    """

    def __init__(
        self, load: Callable[[], Awaitable[Sequence[str]]], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._load = load
        self._monotonic = monotonic
        self._names: PageNames | None = None
        self._asked_at = -FRESH_S
        self._asking: asyncio.Task[None] | None = None

    async def names(self) -> PageNames:
        """The pages. Waits for the first list, and raises what `load` raises while there is none."""
        if self._names is None:
            await self.refresh()
        elif self._is_due():
            self.refresh_soon()
        if self._names is None:
            raise RuntimeError("a list of pages was loaded and is not there")
        return self._names

    def last(self) -> PageNames | None:
        """The pages as last heard, at once; None where none was ever. Has a newer list fetched where that is due."""
        if self._is_due():
            self.refresh_soon()
        return self._names

    async def refresh(self) -> None:
        """Read the list now. Raises what `load` raises; the list there was stays."""
        self._asked_at = self._monotonic()
        self._names = PageNames(await self._load())

    def refresh_soon(self) -> None:
        """Read the list beside what goes on, whatever comes of it."""
        if self._asking is None or self._asking.done():
            self._asked_at = self._monotonic()
            self._asking = asyncio.create_task(self._quietly())

    async def close(self) -> None:
        """End a reading that is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _quietly(self) -> None:
        try:
            await self.refresh()
        except Exception as e:  # noqa: BLE001 - whatever it is, the last list serves, and it is asked again
            logger.warning("pages not read, the last list serves", error=type(e).__name__)

    def _is_due(self) -> bool:
        return self._monotonic() - self._asked_at >= FRESH_S
