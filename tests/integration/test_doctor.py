"""What `doctor` says of this machine, the clocks, and of what does the work."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisAway

from src.catalog import CATALOG
from src.deps import Deps
from src.doctor import here, running, servers
from src.doctor.findings import Note, tried
from src.engine.queue import Queue
from src.errors import Permanent
from src.monitoring.listener import Listener, Reply
from src.settings import ServiceSettings, Settings, TracingSettings, WorkerGroup

pytestmark = pytest.mark.anyio

WORKER = "folkform-worker@shop-1:4711"
OTHER = "folkform-worker@shop-2:4712"


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    """A program of this machine that answers `/health/ready`; its port."""
    bound = socket.create_server(("127.0.0.1", 0))
    listener = Listener(bound, {"/health/ready": lambda _: Reply(HTTPStatus.OK, body)})
    listener.start()
    try:
        yield bound.getsockname()[1]
    finally:
        listener.close()


def at_port(settings: Settings, port: int) -> Settings:
    return settings.replace(worker=WorkerGroup(metrics_port=port))


def is_empty(directory: Path) -> bool:
    return not list(directory.iterdir())


async def check_in(deps: Deps, name: str = WORKER, *, ago_s: float = 0.0, **about: Any) -> None:
    at = await deps.agents.clock() - timedelta(seconds=ago_s)
    await deps.agents.check_in(
        name,
        at,
        kind="worker",
        system_info={"version": "1", "lanes": "all", **about},
        metrics={"runningJobs": 3},
    )


async def test_a_port_is_free_ours_or_taken(settings: Settings) -> None:
    """Nobody there is well, a worker there says how it is, and what is not ours is told with what to set."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
    assert (
        await here.metrics_port(at_port(settings, port)) == f"port {port} is free; no worker of this machine serves it"
    )
    with answering(b'{"status":"ready","because":[],"checks":{}}') as port:
        assert await here.metrics_port(at_port(settings, port)) == f"a worker at port {port} is ready"
    with answering(b'{"status":"not ready","because":["redis: no answer"]}') as port:
        found = await here.metrics_port(at_port(settings, port))
        assert found == Note(f"a worker at port {port} is not ready: redis: no answer")
    for body in (b"node exporter", b"[]", b"{}"):
        with answering(body) as port:
            found = await here.metrics_port(at_port(settings, port))
            assert isinstance(found, Note)
            assert f"another program has port {port}" in found.text
    assert await here.metrics_port(at_port(settings, 0)) == "off (WORKER_METRICS_PORT)"


async def test_log_dir_is_one_where_files_can_be_made(settings: Settings, tmp_path: Path) -> None:
    """One that is not there yet is made by the worker, not by who only looks."""

    def with_dir(directory: Path | None) -> Settings:
        return settings.replace(service=ServiceSettings(log_dir=directory))

    for directory in (tmp_path, tmp_path / "new" / "logs"):
        assert f"files in {directory}" in str(await here.log_dir(with_dir(directory)))
    assert is_empty(tmp_path)
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "logs"):
        with pytest.raises(Permanent, match="cannot write to LOG_DIR"):
            await here.log_dir(with_dir(directory))
    assert "standard error" in str(await here.log_dir(with_dir(None)))


async def test_traces_without_packages_or_collector_are_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is said before a worker fails to start over it; keys in the address are not shown."""
    assert await here.traces(settings) == "off (OTEL_EXPORTER_OTLP_ENDPOINT)"
    with closing(socket.create_server(("127.0.0.1", 0))) as collector:
        port = collector.getsockname()[1]
        endpoint = f"http://127.0.0.1:{port}/v1?key=planted"
        on = settings.replace(tracing=TracingSettings(exporter_otlp_endpoint=endpoint))
        assert await here.traces(on) == f"to http://127.0.0.1:{port}"
    found = await here.traces(on)
    assert isinstance(found, Note)
    assert "nobody answers" in found.text
    assert "planted" not in found.text
    monkeypatch.setattr("src.traced.PARTS", ("a_package_that_is_not_there",))
    with pytest.raises(Permanent, match="pip install"):
        await here.traces(on)


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        ({"Redis": 0.4, "MongoDB": -1.9}, None),
        ({"Redis": -3.25, "MongoDB": 0.0}, "Redis's is 3.2 s behind"),
        ({"Redis": 0.0, "MongoDB": 90.0}, "MongoDB's is 90.0 s ahead"),
    ],
    ids=["agree", "behind", "ahead"],
)
def test_clocks_that_differ_are_told(ahead: dict[str, float], words: str | None) -> None:
    """Two seconds are what schedules and check-ins bear."""
    found = servers.judged(ahead)
    assert isinstance(found, Note) == (words is not None)
    if isinstance(found, Note):
        assert words is not None
        assert words in found.text


async def test_clocks_are_compared(deps: Deps) -> None:
    """Here all are one machine's; where ours is ten minutes behind, both servers are ahead."""
    assert "agree" in str(await servers.clocks(deps))
    real = deps.now
    found = await servers.clocks(replace(deps, now=lambda: real() - 600))
    assert isinstance(found, Note)
    assert "Redis's is 600.0 s ahead, MongoDB's is 600.0 s ahead" in found.text


async def test_workers_are_judged_by_when_they_were_heard_of(deps: Deps) -> None:
    """None is a note, for one may be started next; one that died alone, with nobody to write it down, is wrong."""
    found = await running.workers(deps)
    assert isinstance(found, Note)
    assert "none is online" in found.text
    await check_in(deps, ago_s=100)
    with pytest.raises(Permanent, match=rf"0 online, 1 gone without a goodbye: {WORKER} \(silent for 1m 40s\)"):
        await running.workers(deps)
    await check_in(deps)
    assert f"1 online: {WORKER} (3 jobs, heard of 0s ago)" in str(await running.workers(deps))
    await deps.agents.check_out(WORKER, await deps.agents.clock())
    assert "none is online" in str(await running.workers(deps))


async def test_a_lane_nobody_serves_and_mixed_versions_are_told(deps: Deps) -> None:
    """Its jobs would wait without anything being broken."""
    await check_in(deps, lanes=["webhooks", "periodic"])
    with pytest.raises(Permanent, match="nobody serves monitoring, reports, sync, webhooks_retry, workflows"):
        await running.workers(deps)
    await check_in(deps, OTHER, version="2")
    found = await running.workers(deps)
    assert isinstance(found, Note)
    assert "2 online, of versions 1 and 2" in found.text


async def test_paused_lanes_are_told(deps: Deps) -> None:
    """Somebody paused it, and may have forgotten."""
    queue = Queue(deps.redis, CATALOG)
    await queue.put([queue.prepare("reconcile_webhooks", {})])
    assert await running.lanes(deps) == "0 jobs run, 1 wait"
    await queue.pause("sync")
    found = await running.lanes(deps)
    assert isinstance(found, Note)
    assert "sync paused: `queues resume NAME`" in found.text


async def test_schedules_with_faults_and_late_ticks_are_told(deps: Deps) -> None:
    """Late with a worker there is wrong; with none it is only what follows from that."""
    assert await running.schedules(deps) == "13 on, 0 off or paused; none has fired yet"
    stored = deps.database["schedules"]
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    await stored.insert_one({"name": "sync_pages", "activeFrom": long_ago, "lastTickAt": long_ago})
    found = await running.schedules(deps)
    assert isinstance(found, Note)
    assert "1 late: sync_pages (not fired since" in found.text
    await check_in(deps)
    with pytest.raises(Permanent, match="`runs --schedule NAME` tell more"):
        await running.schedules(deps)
    await stored.insert_one({"name": "nightly", "job": "sync_pages", "schedule": "0 0 30 2 *"})
    with pytest.raises(Permanent, match="schedule nightly: "):
        await running.schedules(deps)


async def test_a_check_that_fails_is_one_line() -> None:
    """Our errors say what to do; a server that goes away between two checks is a line as well."""
    said: list[str] = []

    async def refused() -> str:
        raise Permanent("set it right")

    async def away() -> str:
        raise RedisAway("gone")

    async def noted() -> Note:
        return Note("look at it")

    assert [await tried(said.append, "it", check) for check in (refused, away, noted)] == [False, False, True]
    assert said == ["WRONG it: set it right", "WRONG it: no answer any more (ConnectionError)", "note  it: look at it"]
