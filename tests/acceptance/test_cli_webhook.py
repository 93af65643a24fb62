"""`webhook ...` as an operator uses it: endpoints, events, deliveries, replays; on real servers, by real processes."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from src.deps import Deps
from src.rules.vault import new_key
from src.store.webhook_records import Change, Status
from tests.acceptance.processes import COMMAND, WORKER, environment, run, running
from tests.acceptance.test_cli_queue import NOWHERE, call, lines
from tests.conftest import Servers

pytestmark = pytest.mark.anyio

KEY, OTHER_KEY = new_key(b"k" * 32), new_key(b"o" * 32)
OWN = "whsec_" + "QUJD" * 8
LOCAL = {"WEBHOOK_ALLOW_HTTP": "true", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
NO_REDIS = {"REDIS_URL": "redis://127.0.0.1:1"}
ADD = ("webhook", "endpoint", "add", "--merchant")
SEND = ("webhook", "send", "--merchant", "m1", "--event", "payment.completed")
WORD = "the payload of payment.completed is 262145 bytes long, at most 262144 are taken; send an id"


class Shop:
    """A merchant's server. `status`: what it answers; `heard`: each request as (headers, body)."""

    def __init__(self) -> None:
        self.status, self.heard = 200, list[tuple[dict[str, str], bytes]]()
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                shop.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
                answer = b"\x1b[31mno thanks"
                self.send_response(shop.status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?token=hidden"


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    thread = Thread(target=shop.server.serve_forever)
    thread.start()
    yield shop
    shop.server.shutdown()
    shop.server.server_close()
    thread.join()


@pytest.fixture
def env(servers: Servers, database_name: str) -> dict[str, str]:
    names = ("WEBHOOK_MAX_TRIES", "WEBHOOK_SECRETS_KEY", "TIMEZONE")
    return {**environment(servers, database_name, **LOCAL), **dict(zip(names, ("2", KEY, "Asia/Tokyo"), strict=True))}


@pytest.fixture
async def added(deps: Deps, env: dict[str, str], shop: Shop) -> dict[str, Any]:
    """An endpoint of merchant m1 for all payments."""
    (told,) = await lines(env, *ADD, "m1", "--url", shop.url, "--event", "payment.*")
    return told


async def sent(env: dict[str, str], *options: str) -> dict[str, Any]:
    (told,) = await lines(env, *SEND, "--data", '{"payment_id": "pay_1"}', *options)
    return told


async def settle(deps: Deps, told: dict[str, Any], status: Status, error: str = "it answered 500") -> None:
    """Let each delivery of a sent event stand like that after one call."""
    row = {"at": datetime.now(UTC), "number": 1, "status": 500, "ms": 12.3, "error": error, "response": "no"}
    for endpoint_id in told["endpoints"]:
        change = Change(f"{told['event_id']}:{endpoint_id}", status, attempts=({**row, "counts": True},), tries=1)
        await deps.merchants.deliveries.settle(Change(change.delivery_id, status, None, change.attempts, 1, error))


async def statuses(deps: Deps, *told: dict[str, Any]) -> list[str]:
    return [each["status"] for one in told for each in await deps.merchants.deliveries.of_event(one["event_id"])]


async def test_an_endpoint_is_added_and_its_secret_shown_this_once(deps: Deps, env: dict[str, str], shop: Shop) -> None:
    """One JSON line; with a key nothing of the secret is in MongoDB in clear, and no other command prints it."""
    done = await call(
        env, *ADD, "m1", "--url", shop.url, "--event", "a.b", "--event", "c.*", "--secret", OWN, "--with-key",
        "--rate", "5", "--max-in-flight", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {
        "endpoint_id": told["endpoint_id"],
        "merchant_id": "m1",
        "url": shop.url,
        "events": ["a.b", "c.*"],
        "secret": OWN,
        "public_key": told["public_key"],
    }
    assert told["public_key"].startswith("whpk_")
    assert done.stderr == "the secret is shown this once: hand it to the merchant by a safe way\n"
    stored = str(await deps.database["webhook_endpoints"].find_one())
    assert "whsec_" not in stored
    assert "whsk_" not in stored
    (listed,) = await lines(env, "webhook", "endpoint", "list", "--json")
    assert listed == {
        "endpoint_id": told["endpoint_id"],
        "merchant_id": "m1",
        "events": ["a.b", "c.*"],
        "url": shop.url.partition("?")[0],
        "enabled": True,
        "disabled_reason": None,
        "disabled_at": None,
        "failing_since": None,
        "failures": 0,
        "closed_until": None,
        "secrets": 2,
        "rate_per_second": 5.0,
        "max_in_flight": 2,
        "created_at": listed["created_at"],
    }
    for command in (["endpoint", "list"], ["endpoint", "list", "--json"], ["show", told["endpoint_id"]]):
        shown = await call(env, "webhook", *command)
        assert shown.returncode == 0
        for hidden in ("whsec_", OWN[6:], "whsk_", "enc:", "token=hidden"):
            assert hidden not in shown.stdout + shown.stderr


async def test_what_should_be_looked_at_is_a_warning(deps: Deps, env: dict[str, str]) -> None:
    """A name that does not resolve now, and secrets that are stored as they are; the endpoint is there all the same."""
    del env["WEBHOOK_SECRETS_KEY"]
    done = await call(env, *ADD, "m1", "--url", "https://shop.invalid/hook")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    _, unresolved, plain = done.stderr.splitlines()
    assert unresolved.startswith("warning: ")
    assert "shop.invalid" in unresolved
    assert plain.startswith("warning: WEBHOOK_SECRETS_KEY is not set, so the secret is stored as it is")
    (endpoint,) = await deps.merchants.endpoints.all()
    assert endpoint.url == "https://shop.invalid/hook"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["m1", "--url", "https://10.0.0.1/hook"], "10.0.0.1 must not be called"),
        (["m1", "--url", "http://93.184.215.14/hook"], "must begin with https://"),
        (["m1", "--url", "https://user@93.184.215.14/"], "leave user and password out"),
        (["m1", "--url", "https://93.184.215.14:8443/"], "port 8443 must not be called: use 443"),
        (["m1", "--url", "shop.example"], "must begin with https://"),
        (["m1", "--url", "https:///hook"], "has no host"),
        (["m1", "--url", " "], "--url is empty"),
        (["", "--url", "https://93.184.215.14/"], "--merchant is empty"),
        (["m" * 129, "--url", "https://93.184.215.14/"], "--merchant has 1 to 128"),
        (["m1", "--url", "https://93.184.215.14/", "--event", "pay ment"], "write payment.completed"),
        (["m1", "--url", "https://93.184.215.14/", "--secret", ""], "--secret is empty"),
        (["m1", "--url", "https://93.184.215.14/", "--secret", "whsec_QUJD"], "--secret: the secret is too short"),
        (["m1", "--url", "https://93.184.215.14/", "--rate", "nan"], "--rate: calls a second"),
        (["m1", "--url", "https://93.184.215.14/", "--max-in-flight", "0"], "--max-in-flight: 1 to"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
async def test_an_endpoint_that_must_not_be_is_refused(
    deps: Deps, env: dict[str, str], options: list[str], said: str
) -> None:
    """Exit 2, one line that says why, nothing stored."""
    for name in LOCAL:
        del env[name]
    done = await call(env, *ADD, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert await deps.merchants.endpoints.all() == []


@pytest.mark.parametrize("command", ["enable", "disable", "rotate"])
async def test_an_endpoint_nobody_knows(deps: Deps, env: dict[str, str], command: str) -> None:
    """Exit 2 and where the right ones are."""
    done = await call(env, "webhook", "endpoint", command, "ep_nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "there is no endpoint 'ep_nobody'; `webhook endpoint list` shows them\n"


async def test_a_secret_is_exchanged(deps: Deps, env: dict[str, str], added: dict[str, Any]) -> None:
    """A new one is printed once, the old one signs beside it as long as was asked; what is no span is refused."""
    rotate = ("webhook", "endpoint", "rotate", added["endpoint_id"])
    for wrong in (["--overlap-hours", "nan"], ["--overlap-hours", "-1"], ["--secret", ""], ["--secret", "whsec_x"]):
        done = await call(env, *rotate, *wrong)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    done = await call(env, *rotate, "--overlap-hours", "1")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {**added, "secret": told["secret"]}
    assert told["secret"] != added["secret"]
    assert "the old one signs too until " in done.stderr
    (endpoint,) = await deps.merchants.endpoints.all()
    new, old = endpoint.secrets
    assert new.expires_at is None
    assert old.expires_at
    assert timedelta(minutes=59) < old.expires_at - datetime.now(UTC) < timedelta(minutes=61)
    done = await call(env, *rotate, "--secret", OWN, "--overlap-hours", "0")
    assert json.loads(done.stdout)["secret"] == OWN
    assert "the old one signs no more" in done.stderr
    (listed,) = await lines(env, "webhook", "endpoint", "list", "--json")
    assert listed["secrets"] == 1


async def test_reseal_seals_what_is_stored(deps: Deps, env: dict[str, str], shop: Shop) -> None:
    """After a key was set, and after it was changed; a key that is lost is named, and costs the others nothing."""
    reseal = ("webhook", "endpoint", "reseal")
    add = (*ADD, "m1", "--url", shop.url)
    await lines(env, *add, WEBHOOK_SECRETS_KEY="")
    done = await call(env, *reseal, WEBHOOK_SECRETS_KEY="")
    assert (done.returncode, done.stderr) == (2, "WEBHOOK_SECRETS_KEY is not set: `webhook key` makes a key\n")
    for key, count in ((KEY, 1), (KEY, 0), (f"{OTHER_KEY},{KEY}", 1)):
        done = await call(env, *reseal, WEBHOOK_SECRETS_KEY=key)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{count} secrets were sealed with the first key of WEBHOOK_SECRETS_KEY\n"
    assert "whsec_" not in str(await deps.database["webhook_endpoints"].find_one())
    await lines(env, *add, WEBHOOK_SECRETS_KEY="")
    lost, _ = await deps.merchants.endpoints.all()
    done = await call(env, *reseal)  # the other key is away
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"1 secrets were sealed, but not all; {lost.endpoint_id}: a stored webhook secret ")


async def test_a_key_is_made(env: dict[str, str]) -> None:
    """Another one each time, without servers and whatever the settings are."""
    keys = [(await call(env, "webhook", "key", WEBHOOK_MAX_TRIES="many", **NOWHERE)).stdout for _ in range(2)]
    assert len({*keys}) == 2
    (told,) = await lines(env, *ADD, "m1", "--url", "https://93.184.215.14/", WEBHOOK_SECRETS_KEY=keys[0].strip())
    assert told["secret"].startswith("whsec_")


async def test_an_event_is_sent_once_a_key(deps: Deps, env: dict[str, str], added: dict[str, Any]) -> None:
    """The same key brings back the same event; with another payload it is refused."""
    first = await sent(env, "--key", "order-1", "--order-key", "pay_1")
    assert first == {"event_id": first["event_id"], "endpoints": [added["endpoint_id"]], "duplicate": False}
    assert await sent(env, "--key", "order-1") == {**first, "duplicate": True}
    done = await call(env, *SEND, "--data", '{"payment_id": "pay_2"}', "--key", "order-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"idempotency key 'order-1' came with another payload before: {first['event_id']}\n")
    assert await deps.redis.zcard("webhooks") == 1
    event = await deps.merchants.events.get(first["event_id"])
    assert event
    assert (event.order_key, json.loads(event.body)["data"]) == ("pay_1", {"payment_id": "pay_1"})


async def test_the_payload_comes_from_wherever(
    deps: Deps, env: dict[str, str], added: dict[str, Any], tmp_path: Path
) -> None:
    """From a file or standard input, up to the limit to the byte, spaces not counted."""
    data = {"text": "é" * ((262_144 - len('{"text":""}')) // 2)}
    (tmp_path / "data.json").write_text(json.dumps({**data, "text": data["text"] + "x"}, indent=4))
    (told,) = await lines(env, *SEND, "--data-file", str(tmp_path / "data.json"))
    assert told["endpoints"] == [added["endpoint_id"]]
    (tmp_path / "data.json").write_text(json.dumps({**data, "text": data["text"] + "xx"}, indent=4))
    done = await call(env, *SEND, "--data-file", str(tmp_path / "data.json"), **NOWHERE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(WORD)
    for option in ("--data", "--data-file"):
        piped = ["sh", "-c", 'printf %s "$0" | "$@"', '{"a": [1, 2.5, "\\u00e9"]}', *COMMAND, *SEND, option, "-"]
        done = await asyncio.to_thread(run, piped, env)
        assert done.returncode == 0, done.stderr
        event = await deps.merchants.events.get(json.loads(done.stdout)["event_id"])
        assert event
        assert event.body.endswith(',"data":{"a":[1,2.5,"é"]}}'.encode())


async def test_an_event_for_nobody_is_stored(deps: Deps, env: dict[str, str], added: dict[str, Any]) -> None:
    """Exit 0 and a note; of a merchant nobody knows, exit 2 and nothing stored."""
    done = await call(env, *SEND[:-1], "order.created", "--data", "{}")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["endpoints"], told["duplicate"]) == ([], False)
    assert done.stderr.startswith("nobody is told: m1 has no enabled endpoint that has subscribed to order.created")
    shown = await call(env, "webhook", "show", told["event_id"])
    assert (shown.returncode, shown.stderr) == (0, "there is no delivery: no endpoint had subscribed to it\n")
    assert "order.created" in shown.stdout
    done = await call(env, "webhook", "send", "--merchant", "m2", "--event", "order.created", "--data", "{}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("merchant m2 is unknown: add an endpoint with `webhook endpoint add --merchant m2")
    assert await deps.database["webhook_events"].count_documents({}) == 1


async def test_a_delivery_from_its_start_to_its_end(
    deps: Deps, env: dict[str, str], added: dict[str, Any], shop: Shop, tmp_path: Path
) -> None:
    """Sent, refused until it is dead, seen with every attempt, replayed under the same id, and delivered."""
    env |= {"WEBHOOK_BACKOFF_BASE_SECONDS": "0.1", "WORKER_LANES": "webhooks,webhooks_retry"}
    shop.status = 500
    with running(WORKER, env, tmp_path / "log"):
        told = await sent(env)
        await reached(deps, told, "dead")
        table = (await call(env, "webhook", "show", told["event_id"], "--body", **NO_REDIS)).stdout
        assert "\x1b" not in table
        assert "whsec_" not in table
        for text in ("payment.completed", '"payment_id":"pay_1"', "dead", "2 of 2", "it answered 500", "[31mno thanks"):
            assert text in table
        shop.status = 200
        (replayed,) = await lines(env, "webhook", "replay", "--merchant", "m1", "--since", "1h")
        assert (replayed["matching"], replayed["enqueued"]) == (1, 1)
        await reached(deps, told, "delivered")
    assert {heard["webhook-id"] for heard, _ in shop.heard} == {told["event_id"]}
    assert len(shop.heard) == 3
    (shown,) = await lines(env, "webhook", "show", told["event_id"], "--json", "--body", **NO_REDIS)
    assert (shown["status"], shown["error"], shown["body"]["data"]) == ("delivered", None, {"payment_id": "pay_1"})
    assert [(each["number"], each["status"], each["counts"]) for each in shown["attempts"]] == [
        *((1, 500, True), (2, 500, True), (3, 200, False))
    ]


async def reached(deps: Deps, told: dict[str, Any], status: str) -> None:
    for _ in range(600):
        if await statuses(deps, told) == [status]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"in 30 s it did not come to be {status}")


async def test_deliveries_are_found_by_what_is_known_of_them(
    deps: Deps, env: dict[str, str], added: dict[str, Any], shop: Shop
) -> None:
    """Each filter alone and together, the latest first, while Redis is away; an endpoint shows its own."""
    (other,) = await lines(env, *ADD, "m2", "--url", shop.url)
    first, second = await sent(env), await sent(env)
    (third,) = await lines(env, "webhook", "send", "--merchant", "m2", "--event", "x.y", "--data", "{}")
    await settle(deps, first, "dead", "nobody\x1b[31m\nthere")

    async def ids(*options: str) -> list[str]:
        found = await lines(env, "webhook", "list", "--json", *options, **NO_REDIS)
        return [each["event_id"] for each in found]

    one, two, three = (told["event_id"] for told in (first, second, third))
    assert await ids() == [three, two, one]
    assert await ids("--limit", "1") == [three]
    assert await ids("--merchant", "m1", "--event", "payment.completed", "--since", "1h") == [two, one]
    assert await ids("--endpoint", other["endpoint_id"]) == [three]
    assert await ids("--status", "dead") == [one]
    assert await ids("--status", "dead", "--status", "pending", "--merchant", "m1") == [two, one]
    assert await ids("--until", "1h") == []
    assert [told["event_id"] for told in await lines(env, "webhook", "show", added["endpoint_id"], "--json")] == [
        *(two, one)
    ]
    table = (await call(env, "webhook", "list", "--limit", "2")).stdout.splitlines()
    assert table[0].split() == [
        "id",
        "merchant",
        "event",
        "status",
        "calls",
        "tries",
        "accepted",
        "next",
        "try",
        "error",
    ]
    assert table[1].split()[:7] == [f"{three}:{other['endpoint_id']}", "m2", "x.y", "pending", "0", "0", "of"]
    (row,) = [
        line for line in (await call(env, "webhook", "show", added["endpoint_id"])).stdout.splitlines() if one in line
    ]
    assert row.rstrip().endswith("nobody [31m there")
    (shown,) = await lines(env, "webhook", "show", f"{one}:{added['endpoint_id']}", "--json")
    assert (shown["status"], shown["attempts"][0]["status"]) == ("dead", 500)
    accepted = datetime.fromisoformat(shown["accepted_at"])
    tokyo = (accepted + timedelta(hours=9)).strftime("%Y-%m-%d %H:%M:%S")
    assert f"accepted        {tokyo}\n" in (await call(env, "webhook", "show", one)).stdout
    for unknown in ("evt_none", f"{one}:ep_none", "ep_none"):
        done = await call(env, "webhook", "show", unknown)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"there is no event, delivery or endpoint '{unknown}'")


async def test_only_what_was_asked_for_is_replayed(deps: Deps, env: dict[str, str], added: dict[str, Any]) -> None:
    """Dead ones unless others are named, `--dry-run` none, by id what has not arrived; and a replay is cancelled."""
    dead, arrived, waiting = await sent(env), await sent(env), await sent(env)
    await settle(deps, dead, "dead")
    await settle(deps, arrived, "delivered")
    by_merchant = ("webhook", "replay", "--merchant", "m1")
    for options, matching in (
        ([], 1),
        (["--status", "delivered"], 1),
        (["--status", "dead", "--status", "pending"], 2),
    ):
        (told,) = await lines(env, *by_merchant, *options, "--dry-run")
        assert (told["matching"], told["enqueued"]) == (matching, 0)
    assert await statuses(deps, dead, arrived, waiting) == ["dead", "delivered", "pending"]
    (told,) = await lines(env, *by_merchant, "--since", "1d", "--per-second", "0.5")
    assert told == {"replay_id": told["replay_id"], "matching": 1, "enqueued": 1}
    assert await statuses(deps, dead, arrived, waiting) == ["pending", "delivered", "pending"]
    assert await lines(env, "webhook", "replay", "--cancel", told["replay_id"]) == [{"cancelled": 1}]
    assert await lines(env, "webhook", "replay", "--cancel", told["replay_id"]) == [{"cancelled": 0}]
    assert await statuses(deps, dead) == ["dead"]
    (told,) = await lines(env, "webhook", "replay", dead["event_id"])
    assert (told["matching"], told["enqueued"]) == (1, 1)
    done = await call(env, "webhook", "replay", arrived["event_id"])
    assert (done.returncode, json.loads(done.stdout)["enqueued"]) == (0, 0)
    assert done.stderr == "nothing of it is left to send; --status delivered sends again what has arrived\n"
    one = f"{arrived['event_id']}:{added['endpoint_id']}"
    (told,) = await lines(env, "webhook", "replay", one, "--status", "delivered")
    assert (told["matching"], told["enqueued"]) == (1, 1)
    assert await statuses(deps, arrived) == ["pending"]


async def test_what_a_disabled_endpoint_missed_is_sent_later(
    deps: Deps, env: dict[str, str], added: dict[str, Any]
) -> None:
    """`disable` says why, `enable` says how the missing ones are sent, and they are, each once."""
    endpoint_id = added["endpoint_id"]
    parked = await sent(env)
    await settle(deps, parked, "parked")
    done = await call(env, "webhook", "endpoint", "disable", endpoint_id, "--reason", "they asked")
    assert done.stdout.startswith(f"{endpoint_id} is disabled; ")
    assert "was disabled already" in (await call(env, "webhook", "endpoint", "disable", endpoint_id)).stdout
    missed = await sent(env)
    assert missed["endpoints"] == []
    table = (await call(env, "webhook", "endpoint", "list", "--merchant", "m1")).stdout.splitlines()
    assert table[1].rstrip().endswith("disabled: they asked")
    missing = ("webhook", "replay", "--missing", "--endpoint", endpoint_id, "--since")
    done = await call(env, *missing, "1h")
    assert (done.returncode, done.stderr) == (
        *(2, f"{endpoint_id} is disabled: `webhook endpoint enable {endpoint_id}` first\n"),
    )
    done = await call(env, "webhook", "endpoint", "enable", endpoint_id)
    assert done.stdout == f"{endpoint_id} is enabled; 1 parked deliveries go out, 20 a second\n"
    assert await statuses(deps, parked) == ["pending"]
    said = done.stderr.partition("`webhook replay ")[2].partition("`")[0].split()
    for _ in range(2):  # a dry run changes nothing
        (told,) = await lines(env, "webhook", "replay", *said, "--dry-run")
        assert (told["matching"], told["enqueued"]) == (1, 0)
    for count in (1, 0):
        (told,) = await lines(env, *missing, "1h", "--until", "0s")
        assert (told["matching"], told["enqueued"]) == (count, count)
    assert await statuses(deps, missed) == ["pending"]


async def test_an_endpoint_that_fails_is_seen_to_fail(deps: Deps, env: dict[str, str], added: dict[str, Any]) -> None:
    """Since when, how often in a row and until when it is left alone; in the zone of the settings."""
    since, until = datetime(2026, 5, 4, 3, tzinfo=UTC), datetime.now(UTC) + timedelta(hours=1)
    await deps.merchants.endpoints.failed(added["endpoint_id"], since)
    gate = f"folkform:gate:{added['endpoint_id']}"
    await deps.redis.execute_command("HSET", gate, "fails", 12, "until", int(until.timestamp() * 1000))
    (listed,) = await lines(env, "webhook", "endpoint", "list", "--json")
    assert (listed["failing_since"], listed["failures"]) == ("2026-05-04T03:00:00+00:00", 12)
    assert abs(datetime.fromisoformat(listed["closed_until"]) - until) < timedelta(seconds=1)
    table = (await call(env, "webhook", "endpoint", "list")).stdout
    assert "2026-05-04 12:00:00" in table
    assert (until + timedelta(hours=9)).strftime("%Y-%m-%d %H:%M:%S") in table


WRONG_CALLS = [
    ([*SEND], "what is to be sent?"),
    ([*SEND, "--data", "{}", "--data-file", "-"], "what is to be sent?"),
    ([*SEND, "--data", "[1]"], "--data is to be a JSON object"),
    ([*SEND, "--data", "{'a': 1}"], "--data is to be JSON, and is not"),
    ([*SEND, "--data", '{"a": NaN}'], "NaN is no number of JSON"),
    ([*SEND, "--data", '{"a": 1e999}'], "1e999 is no number of JSON"),
    ([*SEND, "--data", '{"a": 20000000000000000000}'], "Integer exceeds 64-bit range"),
    ([*SEND, "--data", "[" * 100_000], "--data is to be JSON, and is not"),
    ([*SEND, "--data-file", "/nowhere/at.all"], "--data-file /nowhere/at.all: No such file"),
    ([*SEND, "--data", "{}", "--key", ""], "idempotency_key has 1 to 256"),
    ([*SEND[:-1], "a b", "--data", "{}"], "'a b' is n"),
    (["webhook", "send", "--merchant", "", "--event", "a", "--data", "{}"], "merchant_id"),
    (["webhook", "list", "--merchant", ""], "--merchant is empty"),
    (["webhook", "list", "--since", "1h", "--until", "2h"], "--since is not before --until"),
    (["webhook", "endpoint", "list", "--merchant", " "], "--merchant is empty"),
    (["webhook", "replay"], "which ones?"),
    (["webhook", "replay", "--status", "dead"], "which ones?"),
    (["webhook", "replay", "--dry-run"], "which ones?"),
    (["webhook", "replay", "--endpoint", ""], "--endpoint is empty"),
    (["webhook", "replay", ""], "ID is empty"),
    (["webhook", "replay", "evt_1", "--merchant", "m1", "--dry-run"], "an ID names what is meant: leave out --dry-run"),
    (["webhook", "replay", "--missing", "--endpoint", "ep_1"], "--missing needs --endpoint and --since"),
    (["webhook", "replay", "--missing", "--status", "dead"], "leave out --status"),
    (["webhook", "replay", "--cancel", "rpl_1", "--merchant", "m1"], "leave out --merchant"),
    (["webhook", "replay", "--cancel", "evt_1"], "--cancel wants the replay_id"),
    (["webhook", "replay", "--since", "soon"], "--since: 'soon' is no time"),
    (["webhook", "replay", "--since", "1h", "--per-second", "0"], "--per-second must be above 0"),
    (["webhook", "replay", "--since", "1h", "--per-second", "1e-300"], "--per-second is at least 0.001"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG_CALLS, ids=[" ".join(each)[:90] for each, _ in WRONG_CALLS])
async def test_a_wrong_call_does_nothing(env: dict[str, str], arguments: list[str], said: str) -> None:
    """Exit 2 and one line, whether or not the servers are there."""
    done = await call(env, *arguments, **NOWHERE)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "evt_none"], "there is no event or delivery 'evt_none'"),
        (["replay", "--endpoint", "ep_none"], "there is no endpoint 'ep_none'"),
        (["replay", "--missing", "--endpoint", "ep_none", "--since", "1h"], "there is no endpoint 'ep_none'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_a_name_that_is_none_is_a_wrong_call(
    deps: Deps, env: dict[str, str], arguments: list[str], said: str
) -> None:
    """Exit 2 and one line that says where the right names are."""
    done = await call(env, "webhook", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["endpoint", "list"], "Redis does not answer at redis://127.0.0.1:1"),
        (["endpoint", "reseal"], "Redis does not answer at redis://127.0.0.1:1"),
        (["send", "--merchant", "m1", "--event", "a", "--data", "{}"], "Redis does not answer at redis://127.0.0.1:1"),
        (["show", "evt_1"], "MongoDB does not answer at mongodb://127.0.0.1:1"),
        (["list"], "MongoDB does not answer at mongodb://127.0.0.1:1"),
        (["replay", "evt_1"], "Redis does not answer at redis://127.0.0.1:1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_a_server_that_is_away_is_named(env: dict[str, str], arguments: list[str], said: str) -> None:
    """Exit 1 and one line that says what to do."""
    done = await call(env, "webhook", *arguments, **NOWHERE)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
