"""Many callers, few round trips: what is asked for at the same time is asked in one call."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Calls `do` with what callers ask for, at most `most` of it, at most `at_once` calls under way.

    A call begins as soon as one may, so a lone caller waits for nobody; under load the batches grow by themselves
    (group commit). `do` returns one result for each item, in order; a result that is an exception is raised to its
    caller, and an exception of `do` to all of that batch. A caller that is cancelled does not stop the others' call.
    """

    def __init__(
        self, do: Callable[[list[T]], Awaitable[Sequence[R | Exception]]], *, most: int = 200, at_once: int = 1
    ) -> None:
        self._do = do
        self._most = most
        self._at_once = at_once
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._serving = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, item: T) -> R:
        """The result for `item`."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._serving < self._at_once:
            self._begin()
        return await future

    def _begin(self) -> None:
        self._serving += 1
        task = asyncio.create_task(self._serve())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self) -> None:
        try:
            await self._serve_all()
        finally:
            self._serving -= 1  # with the last look at who waits: by the time the task is done, somebody may have come

    async def _serve_all(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            try:
                results: Sequence[R | Exception] = await self._do([item for item, _ in batch])
                if len(results) != len(batch):
                    raise ValueError(f"{len(results)} results for {len(batch)} items")  # noqa: TRY301 - to all of them
            except Exception as e:  # noqa: BLE001 - it is the callers' to handle, each of them
                results = [e] * len(batch)
            except BaseException:
                for _, future in batch:
                    future.cancel()
                if self._waiting:  # they are no part of it
                    self._begin()
                raise
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
