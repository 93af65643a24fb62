"""Webhooks under all that kills at once: workers killed at random, asked to end, and Redis emptied under them."""

import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.processes import until
from tests.acceptance.webhook_yard import FIND, Plot, died, open_plots
from tests.conftest import Servers
from tests.harness.nursery import Life
from tests.simulators.merchant import Behaviour, Cycle, dead, flapping, ok, retry_after, slow, status

ROUNDS, ROUND_S = 12, 0.7
STUBBORN = {"WEBHOOK_MAX_TRIES": "100", "WEBHOOK_BREAKER_MAX_OPEN_SECONDS": "1", "WEBHOOK_TIMEOUT_SECONDS": "1"}
MERCHANTS: dict[str, tuple[Behaviour | Cycle, ...]] = {
    "well": (ok(),),
    "slow": (slow(0.8),),
    "flapping": (flapping(5, 3),),
    "failing": (*[status(500)] * 12, ok()),
    "crowded": (*[retry_after(429, 1)] * 3, ok()),
    "dead": (dead(),),
}


@pytest.fixture
def plot(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plot]:
    with open_plots(servers, tmp_path_factory.mktemp("plots"), 1) as plots, plots.one() as plot:
        yield plot


@pytest.mark.parametrize("seed", range(2))
def test_a_storm_loses_nothing(plot: Plot, seed: int) -> None:
    """Three hundred events for six kinds of merchants, and a worker killed every 0.7 s: each arrives, none is poisoned,
    and every request is in the log.
    """
    rng = random.Random(seed)
    told: dict[str, list[str]] = {plot.endpoint(*script, of=name): [] for name, script in MERCHANTS.items()}
    crew = [plot.begin(**STUBBORN) for _ in range(3)]
    for number in range(ROUNDS):
        until(lambda: sum(life.is_ready for life in crew) >= 2, "two serve")
        if number < 10:
            for endpoint, name in zip(told, MERCHANTS, strict=True):
                told[endpoint] += plot.send(5, of=name)
        if number == ROUNDS // 2:
            plot.merchants.behave(plot.names[list(told)[-1]], ok())
        _kill_one(plot, crew, rng)
    plot.all_well(told)
    assert died(plot.deliveries()) > 3


def _kill_one(plot: Plot, crew: list[Life], rng: random.Random) -> None:
    """In about a round's time kill one that serves, and begin another in its place."""
    ends = time.monotonic() + rng.uniform(0.1, 1.5) * ROUND_S
    until(lambda: time.monotonic() > ends, "the round is over")
    victim = rng.choice([life for life in crew if life.is_ready])
    assert victim.ended(signal.SIGKILL) == -signal.SIGKILL
    crew.remove(victim)
    crew.append(plot.begin(**STUBBORN))


def test_sigterm_lets_calls_end(plot: Plot) -> None:
    """Calls under way come to their end, within the grace: each event is sent once, and no attempt is cut."""
    names = {"well": ok(), "slow": slow(0.5)}
    told = {plot.endpoint(behaviour, of=name): plot.send(40, of=name) for name, behaviour in names.items()}
    first = plot.ready(WORKER_SHUTDOWN_SECONDS="5")
    (_, unhurried) = told
    until(lambda: len(plot.came(unhurried)) >= 10, "calls are under way")
    began = time.monotonic()
    assert first.ended(signal.SIGTERM) == 0, first.said[-2000:]
    assert time.monotonic() - began < 5
    assert len(plot.came(unhurried)) < 40
    plot.ready()
    plot.all_well(told)
    assert died(plot.deliveries()) == 0
    assert sum(len(plot.came(endpoint)) for endpoint in told) == 80


def test_sigterm_cuts_calls_that_take_too_long(plot: Plot) -> None:
    """Calls that go on beyond the grace are given up and made again, and the log says so."""
    endpoint = plot.endpoint(*[dead()] * 8, ok())
    events = plot.send(20)
    limits = {"WORKER_SHUTDOWN_SECONDS": "0.2", "WEBHOOK_TIMEOUT_SECONDS": "20"}
    first = plot.ready(**limits)
    until(lambda: len(plot.came(endpoint)) == 8, "calls are under way")
    began = time.monotonic()
    assert first.ended(signal.SIGTERM) == 0, first.said[-2000:]
    assert time.monotonic() - began < 3
    plot.ready(**limits)
    plot.all_well({endpoint: events})
    assert died(plot.deliveries()) == 8
    assert len(plot.came(endpoint)) == 28


def test_redis_is_emptied(plot: Plot) -> None:
    """All jobs are gone: deliveries that wait for their next try, are parked, or are under way are found in MongoDB."""
    failing: dict[str, Behaviour] = {"failing": status(500), "crowded": retry_after(429, 4), "dead": dead()}
    told = {plot.endpoint(behaviour, of=name): plot.send(8, of=name) for name, behaviour in failing.items()}
    limits = {**FIND, "WEBHOOK_MAX_TRIES": "100", "WEBHOOK_BREAKER_FAILURES": "12", "WORKER_MAX_CONCURRENT_JOBS": "50"}
    plot.ready(**limits)
    until(lambda: len(plot.deliveries(status="parked")) > 6, "some are parked")
    until(lambda: len(plot.deliveries(tries={"$gt": 0})) > 6, "some were tried")
    until(lambda: len(plot.deliveries()) == 24, "all are stored")
    plot.redis.flushall()
    for endpoint in told:
        plot.merchants.behave(plot.names[endpoint], ok())
    plot.all_well(told)
