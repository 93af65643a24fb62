"""The orderly end of a worker: stop taking jobs, let the running ones come to a safe place, give the rest back."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger


class Running:
    """The jobs running in this process, and what happens to them when it is asked to end.

    The first SIGTERM or SIGINT stops claiming and sets `stopping`; jobs have `grace_s` to finish. After that, or at a
    second signal, they are cancelled, which puts them back into the queue without spending a try.
    """

    def __init__(self, stopping: asyncio.Event, grace_s: float) -> None:
        self._stopping = stopping
        self._grace_s = grace_s
        self._tasks: set[asyncio.Task[object]] = set()

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Count the current task as a running job."""
        task = asyncio.current_task()
        if task is None:  # not inside a loop's task: nothing to cancel
            yield
            return
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    def take_over_signals(self, main: asyncio.Task[object]) -> None:
        """Handle SIGTERM and SIGINT ourselves; `main` is the task of arq's polling loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end, loop, main, signal.Signals(number).name)

    def _asked_to_end(self, loop: asyncio.AbstractEventLoop, main: asyncio.Task[object], name: str) -> None:
        if self._stopping.is_set():
            self._cancel_all()
            return
        logger.info("worker stopping", signal=name, running=len(self._tasks), grace_s=self._grace_s)
        self._stopping.set()
        # arq's Worker then awaits the running jobs before it closes
        main.cancel()
        loop.call_later(self._grace_s, self._cancel_all)

    def _cancel_all(self) -> None:
        if self._tasks:
            logger.warning("jobs given back to the queue", count=len(self._tasks))
        for task in self._tasks:
            task.cancel()
