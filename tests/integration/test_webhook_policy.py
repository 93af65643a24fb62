"""What becomes of deliveries and endpoints that fail: tries, dead letters, pauses, breaker, disabling."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from socket import EAI_AGAIN, gaierror
from typing import Any

import pytest
from cryptography.fernet import Fernet

from src.clients.merchants.sender import open_sender
from src.engine import dead_letters
from src.rules.vault import Vault
from src.settings import Settings
from src.store.webhook_endpoints import Endpoint, Secret
from src.webhooks import endpoints, replay
from tests.harness.lanes import until
from tests.harness.merchants import MERCHANT, Yard, stays, yard
from tests.simulators.merchant import Behaviour, disable, gone, ok, redirect, retry_after, slow, status, verified

pytestmark = pytest.mark.anyio

LATENCY_S = 0.05


async def dead_of_five(here: Yard) -> str:
    """An event that failed five times."""
    event_id = await here.send()
    (info,) = await here.ended(event_id)
    assert info.state == "dead"
    assert here.merchants.count("shop") == 5
    return event_id


async def test_five_failures_are_a_dead_letter(settings: Settings) -> None:
    """Delivery and job say so, every attempt is told; the endpoint is not disabled."""
    async with yard(settings) as here:
        shown = await here.endpoint("shop", status(500))
        event_id = await dead_of_five(here)
        stored = await here.delivery(event_id)
        assert (stored["status"], stored["tries"], len(stored["attempts"])) == ("dead", 5, 5)
        assert "nextTryAt" not in stored
        letter = await here.house.letter(event_id)
        assert "it answered 500 (try 5 of 5)" in letter["error"]
        assert len(letter["attempts"]) == 5
        endpoint = await endpoints.known(here.deps, shown.endpoint.endpoint_id)
        assert endpoint.is_enabled
        assert endpoint.failing_since


async def test_a_dead_letter_is_replayed_as_a_job(settings: Settings) -> None:
    """With all its tries, under the same id; when it fails again the letter is open again."""
    async with yard(settings) as here:
        shown = await here.endpoint("shop", *[status(500)] * 10, ok())
        event_id = await dead_of_five(here)
        (info,) = await here.ended(await dead_letters.replay_one(here.deps, here.queue, event_id))
        assert info.state == "dead"
        assert (await here.house.letter(event_id))["status"] == "dead"
        (info,) = await here.ended(await dead_letters.replay_one(here.deps, here.queue, event_id))
        assert info.outcome == "delivered"
        received = await here.came("shop", 11)
        assert verified(received[10], shown.secret)["id"] == event_id
        assert {each.headers["webhook-id"] for each in received} == {event_id}
        assert received[10].headers["x-webhook-attempt"] == "11"


async def test_a_dead_delivery_is_replayed_as_a_delivery(settings: Settings) -> None:
    """The same by the event's id; the letter is closed."""
    async with yard(settings) as here:
        await here.endpoint("shop", *[status(500)] * 7, ok())
        event_id = await dead_of_five(here)
        done = await replay.replay_one(here.deps, here.queue, event_id)
        assert (done.matching, done.enqueued) == (1, 1)
        stored = await here.is_("delivered", event_id)
        assert len(stored["attempts"]) == 8
        assert {each.headers["webhook-id"] for each in here.merchants.received("shop")} == {event_id}
        assert (await here.house.letter(event_id))["status"] == "replayed"


@pytest.mark.parametrize(
    "answer",
    [lambda: retry_after(429, 3), lambda: retry_after(503, datetime.now(UTC) + timedelta(seconds=4))],
    ids=["seconds", "date"],
)
async def test_retry_after_holds_the_endpoint(settings: Settings, answer: Callable[[], Behaviour]) -> None:
    """Nothing of its arrives before; other endpoints do not notice; then it begins with one call at a time."""
    async with yard(settings) as here:
        await here.endpoint("shop", answer(), slow(LATENCY_S))
        await here.endpoint("other", merchant_id="m2")
        first = await here.send()
        held_at = (await here.came("shop"))[0].arrived_at
        await here.house.ended(await here.send(merchant_id="m2"))
        ids = await here.send_many(30)
        await here.have("parked", 30)
        assert await here.count(status="parked", tries=0, attempts=[]) == 30
        await here.ended(*[await here.send(merchant_id="m2") for _ in range(5)])
        assert time.time() - held_at < 2.5, "this machine is too slow for the test"
        assert here.merchants.count("shop") == 1
        await here.ended(first, *ids)
        times = [at for _, at in here.merchants.arrivals("shop")][1:]
        assert min(times) - held_at >= 2.9
        assert max(times) - held_at < 10
        for at in times:
            under_way = sum(at - LATENCY_S < other <= at for other in times)
            over = sum(other <= at - LATENCY_S for other in times)
            assert under_way <= min(over + 1, 8)
        assert await here.count(status="delivered", tries=0) == 5 + 30 + 1
        assert (await here.delivery(first))["tries"] == 1


async def test_the_breaker(settings: Settings) -> None:
    """After some failures the others are parked and spend no try; single probes; then all go, at the cap's pace."""
    async with yard(settings, breaker_failures=4, max_tries=3, breaker_max_open_seconds=0.3) as here:
        shown = await here.endpoint("shop", status(500), max_in_flight=5)
        ids = await here.send_many(40)
        await here.have("parked", 36)
        at_the_fall = here.merchants.count("shop")
        assert 4 <= at_the_fall <= 5 + 4
        here.merchants.clear()
        await here.came("shop", 6)  # probes: more than a delivery has tries
        assert here.merchants.peak("shop") == 1
        assert await here.count(status="dead") == 0
        times = [at for _, at in here.merchants.arrivals("shop")]
        assert all(later - sooner >= 0.09 for sooner, later in pairwise(times))
        failures, _ = (await here.deps.merchants.gate.closed([shown.endpoint.endpoint_id]))[shown.endpoint.endpoint_id]
        assert failures >= 10
        here.merchants.behave("shop", slow(0.02))
        await here.have("delivered", 40)
        assert here.merchants.peak("shop") <= 5
        tries = [(await here.delivery(event_id))["tries"] for event_id in ids]
        assert sum(tries) <= at_the_fall
        assert max(tries) <= 2


async def test_probes_that_are_refused_for_load_are_failing_probes(settings: Settings) -> None:
    """An endpoint that fell and then answers 429 is asked less and less often, not again and again."""
    async with yard(settings, breaker_failures=2, max_tries=3, breaker_max_open_seconds=60) as here:
        await here.endpoint("shop", status(500), status(500), status(429))
        await here.send_many(2)
        await here.came("shop", 4, 5.0)
        times = [at for _, at in here.merchants.arrivals("shop")]
        await stays(lambda: _is_at_most(here, "shop", 6), 1.0)
        assert times[3] - times[2] >= 0.19


async def _is_at_most(here: Yard, name: str, count: int) -> bool:
    return here.merchants.count(name) <= count


@pytest.mark.parametrize("answer", [gone(), disable("disable"), disable("disable", 503)], ids=["410", "400", "503"])
async def test_an_endpoint_that_wants_no_more(settings: Settings, answer: Behaviour) -> None:
    """It is disabled at once: its delivery is dead, those in line are parked, and `enable` sends them."""
    async with yard(settings) as here:
        late = Behaviour(**{**answer.__dict__, "latency_s": 0.3})
        shown = await here.endpoint("shop", late, ok(), max_in_flight=1)
        first = await here.send()
        await here.came("shop")
        ids = await here.send_many(6)
        (info,) = await here.ended(first)
        assert info.state == "dead"
        await here.have("parked", len(ids))
        assert here.merchants.count("shop") == 1
        assert await here.count(status="parked", tries=0) == len(ids)
        endpoint = await endpoints.known(here.deps, shown.endpoint.endpoint_id)
        assert not endpoint.is_enabled
        assert ("410" if answer.status == 410 else "disable") in str(endpoint.disabled_reason)
        (info,) = await here.ended(await here.send())
        assert info.outcome == "no_subscriber"
        assert await endpoints.enable(here.deps, here.queue, shown.endpoint.endpoint_id) == 6
        await here.have("delivered", 6)
        assert here.merchants.count("shop") == 7
        assert (await here.delivery(first))["status"] == "dead"


async def test_a_success_can_disable(settings: Settings) -> None:
    """It took this one, and wants no more."""
    async with yard(settings) as here:
        shown = await here.endpoint("shop", disable("disable", 200))
        event_id = await here.send()
        await here.is_("delivered", event_id)
        await here.house.settled()
        assert not (await endpoints.known(here.deps, shown.endpoint.endpoint_id)).is_enabled


async def test_abort_message_ends_one_delivery(settings: Settings) -> None:
    """It alone is dead, after one call; the endpoint goes on."""
    async with yard(settings) as here:
        shown = await here.endpoint("shop", disable("abort-message"), ok())
        (info,) = await here.ended(await here.send())
        assert info.state == "dead"
        assert "no more tries" in str(info.error)
        (info,) = await here.ended(await here.send())
        assert info.outcome == "delivered"
        assert (await endpoints.known(here.deps, shown.endpoint.endpoint_id)).is_enabled


async def test_a_redirect_is_a_failure(settings: Settings) -> None:
    """It is not followed, and the attempt says why."""
    async with yard(settings, max_tries=1) as here:
        await here.endpoint("shop", redirect(here.merchants.url("elsewhere")))
        event_id = await here.send()
        (info,) = await here.ended(event_id)
        assert "302: redirects are not followed" in str(info.error)
        assert here.merchants.count("elsewhere") == 0
        assert (await here.delivery(event_id))["attempts"][0]["status"] == 302


async def test_faults_of_ours_cost_no_try(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that is away is no failure of the endpoint, however often; the attempts are logged."""
    is_away = True

    async def resolve(host: str, port: int) -> list[str]:
        if is_away:
            raise gaierror(EAI_AGAIN, "try again")
        return ["127.0.0.1"]

    monkeypatch.setattr("src.deps.open_sender", partial(open_sender, resolve=resolve))
    monkeypatch.setattr("src.webhooks.attempt.OURS_S", (0.02, 0.05))
    async with yard(settings, max_tries=2, breaker_failures=2) as here:
        url = f"http://shop.test:{here.merchants.port}/m/shop"
        endpoint = Endpoint("ep_1", MERCHANT, url, (Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),))
        await here.deps.merchants.endpoints.add(endpoint)
        event_id = await here.send()

        async def has_failed_often() -> dict[str, Any] | None:
            found = await here.stored(event_id)
            return found[0] if found and len(found[0]["attempts"]) >= 5 else None

        stored = await until(has_failed_often)
        assert stored["tries"] == 0
        assert {row["counts"] for row in stored["attempts"]} == {False}
        is_away = False
        await here.is_("delivered", event_id)
        known = await endpoints.known(here.deps, "ep_1")
        assert known.failing_since is None
        assert here.merchants.count("shop") == 1


async def test_a_secret_that_cannot_be_opened_costs_no_try(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent unsigned; with the right key it is delivered as if nothing had been."""
    monkeypatch.setattr("src.webhooks.attempt.UNSIGNED_S", 0.05)
    right, wrong = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    async with yard(settings, secrets_key=wrong, max_tries=2) as here:
        shown = await here.endpoint("shop")
        sealed = Vault([right]).seal(shown.secret)
        await here.set_endpoints(**{"secrets.0.secret": sealed})
        event_id = await here.send()

        async def says_why() -> dict[str, Any] | None:
            found = await here.stored(event_id)
            return found[0] if found and "WEBHOOK_SECRETS_KEY" in (found[0].get("error") or "") else None

        stored = await until(says_why)
        assert (stored["status"], stored["tries"], stored["attempts"]) == ("pending", 0, [])
        assert here.merchants.count("shop") == 0
        await here.set_endpoints(**{"secrets.0.secret": Vault([wrong]).seal(shown.secret)})
        assert (await here.is_("delivered", event_id))["tries"] == 0
        verified((await here.came("shop"))[0], shown.secret)


async def test_days_without_a_success_disable(settings: Settings) -> None:
    """Warned of at half of them, once; a success clears the record; and never for few failures."""
    async with yard(settings, disable_after_days=4, max_tries=4, breaker_failures=0) as here:
        shown = await here.endpoint("shop", status(500))
        endpoint_id = shown.endpoint.endpoint_id
        await here.ended(await here.send())

        async def known_since(days: float) -> Endpoint:
            since = datetime.now(UTC) - timedelta(days=days)
            await here.set_endpoints(failingSince=since)
            await here.ended(await here.send())
            return await endpoints.known(here.deps, endpoint_id)

        assert (await known_since(1.9)).warned_at is None
        warned = await known_since(2.1)
        assert warned.is_enabled
        assert warned.warned_at
        assert (await known_since(3.9)).warned_at == warned.warned_at
        here.merchants.behave("shop", ok(), status(500), ok())
        well = await known_since(3.9)
        assert (well.failing_since, well.warned_at) == (None, None)
        assert (await known_since(9)).is_enabled  # one failure since the last success
        here.merchants.behave("shop", status(500))
        found = await known_since(4.1)
        assert not found.is_enabled
        assert "no call has succeeded for 4.1 days" in str(found.disabled_reason)
        await endpoints.enable(here.deps, here.queue, endpoint_id)
        found = await endpoints.known(here.deps, endpoint_id)
        assert (found.failing_since, found.warned_at, found.disabled_at, found.disabled_reason) == (None,) * 4
