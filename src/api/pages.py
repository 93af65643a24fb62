"""Which pages' events are taken: those of PANCAKE_PAGE_IDS, else those that `pages` has as active."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ..settings import Settings

if TYPE_CHECKING:
    from ..clients.mongo import Database


def page_list(settings: Settings, stack: AsyncExitStack) -> Callable[[], Awaitable[Sequence[str]]]:
    """A call that gives the ids; it raises where MongoDB is needed and away. What it opens is closed with `stack`."""
    named = settings.pancake.page_ids
    if named:

        async def of_settings() -> Sequence[str]:
            return named

        return of_settings
    return _Stored(settings, stack)


class _Stored:
    """Connects when it is first asked: accepting events needs no MongoDB."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._database: Database | None = None

    async def __call__(self) -> Sequence[str]:
        from ..clients.mongo import open_database  # a driver that a shop with PANCAKE_PAGE_IDS need not load
        from ..store.pages import Pages

        if self._database is None:
            self._database = await self._stack.enter_async_context(open_database(self._settings.mongo))
        return await Pages(self._database).to_sync()
