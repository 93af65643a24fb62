"""Loops that run as long as the process."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

AGAIN_S = 1.0


async def kept_up(loop: Callable[[], Awaitable[None]]) -> None:
    """Run `loop`, again where a bug ends it: one must not leave a worker that seems to live and does nothing."""
    while True:
        try:
            return await loop()
        except Exception as e:  # noqa: BLE001
            logger.opt(exception=e).error("a loop of the worker hit a bug")
            await asyncio.sleep(AGAIN_S)
