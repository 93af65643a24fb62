"""docs/enqueue.md: its programs are the files of docs/examples, and each of them does what it says, on a real Redis."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.acceptance.processes import ROOT, WORKER, environment, of_simulator, running, until
from tests.conftest import Servers
from tests.simulators.pancake import SimulatorProcess

DOCS = ROOT / "docs"
EXAMPLES = sorted(set((DOCS / "examples").glob("*.py")) - {DOCS / "examples" / "verify_webhook.py"})
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SERVERS = {
    "fastapi": ["-m", "uvicorn", "fastapi_app:app", "--port", "0"],
    "aiohttp": [str(DOCS / "examples" / "aiohttp_app.py")],
}


@pytest.fixture
def redis(servers: Servers) -> Iterator[Redis]:
    with Redis.from_url(servers.redis_url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def env(servers: Servers, database_name: str, unpacked: Path) -> dict[str, str]:
    """An app's: our wheel is installed, our checkout is not in sight."""
    return {
        **environment(servers, database_name),
        "PYTHONPATH": f"{unpacked}:{DOCS / 'examples'}",
        "PYTHONUNBUFFERED": "1",
        "PORT": "0",
    }


@pytest.fixture
def _worker(servers: Servers, redis: Redis, database_name: str, tmp_path: Path) -> Iterator[None]:
    quiet = ("--live", "0", "--switches", '{"rate_limit": 0}')
    with SimulatorProcess("--pages", "2", "--customers", "20", *quiet) as simulator:
        env = environment(servers, database_name, **of_simulator(simulator), SCHEDULE_SYNC_PAGES="off")
        with running(WORKER, env, tmp_path / "worker.log"):
            yield


def stored(redis: Redis, job_id: str) -> dict[str, Any]:
    """A job as it waits in Redis; empty for one that is over by now."""
    written: Any = redis.get(f"arq:job:{job_id}")
    return dict(json.loads(written or "{}"))


def run_alone(program: str, env: dict[str, str], folder: Path) -> str:
    """What an example says, run to its end in a folder of its own."""
    command = [sys.executable, str(DOCS / "examples" / program)]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=90, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return done.stderr


@contextmanager
def served(kind: str, env: dict[str, str], folder: Path) -> Iterator[httpx.Client]:
    """An example that is a server, on a free port that it tells; a client that speaks with it."""
    log = folder / f"{kind}.log"
    command = [sys.executable, *SERVERS[kind]]

    def address() -> str | None:
        found = re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text(), re.IGNORECASE)
        return found[1] if found else None

    with running(command, env, log):
        until(lambda: address() is not None, f"{kind} listens")
        with httpx.Client(base_url=str(address()), timeout=20) as client:
            yield client


def test_the_page_shows_the_programs_that_are_tested() -> None:
    """Every block of Python in the page is one of the files, word for word, and every file is there."""
    blocks = FENCE.findall((DOCS / "enqueue.md").read_text())
    files = {path.read_text(): path.name for path in EXAMPLES}
    assert sorted(files.get(block, f"no file: {block[:60]}") for block in blocks) == sorted(files.values())


@pytest.mark.usefixtures("_worker")
def test_the_script_pushes_and_follows(redis: Redis, env: dict[str, str], tmp_path: Path) -> None:
    """Its first job is done by a worker; what is to come later waits, once."""
    said = run_alone("script.py", env, tmp_path)
    assert "our mistake, and nothing was enqueued: sync_page_customers(" in said
    assert "the same job: True" in said
    assert "sync_pages is done: synced" in said
    ids: Any = redis.zrange("sync", 0, -1)
    waiting = [stored(redis, job_id.decode()).get("f") for job_id in ids]
    assert waiting.count("sync_customers_incremental") == 1


@pytest.mark.usefixtures("_worker")
def test_a_plain_arq_client_pushes_and_follows(env: dict[str, str], tmp_path: Path) -> None:
    """With our serializer it reads the outcome by arq's own means."""
    said = run_alone("plain_arq.py", env, tmp_path)
    assert "sync_pages: synced" in said


@pytest.mark.parametrize("kind", SERVERS)
def test_a_web_app_pushes_and_follows(kind: str, redis: Redis, env: dict[str, str], tmp_path: Path) -> None:
    """A 202 is a stored job, sent twice it is the same one, and a wrong argument is told to the caller."""
    with served(kind, env, tmp_path) as client:
        payment = {"payment_id": "pay_456", "merchant_id": "m1", "amount_vnd": 250_000}
        first, again = client.post("/payments", json=payment), client.post("/payments", json=payment)
        assert (first.status_code, first.json()) == (202, again.json())
        job_id = first.json()["job_id"]
        assert redis.zrange("webhooks", 0, -1) == [job_id.encode()]
        assert stored(redis, job_id)["k"]["payload"] == payment
        info = client.get(f"/jobs/{job_id}").json()
        assert (info["state"], info["job"], info["lane"]) == ("pending", "deliver_webhook", "webhooks")
        assert client.get("/jobs/none").status_code == 404
        assert client.post("/pages/100/sync?mode=backfill").status_code == 202
        wrong = client.post("/pages/100/sync?mode=sideways")
        assert wrong.status_code == 422
        assert "mode: " in wrong.json()["error"]
        assert redis.zcard("sync") == 1


@pytest.mark.parametrize("kind", SERVERS)
def test_a_web_app_outlives_redis(kind: str, env: dict[str, str], tmp_path: Path) -> None:
    """It starts without one, and answers 503 with when to come again."""
    with served(kind, {**env, "REDIS_URL": "redis://127.0.0.1:1"}, tmp_path) as client:
        for away in (client.get("/jobs/1"), client.post("/pages/100/sync")):
            assert (away.status_code, away.headers["Retry-After"]) == (503, "5")
