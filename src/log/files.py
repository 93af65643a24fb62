"""The log in files: one for the process, one for each workflow, none of them without end, none written by two.

A process owns a file by a lock on it. The next process that wants the name gets `worker.2.log`, and so on; who comes
when the first is gone takes its place. The locks are the kernel's (flock): what dies lets go.
"""

import fcntl
import os
import re
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

LARGEST = 20 * 1024 * 1024  # bytes, then a new one is begun
KEPT = 10  # of those that were full
LARGEST_OF_WORKFLOW = 10 * 1024 * 1024
KEPT_OF_WORKFLOW = 4
MOST_PROCESSES = 100
MOST_FILES = 50  # with names of their own; lines of further workflows stand in the process' own file
LOOK_S = 5.0  # how often it is looked whether the file is still there
TRY_AGAIN_S = 5.0  # a file that could not be opened
COMPLAIN_S = 60.0
MODE = 0o640
RESERVED = ("worker", "api")
_NO_NAME = re.compile(r"[^a-z0-9_-]+")


class LogFiles:
    """Lines by workflow. Call from one thread at a time. What cannot be written is lost here, told, and nobody waits.

    `limits`: bytes of a file, and how many full ones are kept. `complain(why, lost)` hears each minute at most that a
    file takes nothing, and how many lines are missing.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        complain: Callable[[str, int], None],
        *,
        limits: tuple[int, int] = (LARGEST, KEPT),
        limits_of_workflow: tuple[int, int] = (LARGEST_OF_WORKFLOW, KEPT_OF_WORKFLOW),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._name = name
        self._complain = complain
        self._limits, self._limits_of_workflow = limits, limits_of_workflow
        self._monotonic = monotonic
        self._files: dict[str, _File] = {}
        self._lost = 0
        self._complained_at: float | None = None

    def write(self, line: str, workflow: str = "") -> None:
        """Add a line, which ends in a newline. Never raises."""
        try:
            self._file(file_name(workflow) or self._name).write(line.encode(errors="backslashreplace"))
        except OSError as e:
            self._lost += 1
            now = self._monotonic()
            if self._complained_at is None or now - self._complained_at >= COMPLAIN_S:
                self._complained_at = now
                self._complain(e.strerror or type(e).__name__, self._lost)
                self._lost = 0

    def close(self) -> None:
        """Let go of the files. May be repeated."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _file(self, base: str) -> "_File":
        file = self._files.get(base)
        if file is None:
            if base != self._name and not self._has_room(base):
                return self._file(self._name)
            largest, kept = self._limits if base == self._name else self._limits_of_workflow
            file = _File(self._directory, base, largest=largest, kept=kept, monotonic=self._monotonic)
            self._files[base] = file
        return file

    def _has_room(self, base: str) -> bool:
        """Names come from whoever declares workflows: they must not fill the disk, nor over many starts."""
        if len(self._files) >= MOST_FILES:
            return False
        names = {path.name.partition(".")[0] for path in self._directory.glob("*.log")}
        return base in names or len(names) < MOST_FILES


class _File:
    """One file, held open. Raises OSError."""

    def __init__(self, directory: Path, base: str, *, largest: int, kept: int, monotonic: Callable[[], float]) -> None:
        self._directory = directory
        self._base = base
        self._largest, self._kept = largest, kept
        self._monotonic = monotonic
        self._path = directory / f"{base}.log"
        self._fd = -1
        self._size = 0
        self._is_torn = False  # its last line is not whole
        self._looked_at = self._tried_at = float("-inf")
        self._refusal: OSError | None = None

    def write(self, line: bytes) -> None:
        if self._fd >= 0 and not self._is_there():
            self.close()
        if self._fd < 0:
            self._open_again()
        if self._size and self._size + len(line) > self._largest:
            self._rotate()
        if self._is_torn:
            line = b"\n" + line
        written = os.write(self._fd, line)
        self._size += written
        if written < len(line):
            self._is_torn = True
            raise OSError(0, "the disk is full")
        self._is_torn = False

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _is_there(self) -> bool:
        """Whether the file has its name still: an operator, or logrotate, may have moved it."""
        now = self._monotonic()
        if now - self._looked_at < LOOK_S:
            return True
        self._looked_at = now
        return _is_at(self._path, self._fd)

    def _open_again(self) -> None:
        now = self._monotonic()
        if self._refusal is not None and now - self._tried_at < TRY_AGAIN_S:
            raise self._refusal
        self._tried_at = self._looked_at = now
        try:
            self._open()
        except OSError as e:
            self._refusal = e
            raise
        self._refusal = None

    def _open(self) -> None:
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        for number in range(1, MOST_PROCESSES + 1):
            path = self._directory / (f"{self._base}.log" if number == 1 else f"{self._base}.{number}.log")
            fd = _owned(path)
            if fd is not None:
                self._path, self._fd = path, fd
                self._size = os.fstat(fd).st_size
                self._is_torn = False
                return
        raise OSError(0, f"{MOST_PROCESSES} processes write here already")

    def _rotate(self) -> None:
        """The full file is `.1` from now on. Where that cannot be, it stays as it is: it must not grow without end."""
        for number in range(self._kept - 1, 0, -1):
            with suppress(FileNotFoundError):
                Path(f"{self._path}.{number}").replace(f"{self._path}.{number + 1}")
        self._path.replace(f"{self._path}.1")
        self.close()
        self._open_again()


def file_name(workflow: str) -> str:
    """The name of a workflow's file, without `.log`: nothing of it can leave the directory or meet another's."""
    plain = unicodedata.normalize("NFKD", workflow[:200]).encode("ascii", "ignore").decode().lower()
    name = _NO_NAME.sub("-", plain).strip("-")[:60]
    return f"workflow-{name}" if name in RESERVED else name


def unwritable(directory: Path) -> str | None:
    """Why no log file can be written there, or None. Makes the directory; leaves nothing else."""
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        with TemporaryFile(dir=directory) as file:
            file.write(b"\n")
    except OSError as e:
        return e.strerror or type(e).__name__
    return None


def _owned(path: Path) -> int | None:
    """The file, opened for this process alone; None where another process has it. Raises OSError."""
    while True:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError:
            os.close(fd)
            raise
        if _is_at(path, fd):
            return fd
        os.close(fd)  # its owner gave it another name between our opening and our lock


def _is_at(path: Path, fd: int) -> bool:
    try:
        found, ours = path.stat(), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (found.st_ino, found.st_dev) == (ours.st_ino, ours.st_dev)
