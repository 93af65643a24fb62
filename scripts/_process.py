"""Child processes that end with their parent, and the small things around them. Standard library only."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

HOST = "127.0.0.1"

# Linux tells a child that its parent died only if the child itself asked for it; the wish survives exec. A launcher
# does it instead of `preexec_fn`, which is not safe in a process with threads.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]))
if os.getppid() != int(sys.argv[2]):
    raise SystemExit("the parent is gone")
os.execvp(sys.argv[3], sys.argv[3:])
"""


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    at_parents_death: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start `command` with its output in `log`, in a session of its own that the terminal's Ctrl-C does not reach.

    On Linux it gets `at_parents_death` when the thread that called this ends, be it by `kill -9`: call it from a
    thread that lives as long as the child should.
    """
    argv = [str(part) for part in command]
    if sys.platform == "linux":
        argv = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(int(at_parents_death)), str(os.getpid()), *argv]
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], *, wait_s: float, first: signal.Signals = signal.SIGTERM) -> bool:
    """End `process`: `first`, and a kill after `wait_s`. False when the kill was needed. Safe to repeat."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(first)
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
        return False
    return True


def fresh_log(path: Path) -> Path:
    """`path` ready for a new run; the log of the run before is kept beside it as `.1`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.replace(path.with_name(f"{path.name}.1"))
    return path


def tail(log: Path, lines: int = 8, *, width: int = 300) -> list[str]:
    """The last lines of `log`, each at most `width` characters."""
    try:
        with log.open(encoding="utf-8", errors="replace") as text:
            return [line.rstrip()[:width] for line in deque((line for line in text if line.strip()), maxlen=lines)]
    except OSError:
        return []


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether a server can listen on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
