"""The orderly end of a worker process."""

import asyncio
import signal
from collections.abc import Callable

from loguru import logger

from .lanes import Lanes


class Shutdown:
    """The first SIGTERM or SIGINT stops claiming and sets `stopping`; jobs have `grace_s` to finish. After that, or at
    a second signal, the rest is given back to the queue, where no try of theirs is spent. Then arq's Worker ends.
    """

    def __init__(
        self, lanes: Lanes, stopping: asyncio.Event, *, grace_s: float, on_drained: Callable[[], None] = lambda: None
    ) -> None:
        self._lanes = lanes
        self._stopping = stopping
        self._grace_s = grace_s
        self._on_drained = on_drained
        self.on_begin: list[Callable[[], None]] = []  # what is to stop when the end begins
        self._hurry = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    def take_over_signals(self, main: asyncio.Task[object]) -> None:
        """Handle SIGTERM and SIGINT ourselves; `main` is the task of arq's polling loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end, main, signal.Signals(number).name)

    async def drained(self) -> None:
        """Returns when nothing runs any more; begins to drain where no signal did."""
        if self._draining is None:
            self._begin()
        assert self._draining is not None  # noqa: S101 - set by the line before
        await self._draining

    def _asked_to_end(self, main: asyncio.Task[object], name: str) -> None:
        if self._draining:
            self._hurry.set()
            return
        running = self._lanes.slots.running
        logger.info(
            "shutdown signal received, initiating graceful shutdown...",
            signal=name,
            running=running,
            grace_s=self._grace_s,
        )
        # arq's Worker closes what it holds when its loop is cancelled, and then calls our shutdown
        self._begin().add_done_callback(lambda _: main.cancel())

    def _begin(self) -> asyncio.Task[None]:
        self._stopping.set()
        for stop in self.on_begin:
            stop()
        self._lanes.stop_claiming()
        self._draining = asyncio.create_task(self._drain())
        return self._draining

    async def _drain(self) -> None:
        logger.info("shutting down scheduler...")
        cut = await self._lanes.drain(self._grace_s, self._hurry)
        if cut:
            logger.warning("jobs given back to the queue", count=cut)
        else:
            logger.info("all running jobs completed")
        self._on_drained()
