"""Commands under SIGKILL: killed at every step, what they began is found by the reconciler, or made good by another.

And one that meets a worker at the worst moment.
"""

import signal
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from src.settings import Settings
from src.store.webhook_records import Change
from src.webhooks import endpoints
from tests.acceptance.processes import until
from tests.acceptance.webhook_yard import FIND, Fate, Plot, Plots, around, open_plots, walk
from tests.conftest import Servers
from tests.harness.merchants import yard
from tests.simulators.merchant import ok, retry_after, status


@pytest.fixture(scope="module")
def plots(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plots]:
    with open_plots(servers, tmp_path_factory.mktemp("plots")) as opened:
        yield opened


SUBMITTED = (
    *around("endpoints.of_merchant", "events.add", "deliveries.add", "queue.put"),
    ("events.add:after:1", "deliveries.add"),
    ("deliveries.add:after:1", "events.add"),
)


def test_a_submission_is_killed_at_every_step(plots: Plots) -> None:
    """An event that was stored is found without a job; asked again with its key, the command makes no second one."""
    walk(plots, _submitted, SUBMITTED)


def _submitted(plot: Plot, fate: Fate) -> None:
    endpoint = plot.endpoint(ok())
    what = ("--event", "payment.completed", "--data", "{}", "--key", "k")
    send = ("webhook", "send", "--merchant", plot.merchant_id, *what)
    plot.killed(plot.begin(fate[0], held=fate[1:], command=send))
    plot.ready(**FIND)
    stored = {each["eventId"] for each in plot.database["webhook_events"].find()}
    until(lambda: {each["eventId"] for each in plot.deliveries()} <= stored, "what is for no event is taken back", 30)
    if fate[0].startswith("queue.put"):
        plot.all_well({endpoint: list(stored)})
    assert plot.begin(command=send).ended() == 0
    (event,) = plot.database["webhook_events"].find()
    assert stored <= {event["eventId"]}
    plot.all_well({endpoint: [event["eventId"]]})
    assert len(plot.came(endpoint)) == 1


ENABLED = around("endpoints.enable", "gate.forget", "deliveries.reopen", "queue.put")
IS_OPEN = ("deliveries.reopen:after:1", "queue.put:before:1", "queue.put:after:1")


def test_enabling_an_endpoint_is_killed_at_every_step(plots: Plots) -> None:
    """What was parked for it is sent: what was open again is found, for the rest the command is given once more."""
    walk(plots, _enabled, ENABLED)


def _enabled(plot: Plot, fate: Fate) -> None:
    endpoint = plot.endpoint(retry_after(429, 4), ok())  # time enough to disable it
    first = plot.ready(WEBHOOK_BACKOFF_BASE_SECONDS="0")
    asked = plot.send()
    until(lambda: bool(plot.deliveries(tries=1)), "it asked for a pause")
    plot.of_service(lambda deps: endpoints.disable(deps, endpoint, "by hand"))
    plot.all_are("parked", [f"{asked[0]}:{endpoint}"])
    first.ended(signal.SIGKILL)
    enable = ("webhook", "endpoint", "enable", endpoint)
    plot.killed(plot.begin(fate[0], command=enable))
    plot.ready(**FIND)
    if fate[0] not in IS_OPEN:
        assert plot.begin(command=enable).ended() == 0
    plot.all_well({endpoint: asked})


REPLAYED = around("deliveries.reopen", "queue.put", "letters.replayed")


def test_a_replay_is_killed_at_every_step(plots: Plots) -> None:
    """A delivery that was given up is sent again, by the command that was killed or the next one, under its id."""
    walk(plots, _replayed, REPLAYED)


def _replayed(plot: Plot, fate: Fate) -> None:
    endpoint = plot.endpoint(status(500), ok())
    worker = plot.ready(WEBHOOK_MAX_TRIES="1")
    (event,) = plot.send()
    plot.all_are("dead", [f"{event}:{endpoint}"])
    until(lambda: plot.database["dead_letters"].count_documents({}) == 1, "its letter is written")
    worker.ended(signal.SIGKILL)
    replay = ("webhook", "replay", event)
    plot.killed(plot.begin(fate[0], command=replay))
    plot.ready(**FIND)
    if fate == ("deliveries.reopen:before:1",):
        assert plot.begin(command=replay).ended() == 0
    plot.all_are("delivered", [f"{event}:{endpoint}"])
    plot.explained(endpoint, [event])
    assert len(plot.came(endpoint)) == 2


@pytest.mark.anyio
async def test_enabling_meets_a_worker_that_is_about_to_park(settings: Settings) -> None:
    """Enabled after the worker saw the endpoint disabled, and before it wrote that down: the delivery is made."""
    async with yard(settings, backoff_base_seconds=0.5) as here:
        shown = await here.endpoint("shop", retry_after(503, 1), ok())
        endpoint_id, deliveries = shown.endpoint.endpoint_id, here.deps.merchants.deliveries
        settle, met = deliveries.settle, list[int]()

        async def late(change: Change) -> None:
            if change.status == "parked" and not met:
                met.append(await endpoints.enable(here.deps, here.house.queue, endpoint_id))
            await settle(change)

        event_id = await here.send()
        await here.came("shop")
        await endpoints.disable(here.deps, endpoint_id, "by hand")
        with patch.object(deliveries, "settle", late):
            await here.is_("delivered", event_id)
        assert met == [0]
