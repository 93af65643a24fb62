"""Who may call an endpoint now: the gate in Redis that all workers share, and a worker's own side of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from src.clients.merchants.gate import Entry, Exit, Gate, Limits
from src.clients.redis import open_redis
from src.settings import Settings
from tests.harness.lanes import until

pytestmark = pytest.mark.anyio

EP = "ep_1"
LIMITS = Limits(cap=4, rate_per_second=None, longest_s=5.0, breaker_failures=3, closed_s=0.2, closed_most_s=0.5)
CLOSED_S = LIMITS.closed_s * 1.2  # at most, with its spread


@pytest.fixture
async def gates(settings: Settings) -> AsyncIterator[list[Gate]]:
    """Two workers' gates, on connections of their own."""
    async with AsyncExitStack() as stack:
        yield [Gate(await stack.enter_async_context(open_redis(settings.redis))) for _ in range(2)]


@pytest.fixture
def gate(gates: list[Gate]) -> Gate:
    return gates[0]


async def failed(gate: Gate, call: str, limits: Limits = LIMITS) -> Exit:
    """A call that is let in and fails."""
    assert (await gate.enter(EP, call, limits)).kind in ("go", "probe")
    return await gate.leave(EP, call, limits, how="fail")


async def fell(gate: Gate, limits: Limits = LIMITS) -> Exit:
    """Failures until the breaker closes the gate."""
    left = Exit("open", 0.0, 0)
    for number in range(limits.breaker_failures):
        left = await failed(gate, f"fell-{number}", limits)
    assert left.state == "closed"
    return left


async def let_in(gate: Gate, call: str, limits: Limits = LIMITS) -> Entry:
    """How a call is let in, as soon as it is."""

    async def ask() -> Entry | None:
        entry = await gate.enter(EP, call, limits)
        return entry if entry.kind in ("go", "probe") else None

    return await until(ask)


async def inside(gate: Gate, prefix: str, limits: Limits = LIMITS) -> int:
    """How many more calls are let in now; none of them ends."""
    count = 0
    while (await gate.enter(EP, f"{prefix}-{count}", limits)).kind == "go":
        count += 1
        assert count < 100, "there is no limit"
    return count


async def test_the_cap_is_one_for_all_workers(gates: list[Gate]) -> None:
    """What two workers ask for at the same time is let in up to the cap; other endpoints are free."""
    asked = [gates[number % 2].enter(EP, f"call-{number}", LIMITS) for number in range(20)]
    assert [entry.kind for entry in await asyncio.gather(*asked)].count("go") == LIMITS.cap
    assert (await gates[1].enter("ep_2", "call-1", LIMITS)).kind == "go"


async def test_a_call_counts_once_and_makes_room_once(gate: Gate) -> None:
    """A question whose answer was lost is asked again; so is the end of a call."""
    for _ in range(3):
        assert (await gate.enter(EP, "same", LIMITS)).kind == "go"
    assert await inside(gate, "other") == LIMITS.cap - 1
    for _ in range(3):
        await gate.leave(EP, "same", LIMITS, how="none")
    assert await inside(gate, "more") == 1
    assert (await gate.enter(EP, "other-0", LIMITS)).kind == "go"


async def test_the_places_of_dead_callers_are_free_again(gate: Gate) -> None:
    """After the longest time their calls could take, and not before; who may still live keeps its own."""
    short = replace(LIMITS, longest_s=0.4)
    begun = time.monotonic()
    for number in range(LIMITS.cap - 1):
        await gate.enter(EP, f"dies-{number}", short)
    await gate.enter(EP, "lives", LIMITS)
    for number in range(LIMITS.cap - 1):
        await let_in(gate, f"next-{number}")
        assert 0.35 <= time.monotonic() - begun < 3.0
    assert await inside(gate, "more") == 0


async def test_failures_in_a_row_close_it(gate: Gate) -> None:
    """A success in between begins the count anew; then everybody is refused, and told for how long."""
    for number in range(LIMITS.breaker_failures - 1):
        assert await failed(gate, f"{number}") == Exit("open", 0.0, number + 1)
    await gate.enter(EP, "good", LIMITS)
    assert await gate.leave(EP, "good", LIMITS, how="ok") == Exit("open", 0.0, 0)
    left = await fell(gate)
    assert LIMITS.closed_s <= left.closed_s <= CLOSED_S
    entry = await gate.enter(EP, "refused", LIMITS)
    assert (entry.kind, entry.why) == ("closed", "breaker")
    assert 0 < entry.wait_s <= left.closed_s + 0.002  # both are cut to the millisecond


async def test_calls_that_say_nothing_of_the_endpoint_are_no_failures(gate: Gate) -> None:
    """A fault of ours, or a refusal by a server that works."""
    for number in range(LIMITS.breaker_failures * 2):
        await gate.enter(EP, f"{number}", LIMITS)
        assert (await gate.leave(EP, f"{number}", LIMITS, how="none")).failures == 0
    assert (await gate.enter(EP, "next", LIMITS)).kind == "go"


async def test_without_a_breaker_failures_close_nothing(gate: Gate) -> None:
    """0 turns it off; the failures are counted all the same."""
    without = replace(LIMITS, breaker_failures=0)
    for number in range(30):
        assert await failed(gate, f"{number}", without) == Exit("open", 0.0, number + 1)


async def test_one_probe_at_a_time(gates: list[Gate]) -> None:
    """When the time is over one call is let in to try, over all workers; its own repetition is it again."""
    await fell(gates[0])
    assert (await let_in(gates[0], "probe")).kind == "probe"
    others = await asyncio.gather(*(gates[number % 2].enter(EP, f"other-{number}", LIMITS) for number in range(10)))
    assert {(entry.kind, entry.why) for entry in others} == {("closed", "breaker")}
    assert (await gates[1].enter(EP, "probe", LIMITS)).kind == "probe"


async def test_a_probe_that_dies_makes_room_for_another(gate: Gate) -> None:
    """Nobody waits for the end of a worker that has none."""
    short = replace(LIMITS, longest_s=0.3)
    await fell(gate, short)
    assert (await let_in(gate, "dies", short)).kind == "probe"
    assert (await let_in(gate, "lives", short)).kind == "probe"


async def test_each_failing_probe_doubles_the_time(gate: Gate) -> None:
    """Up to the longest there may be; a success begins anew."""
    left, times = await fell(gate), list[float]()
    for number in range(3):
        times.append(left.closed_s)
        await let_in(gate, f"probe-{number}")
        left = await gate.leave(EP, f"probe-{number}", LIMITS, how="fail")
    assert left.closed_s == LIMITS.closed_most_s
    assert 2 * LIMITS.closed_s <= times[1] <= 2 * CLOSED_S
    await let_in(gate, "good")
    assert (await gate.leave(EP, "good", LIMITS, how="ok")).state == "recovered"
    assert (await fell(gate)).closed_s <= CLOSED_S


async def test_one_success_opens_it_and_calls_grow_from_one(gate: Gate) -> None:
    """Slow start: one call, and one more with each success, until the cap is reached and forgotten."""
    await fell(gate)
    await let_in(gate, "probe")
    assert await gate.leave(EP, "probe", LIMITS, how="ok") == Exit("recovered", 0.0, 0)
    sizes = []
    for window in range(2, LIMITS.cap + 1):
        sizes.append(await inside(gate, f"w{window}"))
        for number in range(sizes[-1]):
            how = "ok" if number == 0 else "none"
            assert (await gate.leave(EP, f"w{window}-{number}", LIMITS, how=how)).state == "open"  # type: ignore[arg-type]
    assert sizes == [2, 3, 4]


async def test_calls_begun_before_it_fell_do_not_close_it_for_longer(gate: Gate) -> None:
    """Their failures belong to the fall that is known; the time is doubled by probes alone."""
    late = [f"late-{number}" for number in range(2)]
    for call in late:
        await gate.enter(EP, call, LIMITS)
    left = await fell(gate)
    for number, call in enumerate(late, 1):
        exit_ = await gate.leave(EP, call, LIMITS, how="fail")
        assert exit_ == Exit("open", 0.0, left.failures + number)
    assert (await gate.enter(EP, "refused", LIMITS)).wait_s <= left.closed_s + 0.002


async def test_a_late_success_opens_it(gate: Gate) -> None:
    """It works, whoever found that out."""
    await gate.enter(EP, "late", LIMITS)
    await fell(gate)
    assert (await gate.leave(EP, "late", LIMITS, how="ok")).state == "recovered"
    assert (await gate.enter(EP, "next", LIMITS)).kind == "go"


async def test_a_pause_it_asked_for_holds_everybody(gates: list[Gate]) -> None:
    """Whether that came with a failure that counts or not; then one call at a time."""
    for call in ("one", "two"):
        await gates[0].enter(EP, call, LIMITS)
    assert await gates[0].leave(EP, "one", LIMITS, how="none", pause_s=0.3) == Exit("closed", 0.3, 0)
    entry = await gates[1].enter(EP, "refused", LIMITS)
    assert (entry.kind, entry.why) == ("closed", "hold")
    await gates[0].leave(EP, "two", LIMITS, how="fail", pause_s=0.1)  # a shorter one takes nothing away
    assert (await gates[1].enter(EP, "refused", LIMITS)).wait_s > 0.2
    assert (await let_in(gates[1], "first")).kind == "go"
    assert await inside(gates[0], "more") == 0
    assert (await gates[1].leave(EP, "first", LIMITS, how="ok")).state == "recovered"
    assert await inside(gates[0], "more") == 2


async def test_one_of_those_refused_is_the_scout(gates: list[Gate]) -> None:
    """The first that asks after a fall, as often as it asks; after the next fall it is another's turn."""
    await fell(gates[0])
    asked = [await gates[number % 2].enter(EP, f"call-{number}", LIMITS) for number in range(6)]
    assert [entry.is_scout for entry in asked] == [True, *[False] * 5]
    assert (await gates[1].enter(EP, "call-0", LIMITS)).is_scout
    await let_in(gates[0], "call-3")
    await gates[0].leave(EP, "call-3", LIMITS, how="fail")
    assert [(await gates[0].enter(EP, f"call-{number}", LIMITS)).is_scout for number in (4, 0)] == [True, False]


async def test_an_overload_halves_what_it_gets(gate: Gate) -> None:
    """Down to one call at a time; each success allows one more."""
    sizes = []
    for round_ in range(3):
        assert (await gate.enter(EP, f"o{round_}", LIMITS)).kind == "go"
        await gate.leave(EP, f"o{round_}", LIMITS, how="none", is_overloaded=True)
        count = await inside(gate, f"r{round_}")
        for number in range(count):
            await gate.leave(EP, f"r{round_}-{number}", LIMITS, how="none")
        sizes.append(count)
    assert sizes == [2, 1, 1]
    await gate.enter(EP, "good", LIMITS)
    await gate.leave(EP, "good", LIMITS, how="ok")
    assert await inside(gate, "end") == 2


async def test_a_rate_is_kept_by_all_together(gates: list[Gate]) -> None:
    """Whoever comes too soon is told when to ask again."""
    limits = replace(LIMITS, cap=100, rate_per_second=50.0)
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < 1.0:
        entry = await gates[count % 2].enter(EP, f"{count}", limits)
        assert entry.wait_s <= 0.021
        count += entry.kind == "go"
        await asyncio.sleep(0.001)
    assert 45 <= count <= 51


async def test_a_person_can_open_it(gate: Gate) -> None:
    """Then it is as if nothing had been; people see how it stands before and after."""
    left = await fell(gate)
    failures, until_s = (await gate.closed([EP, "ep_2"]))[EP]
    assert failures == LIMITS.breaker_failures
    assert 0 < until_s - time.time() <= left.closed_s + 0.1
    await gate.forget(EP)
    assert await gate.closed([EP, "ep_2"]) == {EP: (0, 0.0), "ep_2": (0, 0.0)}
    assert await inside(gate, "again") == LIMITS.cap


async def test_a_pause_outlives_a_success_that_was_under_way(gate: Gate) -> None:
    """A merchant at its limit answers 429 to one call and 200 to another: the pause it asked for is kept to."""
    await let_in(gate, "limited")
    await let_in(gate, "served")
    assert (await gate.leave(EP, "limited", LIMITS, how="none", pause_s=60.0)).state == "closed"
    assert (await gate.leave(EP, "served", LIMITS, how="ok")).state == "open"
    entry = await gate.enter(EP, "next", LIMITS)
    assert (entry.kind, entry.why) == ("closed", "hold")
    assert entry.wait_s > 55
