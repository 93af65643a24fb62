"""The command line of the queue: lanes, jobs, dead letters, as a person uses them and as a script does."""

import asyncio
import json
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest

from src.catalog import CATALOG
from src.deps import Deps
from src.engine.queue import Queue
from src.enqueue import JobQueue
from src.store.schedules import LastRun, Progress
from tests.acceptance.processes import COMMAND, environment, run
from tests.conftest import Servers

pytestmark = pytest.mark.anyio

NOWHERE = {"REDIS_URL": "redis://127.0.0.1:1", "MONGODB_URI": "mongodb://127.0.0.1:1"}
NO_MONGODB = {"MONGODB_URI": "mongodb://127.0.0.1:1"}


@pytest.fixture
def env(servers: Servers, database_name: str) -> dict[str, str]:
    return environment(servers, database_name)


async def call(env: dict[str, str], *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    """`python -m src ...`, while this test's own loop goes on."""
    return await asyncio.to_thread(run, [*COMMAND, *arguments], {**env, **changed})


async def lines(env: dict[str, str], *arguments: str, **changed: str) -> list[dict[str, Any]]:
    """What a command that must go well prints, each line as JSON."""
    done = await call(env, *arguments, **changed)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def letter(deps: Deps, job_id: str, **changed: Any) -> None:
    """A job that failed for good."""
    what: dict[str, Any] = {"job": "sync_page_customers", "lane": "sync", "arguments": {"page_id": job_id}}
    what |= {"error": "Pancake said no [500]", "traceback": "line\n  line", "attempts": [{"at": "t", "error": "x"}]}
    await deps.dead_letters.add_job(letter_id=job_id, job_id=job_id, **(what | changed))


def waiting(deps: Deps) -> Any:
    return deps.redis.zcard("sync")


async def test_a_job_enqueued_by_hand_is_seen_everywhere(deps: Deps, env: dict[str, str]) -> None:
    """`enqueue` stores it, `jobs` lists it, `jobs show` tells of it, `queues` counts it; MongoDB is not needed."""
    call_of = ("enqueue", "sync_page_customers", "--arg", "page_id=100")
    (told,) = await lines(env, *call_of, **NO_MONGODB)
    assert told == {"job_id": told["job_id"], "job": "sync_page_customers", "lane": "sync"}
    assert await lines(env, *call_of, **NO_MONGODB) == [told]  # one pass a page: the first one's id
    (later,) = await lines(env, "enqueue", "sync_pages", "--delay", "900", "--priority", "2", "--unique-key", "k")

    first, second = await lines(env, "jobs", "--json", **NO_MONGODB)
    assert (first["id"], first["state"], first["attempt"]) == (told["job_id"], "pending", 1)
    assert (second["id"], second["state"], second["lane"]) == (later["job_id"], "scheduled", "sync")
    assert 0 <= first["age_s"] < 60

    (shown,) = await lines(env, "jobs", "show", told["job_id"], **NO_MONGODB)
    assert shown == {name: value for name, value in first.items() if name != "age_s"}

    (sync,) = [lane for lane in await lines(env, "queues", "--json", **NO_MONGODB) if lane["lane"] == "sync"]
    assert (sync["pending"], sync["scheduled"], sync["active"], sync["paused"]) == (1, 1, 0, False)


async def test_the_tables_hold_everything_on_one_line_each(deps: Deps, env: dict[str, str]) -> None:
    """Piped into another program nothing is cut or wrapped, and what others sent cannot speak to the terminal."""
    queue = JobQueue(deps.redis)
    job_id = await queue.enqueue("sync_page_customers", page_id="100")
    await letter(deps, "200", error="\x1b[31mred\nand [bold]long[/bold] " + "o" * 300)
    queues = (await call(env, "queues")).stdout.splitlines()
    heads = "lane pending active scheduled retry dead paused latency processed failed"
    assert queues[0].split() == heads.split()
    assert next(line for line in queues if line.startswith("sync ")).split()[:6] == ["sync", "1", "0", "0", "0", "0"]
    head, row = (await call(env, "jobs", "--lane", "sync")).stdout.splitlines()
    assert row.split()[:5] == [job_id, "sync_page_customers", "sync", "pending", "1"]
    head, row = (await call(env, "dead-letters", "list")).stdout.splitlines()
    assert head.split() == ["id", "job", "lane", "status", "times", "last", "error"]
    assert row.split()[:5] == ["200", "sync_page_customers", "sync", "dead", "1"]
    assert row.rstrip().endswith("[31mred and [bold]long[/bold] " + "o" * 300)
    assert "\x1b" not in row


async def test_a_lane_is_listed_in_the_order_it_will_run(deps: Deps, env: dict[str, str]) -> None:
    """Priority goes before, what is due later comes last, and `--limit` cuts at the end."""
    queue = JobQueue(deps.redis)
    late = await queue.enqueue("sync_page_customers", page_id="1", delay_s=500)
    first, second = await queue.enqueue_many("sync_page_customers", [{"page_id": "2"}, {"page_id": "3"}])
    sooner = await queue.enqueue("sync_page_customers", page_id="4", priority=5)
    found = await lines(env, "jobs", "--lane", "sync", "--json")
    assert [job["id"] for job in found] == [sooner, first, second, late]
    assert [job["id"] for job in await lines(env, "jobs", "--lane", "sync", "--limit", "2", "--json")] == [
        sooner,
        first,
    ]
    assert await lines(env, "jobs", "--lane", "webhooks", "--json") == []


async def test_a_lane_is_paused_and_goes_on(deps: Deps, env: dict[str, str]) -> None:
    """`queues` says so meanwhile; twice is once."""
    queue = JobQueue(deps.redis)
    for command, is_paused in (("pause", True), ("pause", True), ("resume", False)):
        done = await call(env, "queues", command, "webhooks", **NO_MONGODB)
        assert (done.returncode, done.stderr) == (0, "")
        assert (await queue.stats())["webhooks"].paused is is_paused
        shown = next(line for line in (await call(env, "queues")).stdout.splitlines() if line.startswith("webhooks "))
        assert ("paused" in shown) is is_paused


async def test_arguments_come_as_the_job_wants_them(deps: Deps, env: dict[str, str]) -> None:
    """Text for text even where it looks like JSON, JSON for a dictionary."""
    arguments = ("--arg", "merchant_id=[7]", "--arg", "event=payment.completed", "--arg", 'payload={"sum": [1, 2]}')
    (told,) = await lines(env, "enqueue", "deliver_webhook", *arguments)
    payload = json.loads(await deps.redis.get(f"arq:job:{told['job_id']}"))["k"]
    assert payload == {"merchant_id": "[7]", "event": "payment.completed", "payload": {"sum": [1, 2]}}


async def test_a_job_nobody_knows_is_said_to_be_unknown(deps: Deps, env: dict[str, str]) -> None:
    """With the dead letter's name where it failed for good, and still one line where MongoDB is away."""
    await letter(deps, "gone")
    for job_id, changed, said in (
        ("gone", {}, "see `dead-letters show gone`"),
        ("never", {}, "there is no job 'never' that waits, runs or ended just now\n"),
        ("never", NO_MONGODB, "is not known: MongoDB at mongodb://127.0.0.1:1/"),
    ):
        done = await call(env, "jobs", "show", job_id, **changed)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


async def test_dead_letters_are_found_by_what_is_known_of_them(deps: Deps, env: dict[str, str]) -> None:
    """Each filter alone and all together, the latest first; `--all` shows what was replayed too."""
    await letter(deps, "1")
    await letter(deps, "2", error="(timeout) of [everything]", job="sync_pages", arguments={})
    await letter(deps, "3", lane="webhooks")
    await letter(deps, "4")
    replayed = await deps.dead_letters.get("4")
    assert replayed
    await deps.dead_letters.replayed(replayed, "replay:4:1")

    async def ids(*options: str) -> list[str]:
        return [found["id"] for found in await lines(env, "dead-letters", "list", "--json", *options, **alone)]

    alone = {"REDIS_URL": "redis://127.0.0.1:1"}  # letters can be read while Redis is away
    assert await ids() == ["3", "2", "1"]
    assert await ids("--all") == ["4", "3", "2", "1"]
    assert await ids("--limit", "1") == ["3"]
    assert await ids("--job", "sync_page_customers") == ["3", "1"]
    assert await ids("--lane", "sync") == ["2", "1"]
    assert await ids("--error", "TIMEOUT) of [") == ["2"]
    assert await ids("--since", "1h", "--until", "2100-01-01") == ["3", "2", "1"]
    assert await ids("--until", "1h ago") == []
    assert await ids("--job", "sync_page_customers", "--lane", "sync", "--error", "said no", "--since", "1d") == ["1"]


async def test_a_letter_is_shown_whole(deps: Deps, env: dict[str, str]) -> None:
    """Arguments, error, traceback, every attempt, and when; also of a job that nobody could read."""
    await letter(deps, "1")
    await letter(deps, "2", raw=b"\x80no json")
    (shown,) = await lines(env, "dead-letters", "show", "1")
    times = {name: shown.pop(name) for name in ("first_at", "last_at")}
    assert shown == {
        "id": "1",
        "kind": "job",
        "status": "dead",
        "job": "sync_page_customers",
        "lane": "sync",
        "error": "Pancake said no [500]",
        "count": 1,
        "arguments": {"page_id": "1"},
        "traceback": "line\n  line",
        "attempts": [{"at": "t", "error": "x"}],
    }
    assert times["first_at"] == times["last_at"]
    assert times["last_at"].endswith("+00:00")
    assert (await lines(env, "dead-letters", "show", "2"))[0]["raw"] == "\ufffdno json"
    done = await call(env, "dead-letters", "show", "3")
    assert (done.returncode, done.stderr) == (1, "there is no dead letter '3'; `dead-letters list` shows them\n")


async def test_replay_by_filter_enqueues_each_once(deps: Deps, env: dict[str, str]) -> None:
    """`--dry-run` only counts; what cannot be replayed is named and stays; a second run finds nothing left."""
    for page_id in ("1", "2", "3"):
        await letter(deps, page_id)
    await letter(deps, "4", arguments={"page": "of an older version"})
    await letter(deps, "5", job="sync_pages", arguments={})
    by_job = ("dead-letters", "replay", "--job", "sync_page_customers", "--per-second", "0.01")
    assert await lines(env, *by_job, "--dry-run") == [{"matching": 4, "enqueued": 0, "refused": 0}]
    assert await waiting(deps) == 0
    done = await call(env, *by_job)
    assert (done.returncode, json.loads(done.stdout)) == (1, {"matching": 4, "enqueued": 3, "refused": 1})
    assert done.stderr.startswith("not replayed: job:4: sync_page_customers(")
    jobs = await lines(env, "jobs", "--json")
    assert sorted(job["state"] for job in jobs) == ["pending", "scheduled", "scheduled"]  # one each 100 s
    done = await call(env, *by_job)
    assert json.loads(done.stdout) == {"matching": 1, "enqueued": 0, "refused": 1}
    assert await waiting(deps) == 3


async def test_one_letter_is_replayed_or_dropped_by_its_id(deps: Deps, env: dict[str, str]) -> None:
    """Replayed twice is replayed once; `queues` counts what is left."""
    await letter(deps, "1")
    await letter(deps, "2")
    told = await lines(env, "dead-letters", "replay", "1")
    assert await lines(env, "dead-letters", "replay", "1") == told == [{"job_id": "replay:1:1"}]
    assert await waiting(deps) == 1
    assert (await JobQueue(deps.redis).stats())["sync"].dead == 1
    assert await lines(env, "dead-letters", "drop", "2") == [{"dropped": 1}]
    assert await lines(env, "dead-letters", "drop", "2") == [{"dropped": 0}]  # as safe to repeat
    assert (await JobQueue(deps.redis).stats())["sync"].dead == 0
    assert await deps.dead_letters.get("2") is None


async def test_drop_takes_what_was_named_and_no_more(deps: Deps, env: dict[str, str]) -> None:
    """By filter, with `--dry-run` nothing, and everything only where that is said."""
    for job_id in ("1", "2"):
        await letter(deps, job_id)
    await letter(deps, "3", lane="webhooks")
    by_lane = ("dead-letters", "drop", "--lane", "sync", "--until", "2100-01-01T00:00+07:00")
    assert await lines(env, *by_lane, "--dry-run") == [{"matching": 2, "dropped": 0}]
    assert await deps.dead_letters.count() == 3
    assert await lines(env, *by_lane) == [{"matching": 2, "dropped": 2}]
    assert await deps.dead_letters.count() == 1
    assert await lines(env, "dead-letters", "drop", "--everything") == [{"matching": 1, "dropped": 1}]


WRONG_CALLS = [
    (["enqueue", "sync_nothing"], "there is no job 'sync_nothing'; there are check_agents"),
    (["enqueue", "sync_page_customers"], "page_id: field required"),
    (["enqueue", "sync_pages", "--arg", "x"], "write name=value"),
    (["enqueue", "sync_pages", "--arg", "x=1"], "x: extra inputs"),
    (["enqueue", "deliver_webhook", "--arg", "payload=pay_1"], "--arg payload: is to be JSON"),
    (["enqueue", "sync_pages", "--priority", "-1"], "priority must be 0 to 1000"),
    (["enqueue", "sync_pages", "--delay", "nan"], "delay_s must be 0 to"),
    (["dead-letters", "list", "--since", "yesterday"], "--since: 'yesterday' is no time"),
    (["dead-letters", "list", "--since", "1h", "--until", "2h"], "--since is not before --until"),
    (["dead-letters", "list", "--job", ""], "--job is empty"),
    (["dead-letters", "drop"], "which ones?"),
    (["dead-letters", "drop", "--error", " "], "--error is empty"),
    (["dead-letters", "drop", "--dry-run"], "which ones?"),
    (["dead-letters", "drop", "1", "--everything"], "an ID names one letter"),
    (["dead-letters", "drop", "1", "--dry-run"], "an ID names one letter"),
    (["dead-letters", "drop", "--lane", "sync", "--everything"], "--everything goes with no other choice"),
    (["dead-letters", "replay"], "which ones?"),
    (["dead-letters", "replay", "1", "--job", "sync_pages"], "an ID names one letter"),
    (["dead-letters", "replay", "--everything", "--per-second", "0"], "--per-second must be above 0"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG_CALLS, ids=[" ".join(each) for each, _ in WRONG_CALLS])
async def test_a_wrong_call_does_nothing(env: dict[str, str], arguments: list[str], said: str) -> None:
    """Exit 2 and one line, whether or not the servers are there."""
    done = await call(env, *arguments, **NOWHERE)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["queues", "pause", "web hooks"],
        ["queues", "resume", ""],
        ["jobs", "--lane", "web hooks"],
        ["dead-letters", "replay", "none"],
    ],
    ids=" ".join,
)
async def test_a_name_that_is_none_is_a_wrong_call(deps: Deps, env: dict[str, str], arguments: list[str]) -> None:
    """Exit 2 and one line that says where the right names are; a lane that is no lane is not paused into being."""
    done = await call(env, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not await deps.redis.exists("folkform:paused")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["queues"], "Redis does not answer at redis://127.0.0.1:1"),
        (["queues", "pause", "sync"], "Redis does not answer at redis://127.0.0.1:1"),
        (["jobs"], "Redis does not answer at redis://127.0.0.1:1"),
        (["jobs", "show", "1"], "Redis does not answer at redis://127.0.0.1:1"),
        (["enqueue", "sync_pages"], "Redis does not answer at redis://127.0.0.1:1"),
        (["dead-letters", "list"], "MongoDB does not answer at mongodb://127.0.0.1:1"),
        (["dead-letters", "replay", "1"], "Redis does not answer at redis://127.0.0.1:1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_a_server_that_is_away_is_named(env: dict[str, str], arguments: list[str], said: str) -> None:
    """Exit 1 and one line that says what to do."""
    done = await call(env, *arguments, **NOWHERE)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


async def test_rows_that_could_not_be_read_are_listed_by_name(deps: Deps, env: dict[str, str]) -> None:
    await deps.dead_letters.add_row(
        stream="customers", page_id="100", row_id="c1", error="name: no text", raw='{"id":"c1"}'
    )
    await letter(deps, "j1")
    (row,) = await lines(env, "dead-letters", "list", "--rows", "--json")
    assert (row["id"], row["stream"], row["page_id"], row["error"]) == (
        *("row:customers:100:c1", "customers", "100", "name: no text"),
    )
    table = await call(env, "dead-letters", "list", "--rows")
    assert table.stdout.splitlines()[1].split()[:3] == ["row:customers:100:c1", "customers", "100"]
    (shown,) = await lines(env, "dead-letters", "show", row["id"])
    assert shown["raw"] == '{"id":"c1"}'
    assert (await call(env, "dead-letters", "list", "--rows", "--job", "x")).returncode == 2
    assert await lines(env, "dead-letters", "drop", row["id"]) == [{"dropped": True}]


async def test_a_tick_that_is_cancelled_while_it_waits_leaves_its_trace(deps: Deps, env: dict[str, str]) -> None:
    """In the history and at its schedule, which would go on showing the run before it; without MongoDB that is said."""
    tick = datetime(2026, 5, 14, 2, tzinfo=UTC)
    queue = Queue(deps.redis, CATALOG)
    ticks = [
        queue.prepare(
            "sync_pages", {}, job_id=f"nightly:{n}", unique_key=str(n), tick=("nightly", tick.timestamp() + n)
        )
        for n in range(2)
    ]
    first, second = await queue.put(ticks)
    await deps.schedules.note("nightly", Progress(tick=tick), make=True)
    await deps.schedules.ran("nightly", LastRun("done", tick, 5.0, ""), 1)

    assert await lines(env, "jobs", "cancel", first) == [{"job_id": first, "was": "waiting"}]
    (ran,) = await lines(env, "runs", "--schedule", "nightly", "--json")
    assert (ran["job_id"], ran["end"], ran["job"]) == (first, "cancelled", "sync_pages")
    assert ran["tick_at"] == tick.isoformat()
    last = (await deps.schedules.all())["nightly"].last_run
    assert last is not None
    assert (last.end, last.error) == ("cancelled", "it was stopped while it waited")

    away = await call(env, "jobs", "cancel", second, **NO_MONGODB)
    assert away.returncode == 0
    assert json.loads(away.stdout) == {"job_id": second, "was": "waiting"}
    assert "MongoDB is away" in away.stderr
    assert not await deps.redis.exists("arq:job:" + second)
