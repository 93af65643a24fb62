"""Webhooks under SIGKILL: a worker dies at every step of the delivery path, and the next one makes it good."""

import signal
from collections.abc import Iterator

import pytest

from src.clients.merchants.gate import Limits
from tests.acceptance.processes import until
from tests.acceptance.webhook_yard import Fate, Plot, Plots, around, died, open_plots, walk
from tests.conftest import Servers
from tests.simulators.merchant import dead, ok, retry_after, status


@pytest.fixture(scope="module")
def plots(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plots]:
    with open_plots(servers, tmp_path_factory.mktemp("plots")) as opened:
        yield opened


# --- one event, one endpoint

FIRST_CALL = (
    *around("gate.version", "endpoints.of_merchant", "turnstile.enter_now", "gate.enter"),
    *around("events.add", "deliveries.add", "sender.send", "turnstile.leave", "gate.leave", "deliveries.settle"),
    *around("finish.hold", "finish.end"),
    ("events.add:after:1", "deliveries.add", "gate.enter"),
    ("deliveries.add:after:1", "events.add", "gate.enter"),
    ("gate.enter:after:1", "events.add", "deliveries.add"),
    ("deliveries.settle:after:1", "gate.leave"),
    ("gate.leave:after:1", "deliveries.settle"),
    *((f"{step}:inside:1",) for step in ("events.add", "gate.enter", "sender.send", "deliveries.settle", "finish.end")),
)


def test_a_first_call_is_killed_at_every_step(plots: Plots) -> None:
    """From the claim to the last write in Redis: the event arrives, and every request has its attempt."""
    walk(plots, _first_call, FIRST_CALL)


def _first_call(plot: Plot, fate: Fate) -> None:
    endpoint = plot.endpoint(ok())
    doomed = plot.ready(fate[0], held=fate[1:])
    events = plot.send()
    plot.killed(doomed)
    plot.ready()
    plot.all_well({endpoint: events})


def test_a_worker_dies_while_the_merchant_holds_the_answer(plots: Plots) -> None:
    """The merchant has the body and the worker no answer: it is sent once more, and both attempts are in the log."""
    with plots.one() as plot:
        endpoint = plot.endpoint(dead(), ok())
        doomed = plot.ready()
        events = plot.send()
        until(lambda: len(plot.came(endpoint)) == 1, "the merchant has it")
        doomed.ended(signal.SIGKILL)
        plot.ready()
        plot.all_well({endpoint: events})
        assert died(plot.deliveries()) == 1
        assert len(plot.came(endpoint)) == 2


SECOND_CALL = around("events.add", "deliveries.add", "gate.enter", "sender.send", "deliveries.settle", calls=[2])


def test_a_call_with_remembered_endpoints_is_killed_at_every_step(plots: Plots) -> None:
    """The second event of a merchant, for which MongoDB is not asked who subscribes."""
    walk(plots, _second_call, SECOND_CALL)


def _second_call(plot: Plot, fate: Fate) -> None:
    endpoint = plot.endpoint(ok())
    doomed = plot.ready(fate[0])
    first = plot.send()
    plot.all_are("delivered", [f"{first[0]}:{endpoint}"])
    second = plot.send()
    plot.killed(doomed)
    plot.ready()
    plot.all_well({endpoint: first + second})


def test_taking_back_what_was_stored_for_old_endpoints_is_killed(plots: Plots) -> None:
    """A new endpoint, of which the worker learns when it has stored the event for the old ones: both get it."""
    walk(plots, _taken_back, around("events.drop", "deliveries.drop"))


def _taken_back(plot: Plot, fate: Fate) -> None:
    old = plot.endpoint(ok())
    doomed = plot.ready(fate[0])
    first = plot.send()
    plot.all_are("delivered", [f"{first[0]}:{old}"])
    new = plot.endpoint(ok())
    second = plot.send()
    plot.killed(doomed)
    plot.ready()
    plot.all_well({old: first + second, new: second})


ADDED = (
    *around("events.add", "deliveries.add", "gate.enter", "sender.send"),
    ("deliveries.settle:before:1",),
)


def test_an_endpoint_is_added_while_no_worker_lives(plots: Plots) -> None:
    """The event of a dead worker is completed for an endpoint that is new since: both get it."""
    walk(plots, _added, ADDED)


def _added(plot: Plot, fate: Fate) -> None:
    old = plot.endpoint(ok())
    doomed = plot.ready(fate[0])
    events = plot.send()
    plot.killed(doomed)
    new = plot.endpoint(ok())
    plot.ready()
    plot.all_well({old: events, new: events})


DUPLICATE = (
    *around("events.add", "deliveries.add", calls=[2]),
    *around("deliveries.drop"),
    *around("finish.end", calls=[2]),
)


def test_a_duplicate_is_killed_at_every_step(plots: Plots) -> None:
    """A second event with an idempotency key that was accepted: nothing of it stays, and nothing of it is sent."""
    walk(plots, _duplicate, DUPLICATE)


def _duplicate(plot: Plot, fate: Fate) -> None:
    endpoint = plot.endpoint(ok())
    doomed = plot.ready(fate[0])
    first = plot.send(idempotency_key="k")
    plot.all_are("delivered", [f"{first[0]}:{endpoint}"])
    assert plot.send(idempotency_key="k") != first
    plot.killed(doomed)
    plot.ready()
    plot.all_well({endpoint: first})
    assert len(plot.came(endpoint)) == 1


# --- more than one call

HANDED_ON = (
    *around("hands.spawn", "deliveries.add", calls=[1, 2, 3]),
    *around("events.add", "finish.end"),
    ("events.add:after:1", "deliveries.add"),
    ("deliveries.add:after:2", "events.add"),
    ("hands.spawn:inside:2",),
)
FANNED_OUT = (
    *around("deliveries.begin", "turnstile.enter", "gate.enter", "sender.send", "deliveries.settle", calls=[1, 3]),
    *around("finish.end", calls=[2, 3]),
    ("deliveries.begin:inside:2",),
)


@pytest.mark.parametrize("fates", [HANDED_ON, FANNED_OUT], ids=["handed on", "called"])
def test_a_fan_out_is_killed_at_every_step(plots: Plots, fates: tuple[Fate, ...]) -> None:
    """An event for three endpoints reaches each of them, whoever was told before the worker died."""
    walk(plots, _fanned_out, fates)


def _fanned_out(plot: Plot, fate: Fate) -> None:
    ids = [plot.endpoint(ok()) for _ in range(3)]
    doomed = plot.ready(fate[0], held=fate[1:])
    events = plot.send()
    plot.killed(doomed)
    plot.ready()
    plot.all_well(dict.fromkeys(ids, events))


TRIED_AGAIN = (
    *around("finish.again", "deliveries.settle", "gate.leave", "turnstile.enter", "deliveries.begin"),
    *around("gate.enter", "sender.send", "deliveries.settle", calls=[2]),
    *around("finish.end"),
)


def test_a_second_try_is_killed_at_every_step(plots: Plots) -> None:
    """The merchant fails once: its answer is in the log, and the next try is made, whichever of the two was cut."""
    walk(plots, _tried_again, TRIED_AGAIN)


def _tried_again(plot: Plot, fate: Fate) -> None:
    endpoint = plot.endpoint(status(500), ok())
    doomed = plot.ready(fate[0])
    events = plot.send()
    plot.killed(doomed)
    plot.ready()
    plot.all_well({endpoint: events})


PARKED = (
    *around("gate.closed", "deliveries.settle", "gate.leave", calls=[1, 3]),
    *around("finish.again"),  # of several jobs at once, so that there may be no third time
    *around("health.release", "hands.hurry"),
)


def test_parked_deliveries_outlive_their_worker(plots: Plots) -> None:
    """A breaker that is open, and a worker that dies as it parks, probes, or lets go what it had parked."""
    walk(plots, _parked, PARKED)


def _parked(plot: Plot, fate: Fate) -> None:
    endpoint = plot.endpoint(status(500), status(500), ok())
    limits = {"WEBHOOK_BREAKER_FAILURES": "2", "WEBHOOK_MAX_IN_FLIGHT_PER_ENDPOINT": "1"}
    doomed = plot.ready(fate[0], **limits)
    events = plot.send(6)
    plot.killed(doomed)
    plot.ready(**limits)
    plot.all_well({endpoint: events})


def test_a_pause_outlives_the_worker_that_was_asked_for_it(plots: Plots) -> None:
    """429 with a Retry-After: whoever comes after the dead worker keeps to it, and then sends all."""
    with plots.one() as plot:
        endpoint = plot.endpoint(retry_after(429, 3), ok())
        doomed = plot.ready()
        first = plot.send()
        until(lambda: bool(plot.deliveries(tries=1)), "the pause is known")
        more = plot.send(3)
        until(lambda: len(plot.deliveries(status="parked")) == 3, "the others are parked")
        doomed.ended(signal.SIGKILL)
        plot.ready()
        plot.all_well({endpoint: first + more})
        asked, *others = [request.arrived_at for request in plot.came(endpoint)]
        assert min(others) - asked > 2.9

    """The worker dies as it calls, and the next finds the endpoint closed: it parks, and writes down what it found."""
    """The worker dies as it calls, and the next one finds the endpoint closed: it parks, and logs that call."""
    with plots.one() as plot:
        endpoint = plot.endpoint(dead(), ok())
        doomed = plot.ready()
        events = plot.send()
        until(lambda: len(plot.came(endpoint)) == 1, "the merchant has it")
        doomed.ended(signal.SIGKILL)
        limits = Limits(8, None, 5.0, 10, 1.0, 1.0)
        plot.of_service(lambda deps: deps.merchants.gate.leave(endpoint, "other", limits, how="none", pause_s=6))
        plot.ready()
        until(lambda: died(plot.deliveries(status="parked")) == 1, "it is parked, with the call of the dead worker")
        plot.all_well({endpoint: events})
        assert died(plot.deliveries()) == 1


ORDERED = (
    *around("hands.spawn", "deliveries.begin", "sender.send", "deliveries.settle", calls=[1, 2]),
    *around("finish.end", calls=[1, 2, 3]),
    *around("events.add"),
)


def test_events_with_an_order_key_keep_their_order(plots: Plots) -> None:
    """The worker dies of the first event of a group, whose first call fails besides: the others wait for it."""
    walk(plots, _ordered, ORDERED)


def _ordered(plot: Plot, fate: Fate) -> None:
    endpoint = plot.endpoint(status(500), ok())
    doomed = plot.ready(fate[0])
    events = plot.send(4, order_key="o")
    plot.killed(doomed)
    plot.ready()
    plot.all_well({endpoint: events})
    assert list(dict.fromkeys(request.headers["webhook-id"] for request in plot.came(endpoint))) == events


GIVEN_UP = (*around("deliveries.settle", "letters.add_job", "finish.end"),)


def test_a_delivery_is_given_up_once(plots: Plots) -> None:
    """The last try fails, and the worker dies with it: one dead letter, and no call more than was logged."""
    walk(plots, _given_up, GIVEN_UP)


def _given_up(plot: Plot, fate: Fate) -> None:
    endpoint = plot.endpoint(status(500))
    doomed = plot.ready(fate[0], WEBHOOK_MAX_TRIES="1")
    (event,) = plot.send()
    plot.killed(doomed)
    plot.ready(WEBHOOK_MAX_TRIES="1")
    plot.all_are("dead", [f"{event}:{endpoint}"])
    plot.explained(endpoint, [event])
    (letter,) = plot.database["dead_letters"].find()
    assert (letter["jobId"], letter["status"]) == (event, "dead")
    assert len(plot.came(endpoint)) == (2 if fate == ("deliveries.settle:before:1",) else 1)
