"""Makes the project's `.venv` and goes on in it. Standard library only: it runs before anything is installed.

A stamp in `.venv` per requirement file holds that file's SHA-256 once it is installed whole; an interrupted or failed
installation leaves none, so that the next run repairs it.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from scripts._terminal import Screen, speak_utf8

ROOT = Path(__file__).resolve().parent.parent
# The developer's file holds every pin of these.
SUPERSETS = {"requirements-dev.txt": ("requirements.txt", "scripts/requirements-simulator.txt")}


class BootstrapError(Exception):
    """The environment could not be made; the text is for the person at the keyboard."""


def enter(requirements: str) -> None:
    """Return in the project's own Python with `requirements` (a file of the checkout) installed; else exit."""
    speak_utf8()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        python = ensure_environment(ROOT / requirements)
    except BootstrapError as fault:
        sys.stderr.write(f"{Path(sys.argv[0]).name}: {fault}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write(f"{Path(sys.argv[0]).name}: interrupted; run it again to go on\n")
        raise SystemExit(130) from None
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        os.execv(python, [str(python), *sys.argv])  # noqa: S606  replaces this process, no shell


def ensure_environment(requirements: Path, project: Path | None = None) -> Path:
    """The Python of the `.venv` in `project` (else beside `requirements`), made and filled if that is not yet done."""
    venv = (project or requirements.parent) / ".venv"
    if not _is_current(venv, requirements):
        started = time.monotonic()
        screen = Screen()
        with _alone(venv) as lock:
            if not _is_current(venv, requirements):  # whoever held the lock may have done it
                _make(venv, screen)
                _install(venv, requirements, screen, lock)
                screen.say(f".venv holds {requirements.name} ({time.monotonic() - started:.0f} s)")
    return _python(venv)


def _python(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _stamp(venv: Path, requirements: Path) -> Path:
    return venv / f".{requirements.name}.sha256"


def _digest(requirements: Path) -> str:
    try:
        return hashlib.sha256(requirements.read_bytes()).hexdigest()
    except OSError as error:
        raise BootstrapError(f"cannot read {requirements}: {error.strerror}") from None


def _is_current(venv: Path, requirements: Path) -> bool:
    if not (_python(venv).exists() and (venv / "pyvenv.cfg").exists()):
        return False
    try:
        return _stamp(venv, requirements).read_text() == _digest(requirements)
    except (OSError, UnicodeDecodeError):
        return False


@contextlib.contextmanager
def _alone(venv: Path) -> Iterator[int]:
    """Hold the lock on `venv`; gives the descriptor, for the child that must keep it when this process is killed."""
    lock = venv.with_name(".cache") / "venv.lock"
    try:
        lock.parent.mkdir(exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BootstrapError(f"cannot write to {venv.parent}: {error.strerror}") from None
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _make(venv: Path, screen: Screen) -> None:
    """Make `venv`, or what it lacks: another tool's may have no pip, one of a Python since removed does not run."""
    found = _probe(_python(venv)) if (venv / "pyvenv.cfg").exists() else None
    if found == "pip":
        return
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise BootstrapError(
            "this Python has no venv or ensurepip. On Debian and Ubuntu: sudo apt install python3-venv "
            f"(or python{sys.version_info[0]}.{sys.version_info[1]}-venv), then run this again"
        )
    if found == "no pip":
        command = [str(_python(venv)), "-m", "ensurepip"]
    else:
        screen.wait("making .venv")
        command = [sys.executable, "-m", "venv", "--clear", str(venv)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise BootstrapError(f"could not make {venv}:\n{_last_lines(done.stdout.splitlines())}")


def _probe(python: Path) -> str | None:
    """`pip` or `no pip` for a Python that is new enough, None for one that is not or does not run."""
    code = (
        "import importlib.util as u, sys; "
        "print('old' if sys.version_info < (3, 11) else 'pip' if u.find_spec('pip') else 'no pip')"
    )
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = done.stdout.strip()
    return answer if answer in {"pip", "no pip"} else None


def _install(venv: Path, requirements: Path, screen: Screen, lock: int) -> None:
    held = [requirements, *(venv.parent / name for name in SUPERSETS.get(requirements.name, ()))]
    stamps = {stamp: stamp.read_text() for stamp in venv.glob(".*.sha256")}
    stamps |= {_stamp(venv, file): _digest(file) for file in held if file.exists()}
    for stamp in stamps:
        stamp.unlink(missing_ok=True)
    command = [str(_python(venv)), "-m", "pip", "install", "--require-hashes", "--no-compile"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "-r", str(requirements)]
    total = len(re.findall(r"^[A-Za-z0-9][\w.-]*==", requirements.read_text(), re.MULTILINE))
    lines, code = _run_pip(command, total, screen, lock)
    screen.clear()
    if code:
        raise BootstrapError(f"pip could not install {requirements.name}:\n{_last_lines(lines)}")
    for stamp, digest in stamps.items():
        stamp.write_text(digest)


def _run_pip(command: list[str], total: int, screen: Screen, lock: int) -> tuple[list[str], int]:
    """Run pip and show what it does; its lines and exit code."""
    lines: list[str] = []
    seen = 0
    held = (lock,) if os.name == "posix" else ()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", pass_fds=held
    ) as pip:
        try:
            for line in pip.stdout or ():
                lines.append(line.rstrip())
                seen += line.startswith(("Collecting ", "Requirement already satisfied"))
                if step := _step(line):
                    screen.live(f"installing, {min(seen, total)} of {total}: {step}")
        except BaseException:
            pip.terminate()
            raise
    return lines, pip.returncode


def _step(line: str) -> str | None:
    """What pip says it is doing, in few words; None for lines that nobody waits for."""
    word, _, rest = line.strip().partition(" ")
    if word == "Collecting":
        return rest.split(" (")[0]
    if word == "Downloading":
        return "downloading " + rest.split("/")[-1]
    return "unpacking" if line.startswith("Installing collected packages") else None


def _last_lines(lines: list[str]) -> str:
    """pip's own errors where it names any, else its last words."""
    errors = [line for line in lines if line.startswith("ERROR")]
    if any("(from versions: none)" in line for line in errors):
        errors.append("Is the package registry reachable from here?")
    return "\n".join(f"    {line}" for line in (errors or [line for line in lines if line.strip()])[-6:])


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(143)
