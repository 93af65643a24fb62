"""What wakes the claiming loop: whoever enqueues, over pub/sub; ourselves, when a slot becomes free; the clock."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from loguru import logger
from redis.asyncio import Redis
from redis.exceptions import RedisError

from . import keys

AWAY_S = 1.0


class Wake:
    """An event with a timeout, set by messages about `lanes` on the wake channel.

    What comes on the channel of worker `token` is a job handed over to it, and goes to `on_job`.
    """

    def __init__(self, redis: Redis, lanes: Iterable[str], token: str, on_job: Callable[[bytes], None]) -> None:
        self._redis = redis
        self._lanes = {lane.encode() for lane in lanes}
        self._own = keys.HAND + token
        self._on_job = on_job
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake the loop."""
        self._event.set()

    def clear(self) -> None:
        """Before looking for work: what comes after this is not missed."""
        self._event.clear()

    async def wait(self, seconds: float) -> None:
        """Until woken, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()

    async def listen(self) -> None:
        """Set the event at every message; runs until cancelled. Away, the loop's own clock has to do."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(keys.WAKE, self._own)
                    self._event.set()  # what was announced before we listened
                    async for message in channel.listen():
                        if message["channel"] == self._own.encode():
                            self._on_job(message["data"])
                        elif message["data"] in self._lanes:
                            self._event.set()
            except (RedisError, OSError) as e:
                logger.warning("nobody can wake the lanes, they look by themselves", error=type(e).__name__)
                await asyncio.sleep(AWAY_S)
