"""An event on its way: taken in once, told to every endpoint that subscribes, in the words of Standard Webhooks."""

import hmac
import io
import json
import time
from datetime import datetime
from typing import Any

import pytest
from cryptography.fernet import Fernet
from loguru import logger
from standardwebhooks import Webhook, WebhookVerificationError

from src.errors import Misuse
from src.log import configure_logging
from src.rules.signing import verify
from src.settings import Settings
from src.webhooks import endpoints
from tests.harness.merchants import EVENT, reached, yard
from tests.simulators.merchant import Received, ok, status, verified

pytestmark = pytest.mark.anyio

PAYLOAD: dict[str, Any] = {
    "payment_id": "pay_456",
    "amount": 1_250_000,
    "note": "chuyển khoản – Lê ✓",
    "nested": {"a": [1, None]},
}


def v1a(received: Received, key: str) -> bool:
    """Whether it verifies with the public key."""
    headers = received.headers
    return verify(
        [key],
        message_id=headers["webhook-id"],
        timestamp=headers["webhook-timestamp"],
        signatures=headers["webhook-signature"],
        body=received.body,
        now=time.time(),
    )


async def test_what_a_merchant_receives(settings: Settings) -> None:
    """The official library verifies it; body and headers are as documented."""
    async with yard(settings) as here:
        shown = await here.endpoint("shop", ok())
        event_id = await here.send(payload=PAYLOAD)
        (received,) = await here.came("shop")
        body = verified(received, shown.secret)
        assert list(body) == ["id", "event", "timestamp", "data"]
        assert (body["id"], body["event"], body["data"]) == (event_id, EVENT, PAYLOAD)
        headers = received.headers
        assert received.method == "POST"
        assert headers["content-type"] == "application/json"
        assert headers["user-agent"].startswith("folkform-webhooks/")
        assert headers["webhook-id"] == event_id
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 10
        assert headers["x-webhook-event"] == EVENT
        assert headers["x-webhook-attempt"] == "1"
        at = datetime.fromisoformat(headers["x-webhook-timestamp"])
        assert int(at.timestamp()) == int(headers["webhook-timestamp"])
        expected = hmac.digest(shown.secret.encode(), received.body, "sha256").hex()
        assert headers["x-webhook-signature"] == expected
        (info,) = await here.ended(event_id)
        assert (info.state, info.outcome) == ("done", "delivered")
        stored = await here.delivery(event_id)
        assert stored["status"] == "delivered"
        assert "nextTryAt" not in stored
        assert "sending" not in stored
        (row,) = stored["attempts"]
        assert (row["number"], row["status"], row["error"], row["counts"]) == (1, 200, None, False)


async def test_a_try_after_a_failure_sends_the_same_bytes(settings: Settings) -> None:
    """Same id and body, a time and a signature of its own, the number of the attempt one more; each is logged."""
    async with yard(settings, backoff_base_seconds=1.0) as here:
        shown = await here.endpoint("shop", status(500, body=b"oops"), status(404), ok())
        event_id = await here.send(payload=PAYLOAD)
        received = await here.came("shop", 3)
        assert len({each.body for each in received}) == 1
        assert {each.headers["webhook-id"] for each in received} == {event_id}
        assert [each.headers["x-webhook-attempt"] for each in received] == ["1", "2", "3"]
        for each in received:
            verified(each, shown.secret)
            assert abs(int(each.headers["webhook-timestamp"]) - each.arrived_at) <= 1.1
        times = [each.headers["x-webhook-timestamp"] for each in received]
        assert times == sorted(set(times))
        (info,) = await here.ended(event_id)
        assert (info.lane, info.attempt) == ("webhooks_retry", 3)
        rows = (await here.delivery(event_id))["attempts"]
        assert [(row["number"], row["status"], row["counts"]) for row in rows] == [
            (1, 500, True),
            (2, 404, True),
            (3, 200, False),
        ]
        assert rows[0]["response"] == "oops"
        assert rows[0]["error"] == "it answered 500"


async def test_each_call_is_a_line_of_the_log(settings: Settings) -> None:
    """With the fields its readers look for, however it went; what a merchant answered is not in it."""
    out = io.StringIO()
    configure_logging("INFO", "json", stream=out)
    try:
        async with yard(settings, backoff_base_seconds=0.1) as here:
            shown = await here.endpoint("shop", status(500, body=b"oops"), ok())
            event_id = await here.send(payload=PAYLOAD)
            await here.is_("delivered", event_id)
            await here.house.settled()
    finally:
        logger.remove()
    lines = [line for line in map(json.loads, out.getvalue().splitlines()) if "merchant_id" in line]
    failed, good = lines
    whose = {"event": EVENT, "event_id": event_id, "endpoint_id": shown.endpoint.endpoint_id}
    assert all(line[key] == value for line in lines for key, value in whose.items())
    assert {line["merchant_id"] for line in lines} == {shown.endpoint.merchant_id}
    assert (failed["message"], failed["level"], failed["attempt"]) == ("webhook not delivered", "warning", 1)
    assert (failed["status"], failed["error"], failed["end"]) == (500, "it answered 500", "retry")
    assert (good["message"], good["level"], good["attempt"]) == ("Webhook delivered successfully", "info", 2)
    assert "oops" not in out.getvalue()


async def test_an_ed25519_key_signs_besides(settings: Settings) -> None:
    """The header holds both; whoever knows v1 alone passes over the other, and X-Webhook-Signature stays as it is."""
    async with yard(settings) as here:
        shown = await here.endpoint("shop", with_key=True)
        assert shown.public_key
        await here.send()
        (received,) = await here.came("shop")
        assert [each.split(",")[0] for each in received.headers["webhook-signature"].split()] == ["v1", "v1a"]
        verified(received, shown.secret)
        assert v1a(received, shown.public_key)
        expected = hmac.digest(shown.secret.encode(), received.body, "sha256").hex()
        assert received.headers["x-webhook-signature"] == expected


async def test_a_merchants_own_secret(settings: Settings) -> None:
    """As it was given; what is none is refused."""
    async with yard(settings) as here:
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        assert (await here.endpoint("shop", secret=secret)).secret == secret
        await here.send()
        verified((await here.came("shop"))[0], secret)
        for wrong in ("whsec_", "whsk_AAAA", "not base64 at all!"):
            with pytest.raises(Misuse, match="--secret"):
                await here.endpoint("shop", secret=wrong)


async def test_rotation(settings: Settings) -> None:
    """For a while both secrets verify, and both keys; then the new ones alone."""
    async with yard(settings) as here:
        old = await here.endpoint("shop", with_key=True)
        endpoint_id = old.endpoint.endpoint_id
        new = await endpoints.rotate(here.deps, endpoint_id, overlap_s=1.5)
        ends_at = time.monotonic() + 1.5
        await here.send()
        (received,) = await here.came("shop")
        assert len(received.headers["webhook-signature"].split()) == 4
        for each in (old, new):
            verified(received, each.secret)
            assert each.public_key
            assert v1a(received, each.public_key)
        assert (
            received.headers["x-webhook-signature"] == hmac.digest(new.secret.encode(), received.body, "sha256").hex()
        )
        await reached(lambda: time.monotonic() > ends_at)
        await here.send()
        received = (await here.came("shop", 2))[1]
        verified(received, new.secret)
        with pytest.raises(WebhookVerificationError):
            Webhook(old.secret).verify(received.body, received.headers)
        assert old.public_key
        assert not v1a(received, old.public_key)


async def test_an_event_goes_to_every_endpoint_that_subscribes(settings: Settings) -> None:
    """Each signed with its own secret; others, of this merchant or another, hear nothing; a failing one delays none."""
    async with yard(settings) as here:
        told = {
            "all": await here.endpoint("all"),
            "payments": await here.endpoint("payments", events=["payment.*", "order.created"]),
            "exact": await here.endpoint("exact", status(500), ok(), events=[EVENT]),
        }
        await here.endpoint("orders", events=["order.*"])
        await here.endpoint("stranger", merchant_id="m2")
        off = await here.endpoint("off")
        await endpoints.disable(here.deps, off.endpoint.endpoint_id, "a test")
        event_id = await here.send()
        (info,) = await here.ended(event_id)
        assert info.outcome == "accepted"
        for name, shown in told.items():
            verified((await here.came(name, 2 if name == "exact" else 1))[0], shown.secret)
        await here.house.settled()
        assert [each["status"] for each in await here.stored(event_id)] == ["delivered"] * 3
        assert len({here.merchants.received(name)[0].body for name in told}) == 1
        assert [here.merchants.count(name) for name in ("orders", "stranger", "off")] == [0, 0, 0]


async def test_secrets_stand_neither_in_logs_nor_in_mongodb(settings: Settings) -> None:
    """Neither plain nor sealed, whatever goes wrong while they are used."""
    planted = ("whsec_cGxhbnRlZC1zZWNyZXQtcGxhbnRlZC1zZWNyZXQ=", "token=t0psecret-in-a-query")
    out = io.StringIO()
    configure_logging("DEBUG", "json", stream=out)
    try:
        async with yard(settings, secrets_key=Fernet.generate_key().decode(), breaker_failures=2, max_tries=2) as here:
            shown = await here.endpoint("shop", status(500), ok(), status(500), secret=planted[0], with_key=True)
            url = here.merchants.url("shop") + "?" + planted[1]
            await here.set_endpoints(url=url)
            await here.is_("delivered", await here.send())
            (info,) = await here.ended(await here.send())
            assert info.state == "dead"
            await endpoints.rotate(here.deps, shown.endpoint.endpoint_id)
            await endpoints.disable(here.deps, shown.endpoint.endpoint_id, "a test")
            stored = [str(each) async for each in here.deps.database["webhook_endpoints"].find()]
            letters = [str(each) async for each in here.deps.database["dead_letters"].find()]
    finally:
        logger.remove()
    said = out.getvalue()
    assert "webhook delivered" in said.lower()
    assert "failed for good" in said
    sealed = [secret.sealed for secret in shown.endpoint.secrets]
    for secret in (planted[0], planted[0][6:], "t0psecret", "whsk_", *sealed):
        assert secret not in said
        assert not any(secret in letter for letter in letters)
    assert not any(planted[0][6:] in each or "whsk_" in each for each in stored)
