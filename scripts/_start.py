"""What `scripts/start` does in the project's own Python: starts every part, shows how it goes, and stops it all."""

import argparse
import contextlib
import fcntl
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from scripts import _process
from scripts._bootstrap import ROOT, BootstrapError
from scripts._parts import Parts, StartError, health, start_parts, start_worker
from scripts._services import ServiceError
from scripts._terminal import Screen
from scripts._watch import Counts, LogFollower

READY_LIMIT_S = 120.0
TICK_S = 2.0

ONE_LINER = (
    "import os, pymongo; "
    "db = pymongo.MongoClient(os.environ['MONGODB_URI'])[os.environ['MONGODB_DATABASE']]; "
    "[print(c['pageId'], c['name']) for c in db.customers.find().sort('_id', -1).limit(5)]"
)


class Signals:
    """The first Ctrl-C, SIGTERM or SIGHUP interrupts; once `stopping`, another only asks to hurry."""

    def __init__(self) -> None:
        self.stopping = False
        self.hurry = False
        for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(kind, self._arrived)

    def _arrived(self, _signal: int, _frame: FrameType | None) -> None:
        if self.stopping:
            self.hurry = True
        else:
            self.stopping = True
            raise KeyboardInterrupt


def main() -> int:
    """0 after Ctrl-C, SIGTERM or `--seconds`; 1 when something does not start or ends by itself."""
    options = _options()
    signals = Signals()
    screen = Screen(sys.stdout)
    try:
        with _alone(options.data), contextlib.ExitStack() as running:
            try:
                _run(options, screen, signals, running)
            finally:
                signals.stopping = True
                screen.clear()
                screen.wait("stopping ...")
                running.close()
                screen.clear()
                screen.say(f"stopped; the data stays in {_short(options.data)}")
    except KeyboardInterrupt:
        return 0
    except (StartError, ServiceError, BootstrapError) as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/start",
        description="Run the worker with all it needs. With PANCAKE_ACCESS_TOKEN or PANCAKE_PAGE_TOKENS set (in the "
        "environment or in .env) it copies the real shops; else it copies those of a simulator.",
    )
    parser.add_argument("--data", type=Path, default=ROOT / ".data", metavar="DIR", help="data folder (.data)")
    parser.add_argument("--seconds", type=_positive, metavar="N", help="stop N seconds after `ready`")
    parser.add_argument("--logs", action="store_true", help="show every line of the worker's log")
    options = parser.parse_args()
    options.data = options.data.absolute()
    return options


def _positive(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError("a number above 0")
    return value


@contextlib.contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Hold the lock on the data folder."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "lock").open("a+")
    except OSError as error:
        raise StartError(f"cannot write to {data}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise StartError(
                f"scripts/start already runs on {_short(data)} (process {lock.read().strip() or 'unknown'}): "
                "stop that one, or choose another folder with --data"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _run(options: argparse.Namespace, screen: Screen, signals: Signals, running: contextlib.ExitStack) -> None:
    started = time.monotonic()
    parts = start_parts(options.data, screen, running)
    _write_env(options.data / "env", parts.shared)
    with health(parts) as is_healthy:
        worker = start_worker(parts, options.data, running, lambda: signals.hurry)
        log = options.data / "worker.log"
        screen.say(f"worker, log in {_short(log)}")
        _introduce(options.data, screen)
        follower = LogFollower(log, screen, everything=options.logs)
        deadline = time.monotonic() + READY_LIMIT_S
        while not is_healthy():
            _raise_if_ended(worker, parts, log)
            if time.monotonic() > deadline:
                raise StartError(f"the worker is not ready after {READY_LIMIT_S:.0f} s; see {log}")
            screen.wait(f"waiting for the worker, {time.monotonic() - started:.0f} s")
            time.sleep(0.05)
    screen.clear()
    screen.say(f"ready in {time.monotonic() - started:.1f} s; Ctrl-C stops everything")
    _watch(options.seconds, screen, worker, parts, follower)


def _watch(
    seconds: float | None, screen: Screen, worker: "subprocess.Popen[bytes]", parts: Parts, follower: LogFollower
) -> None:
    until = time.monotonic() + (seconds or math.inf)
    counts = Counts(parts.shared["MONGODB_URI"], parts.shared["MONGODB_DATABASE"])
    with contextlib.closing(counts):
        tick = 0.0
        while (now := time.monotonic()) < until:
            _raise_if_ended(worker, parts, follower.log)
            if now >= tick:
                tick = now + TICK_S
                follower.show()
                screen.live(counts.text())
            time.sleep(min(0.1, max(0.0, until - now)))
        screen.clear()
        screen.say(counts.text())


def _raise_if_ended(worker: "subprocess.Popen[bytes]", parts: Parts, log: Path) -> None:
    if (code := worker.poll()) is not None:
        lines = _process.tail(log, 15, width=1000)
        plain = code == 1 and len(lines) < 15 and not any(line.startswith("Traceback") for line in lines)
        head = [] if plain and lines else [f"the worker ended ({_process.how_it_ended(code)}); last lines of {log}:"]
        raise StartError("\n".join([*head, *lines]))
    for name, ended, its_log in parts.watched:
        if (code := ended()) is not None:
            shown = "\n".join(f"    {line}" for line in _process.tail(its_log)) if its_log else ""
            raise StartError(f"{name} ended ({_process.how_it_ended(code)}); last lines of {its_log}:\n{shown}")


def _write_env(file: Path, variables: dict[str, str]) -> None:
    """A file to source, for this user's eyes only: the addresses may hold passwords."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _introduce(data: Path, screen: Screen) -> None:
    python = ".venv/bin/python"
    screen.say("try in another terminal, in this folder:")
    screen.say(f"  . {_short(data / 'env')}")
    screen.say(f"  {python} -m src doctor")
    screen.say(f"  {python} -m src sync customers")
    screen.say(f'  {python} -c "{ONE_LINER}"')


def _short(path: Path) -> str:
    """`path` as seen from the checkout, where it lies inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
