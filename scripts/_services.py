"""Redis and MongoDB for the tests and for `scripts/start`: a given address, else a server of our own on the loopback.

An address in the environment (`REDIS_URL`, `REDIS_HOST`, `MONGODB_URI`) is used as it is. Else `redis-server` and
`mongod` are found or fetched (`_binaries`), started on a free port, and stopped with the handle or with this process.
mongod runs as a replica set of one, because transactions and change streams need one. POSIX only; the standard library
alone, except that the replica set is configured through pymongo.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

from scripts import _process
from scripts._binaries import Binary, ServiceError, find
from scripts._faults import describe_fault, lost_the_port

__all__ = [
    "Service",
    "ServiceError",
    "mongodb_address",
    "redis_address",
    "start_mongod",
    "start_redis",
    "without_password",
]

POLL_S = 0.02
START_LIMIT_S = 30.0
STOP_LIMIT_S = 30.0
# A server whose parent was killed takes a moment to close its files.
LOCKED_LIMIT_S = 5.0


@dataclass
class Service:
    """A reachable server, stopped at the end of its `with`. `pid` is None where it is not ours; `stop` then rests."""

    name: str
    url: str
    describe: str
    pid: int | None = None
    log: Path | None = None
    ended: Callable[[], int | None] = field(default=lambda: None, repr=False)  # the exit code once it ended
    _stop: Callable[[], None] = field(default=lambda: None, repr=False)

    def stop(self) -> None:
        """End the server and remove its folder if that is a temporary one. Safe to repeat."""
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def redis_address(environ: Mapping[str, str] = os.environ) -> str | None:
    """The Redis that the environment names, as a URL."""
    if url := environ.get("REDIS_URL"):
        return url
    if not (host := environ.get("REDIS_HOST")):
        return None
    secret = f":{quote(password, safe='')}@" if (password := environ.get("REDIS_PASSWORD")) else ""
    return f"redis://{secret}{host}:{environ.get('REDIS_PORT') or 6379}/{environ.get('REDIS_DB') or 0}"


def mongodb_address(environ: Mapping[str, str] = os.environ) -> str | None:
    """The MongoDB that the environment names."""
    return environ.get("MONGODB_URI") or None


def without_password(url: str) -> str:
    """`url` as it may be shown: scheme, hosts and path, neither user nor password nor options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def start_redis(
    data_dir: Path | None,
    cache_dir: Path,
    *,
    port: int | None = None,
    limit_s: float = START_LIMIT_S,
    environ: Mapping[str, str] = os.environ,
) -> Service:
    """The Redis of the environment, or one of our own with its data in `data_dir` (None: in memory, gone at `stop`)."""
    if address := redis_address(environ):
        return Service("Redis", address, f"Redis at {without_password(address)} (named by the environment)")
    binary = find("redis-server", cache_dir)
    keep = ("--appendonly", "yes", "--appendfsync", "everysec") if data_dir else ("--appendonly", "no")

    def command(at: int, folder: Path) -> list[str | Path]:
        fixed = [binary.path, "--bind", _process.HOST, "--port", str(at), "--dir", folder, "--save", "", *keep]
        return [*fixed, "--maxmemory-policy", "noeviction", "--daemonize", "no"]

    server = _Server("Redis", binary, command, _redis_pid, lambda at: f"redis://{_process.HOST}:{at}/0", limit_s)
    return server.start(data_dir, port)


CLOSE_SOON = "file_manager=(close_idle_time=5,close_scan_interval=2,close_handle_minimum=100)"


def start_mongod(
    data_dir: Path | None,
    cache_dir: Path,
    *,
    port: int | None = None,
    replica_set: str | None = "rs0",
    cache_gb: float = 0.5,
    limit_s: float = START_LIMIT_S,
    environ: Mapping[str, str] = os.environ,
) -> Service:
    """The MongoDB of the environment, or one of our own with its data in `data_dir` (None: a folder gone at `stop`).

    Returns once it takes writes. `cache_gb` is WiredTiger's cache, 0.25 at least.
    """
    if address := mongodb_address(environ):
        return Service("MongoDB", address, f"MongoDB at {without_password(address)} (named by the environment)")
    from scripts._replica import make_writable, mongod_pid

    binary = find("mongod", cache_dir)
    common = ["--bind_ip", _process.HOST, "--quiet", "--nounixsocket", "--wiredTigerCacheSizeGB", str(cache_gb)]
    common += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    if data_dir is None:
        # tests make and drop a database each; by default the files of all of them stay open for five minutes, and
        # MongoDB ends at the process's limit of open files
        common += ["--setParameter", "minSnapshotHistoryWindowInSeconds=0"]
        common += ["--wiredTigerEngineConfigString", CLOSE_SOON]
    replicated = ["--replSet", replica_set, "--oplogSize", "512" if data_dir else "64"] if replica_set else []

    def command(at: int, folder: Path) -> list[str | Path]:
        return [binary.path, "--dbpath", folder, "--port", str(at), *common, *replicated]

    def alone(at: int, folder: Path) -> list[str | Path]:
        return [binary.path, "--dbpath", folder, "--port", str(at), *common]

    query = "?directConnection=true" + (f"&replicaSet={replica_set}" if replica_set else "")
    server = _Server(
        "MongoDB", binary, command, mongod_pid, lambda at: f"mongodb://{_process.HOST}:{at}/{query}", limit_s
    )
    if data_dir and replica_set:
        port = _move(replace(server, command=alone, remembers=False), Path(data_dir).resolve(), port)
    service = server.start(data_dir, port)
    try:
        make_writable(urlsplit(service.url).port or 0, replica_set, limit_s)
    except BaseException as error:
        service.stop()
        if isinstance(error, TimeoutError):
            raise ServiceError(f"MongoDB: {error}") from error
        raise
    return service


def _move(alone: "_Server", home: Path, port: int | None) -> int | None:
    """Tell a replica set that exists that its port is another one today; the port to use, None for any.

    The file with the port goes first: a run that dies on the way leaves none, and the next one starts over here.
    """
    last = _last_port(home)
    if not (home / "db" / "WiredTiger").exists() or (last and port in (None, last)):
        return port or last
    from scripts._replica import move_member

    (home / "port").unlink(missing_ok=True)
    future = port or _process.free_port()
    with alone.start(home, None) as service:
        move_member(urlsplit(service.url).port or 0, future)
    return future


@dataclass(frozen=True)
class _Server:
    """How to run one kind of server: its command at a port over a folder, and the pid of whoever answers at a port."""

    name: str
    binary: Binary
    command: Callable[[int, Path], list[str | Path]]
    pid_at: Callable[[int], int | None]
    url: Callable[[int], str]
    limit_s: float
    remembers: bool = True  # keeps the port for the next run

    def start(self, data_dir: Path | None, port: int | None) -> Service:
        home = Path(data_dir).resolve() if data_dir else None
        with contextlib.ExitStack() as undo:
            folder = home or undo.enter_context(_temporary_folder(self.name))
            (folder / "db").mkdir(parents=True, exist_ok=True)
            log = _process.fresh_log(folder / "server.log")
            process, at = self._run(folder, log, port)
            if self.remembers:
                (folder / "port").write_text(f"{at}\n")
            first = signal.SIGTERM if home else signal.SIGKILL
            undo.callback(lambda: _process.stop(process, wait_s=STOP_LIMIT_S, first=first))
            where = f"data in {folder}" if home else "temporary data"
            describe = f"{self.name} at {without_password(self.url(at))} ({self.binary.origin}, {where})"
            return Service(self.name, self.url(at), describe, process.pid, log, process.poll, undo.pop_all().close)

    def _run(self, folder: Path, log: Path, port: int | None) -> tuple["subprocess.Popen[bytes]", int]:
        """Start it, again where another took the port in the meantime or a dying server still holds the folder."""
        locked_until = time.monotonic() + min(LOCKED_LIMIT_S, self.limit_s)
        for chance in range(10_000):
            at = port or _last_port(folder) or _process.free_port()
            _process.fresh_log(log)
            process = self._spawn(folder, log, at)
            if (trouble := self._trouble(process, at)) is None:
                return process, at
            lines = _process.tail(log, 40)
            if port is None and chance < 5 and lost_the_port(lines):
                continue
            if not describe_fault(lines).is_lock or time.monotonic() > locked_until:
                break
            time.sleep(0.2)
        advice = describe_fault(lines).advice.format(folder=folder, port=at)
        shown = "\n".join(f"    {line}" for line in lines[-6:])
        raise ServiceError(
            f"{self.name} did not start on port {at} ({trouble}){advice}\n  last lines of {log}:\n{shown}"
        )

    def _spawn(self, folder: Path, log: Path, port: int) -> "subprocess.Popen[bytes]":
        env = dict(os.environ)
        if self.binary.libraries:
            known = env.get("LD_LIBRARY_PATH")
            env["LD_LIBRARY_PATH"] = f"{self.binary.libraries}:{known}" if known else str(self.binary.libraries)
        end = signal.SIGKILL if _is_temporary(folder) else signal.SIGTERM
        return _process.spawn(self.command(port, folder / "db"), log=log, env=env, at_parents_death=end)

    def _trouble(self, process: "subprocess.Popen[bytes]", port: int) -> str | None:
        """Wait until `process` itself answers at `port`; how it failed otherwise, and then it has ended."""
        deadline = time.monotonic() + self.limit_s
        try:
            while process.poll() is None and time.monotonic() < deadline:
                if self.pid_at(port) == process.pid:
                    return None
                time.sleep(POLL_S)
        except BaseException:
            process.kill()
            raise
        if process.returncode is not None:
            return _process.how_it_ended(process.returncode)
        process.kill()
        process.wait(STOP_LIMIT_S)
        return f"no answer within {self.limit_s:g} s"


def _redis_pid(port: int) -> int | None:
    """The process id that the Redis at `port` gives as its own."""
    try:
        with socket.create_connection((_process.HOST, port), timeout=1) as link:
            link.sendall(b"INFO server\r\n")
            answer = link.recv(65536).decode(errors="replace")
    except OSError:
        return None
    found = [line.partition(":")[2] for line in answer.splitlines() if line.startswith("process_id:")]
    return int(found[0]) if found and found[0].isdigit() else None


def _last_port(folder: Path) -> int | None:
    """The port of the last run over `folder` if it is free: a replica set remembers it, and so do people."""
    try:
        port = int((folder / "port").read_text())
    except (OSError, ValueError):
        return None
    return port if 0 < port < 65536 and _process.is_free(port) else None


_PREFIX = "folkform-"


def _is_temporary(folder: Path) -> bool:
    return (folder / ".owned").exists()


@contextlib.contextmanager
def _temporary_folder(name: str) -> Iterator[Path]:
    """A folder removed at the end, or, when its owner was killed, by the next to ask: owners hold a lock in theirs."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{_PREFIX}*/.owned"):
        with contextlib.suppress(OSError), left.open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name.lower()}-", dir=root))
    with (folder / ".owned").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
