"""Many callers, few calls."""

import asyncio
from collections.abc import Sequence

import pytest

from src.batcher import Batcher

pytestmark = pytest.mark.anyio


class Server:
    """Answers a list with its doubles, when it is let; refuses what is negative, and breaks at 666."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.under_way = self.most = 0
        self.is_open = asyncio.Event()
        if is_open:
            self.is_open.set()

    async def __call__(self, items: list[int]) -> Sequence[int | Exception]:
        """One call."""
        self.batches.append(items)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.is_open.wait()
            await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        if 666 in items:
            raise RuntimeError("broken")
        return [item * 2 if item >= 0 else ValueError(f"{item}") for item in items]


async def begun(*calls: "asyncio.Task[int]") -> None:
    """Let the calls come to where they wait."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(call.done() for call in calls)


async def test_each_caller_gets_its_own_result() -> None:
    """In the order of the items, however they were batched."""
    ask = Batcher(Server(), most=7)
    assert await asyncio.gather(*(ask(number) for number in range(100))) == [number * 2 for number in range(100)]


async def test_a_lone_caller_waits_for_nobody_and_batches_grow_under_load() -> None:
    """The first call goes at once with one item; all that came meanwhile go in the next, at most `most`."""
    server = Server(is_open=False)
    ask = Batcher(server, most=50)
    calls = [asyncio.create_task(ask(number)) for number in range(1)]
    await begun(*calls)
    calls += [asyncio.create_task(ask(number)) for number in range(1, 71)]
    await begun(*calls)
    assert server.batches == [[0]]
    server.is_open.set()
    await asyncio.gather(*calls)
    assert [len(batch) for batch in server.batches] == [1, 50, 20]
    assert sum(server.batches, []) == list(range(71))  # noqa: RUF017 - in their order


async def test_at_most_so_many_calls_are_under_way() -> None:
    """And as many as may be, where there is enough to do."""
    server = Server()
    ask = Batcher(server, most=2, at_once=3)
    await asyncio.gather(*(ask(number) for number in range(40)))
    assert server.most == 3


async def test_a_result_that_is_an_exception_is_its_callers_alone() -> None:
    """The others of the batch have theirs."""
    ask = Batcher(Server())
    found = await asyncio.gather(*(ask(number) for number in (1, -2, 3)), return_exceptions=True)
    assert [found[0], str(found[1]), found[2]] == [2, "-2", 6]


async def test_a_call_that_fails_fails_for_all_of_it_and_no_more() -> None:
    """The next batch is asked for as if nothing had been."""
    ask = Batcher(Server(), most=3)
    found = await asyncio.gather(*(ask(number) for number in (1, 666, 3, 4)), return_exceptions=True)
    assert [str(each) for each in found] == ["broken", "broken", "broken", "8"]
    assert await ask(5) == 10


async def test_a_cancelled_caller_stops_nobody() -> None:
    """Neither where its call is under way nor where it waits for one."""
    server = Server(is_open=False)
    ask = Batcher(server)
    calls = [asyncio.create_task(ask(number)) for number in range(4)]
    await begun(*calls)
    late = [asyncio.create_task(ask(number)) for number in range(4, 6)]
    await begun(*late)
    calls[1].cancel()
    late[0].cancel()
    server.is_open.set()
    found = await asyncio.gather(*calls, *late, return_exceptions=True)
    assert [each if isinstance(each, int) else type(each) for each in found] == [
        0,
        asyncio.CancelledError,
        4,
        6,
        asyncio.CancelledError,
        10,
    ]


async def test_too_few_results_are_an_error_and_nobody_waits_for_ever() -> None:
    """A server that answers another number of results than it was asked for has broken its word."""

    async def forgets(items: list[int]) -> list[int | Exception]:
        return [0] * (len(items) - 1)

    ask = Batcher(forgets)
    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="results"):
            await ask(1)


async def test_a_call_that_is_cancelled_leaves_nobody_waiting() -> None:
    """Those whose call it was are cancelled; those who waited behind them are asked for."""
    is_first = True

    async def cut(items: list[int]) -> list[int | Exception]:
        nonlocal is_first
        if is_first:
            is_first = False
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        return list(items)

    ask = Batcher(cut, most=2)
    async with asyncio.timeout(5):
        found = await asyncio.gather(*(ask(number) for number in range(5)), return_exceptions=True)
    assert [type(each) for each in found[:2]] == [asyncio.CancelledError] * 2
    assert found[2:] == [2, 3, 4]
