"""How the scripts find servers and fill `.venv`; nothing here is downloaded, and the servers are shell scripts."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts._bootstrap import ROOT, BootstrapError, ensure_environment
from scripts._process import free_port
from scripts._services import ServiceError, redis_address, start_mongod, start_redis, without_password


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, None),
        ({"REDIS_URL": ""}, None),
        ({"REDIS_URL": "rediss://r:1/2", "REDIS_HOST": "other"}, "rediss://r:1/2"),
        ({"REDIS_HOST": "r"}, "redis://r:6379/0"),
        (
            {"REDIS_HOST": "r", "REDIS_PORT": "7", "REDIS_DB": "3", "REDIS_PASSWORD": "a/b@c"},
            "redis://:a%2Fb%40c@r:7/3",
        ),
    ],
    ids=["none", "empty", "url before parts", "defaults", "parts"],
)
def test_the_environment_names_redis_by_url_or_by_parts(environ: dict[str, str], address: str | None) -> None:
    assert redis_address(environ) == address


def test_an_address_in_the_environment_is_used_and_nothing_is_started(tmp_path: Path) -> None:
    environ = {"REDIS_URL": "redis://u:secret@r:1/2", "MONGODB_URI": "mongodb://u:secret@a:1,b:2/x?replicaSet=rs0"}
    for service in (start_redis(None, tmp_path, environ=environ), start_mongod(None, tmp_path, environ=environ)):
        with service:
            assert service.url in environ.values()
            assert service.pid is None
            assert "secret" not in service.describe
    assert not list(tmp_path.iterdir())


def test_an_address_is_shown_without_its_secrets() -> None:
    assert without_password("mongodb://u:p@a:1,b:2/x?authSource=y") == "mongodb://a:1,b:2/x"


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("bind: Address already in use", "the port is taken"),
        ("error while loading shared libraries: libcurl.so.4: cannot open", "needs libcurl"),
        ("Bad file format reading the append only file", "redis-check-aof --fix"),
        ("something new", "something new"),
    ],
    ids=["port", "library", "damage", "unknown"],
)
def test_a_server_that_ends_at_once_says_why_and_what_to_do(
    line: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "bin" / "redis-server", f"echo '{line}'", "exit 3")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ServiceError, match=r"Redis did not start on port \d+ \(exit code 3\)") as caught:
        start_redis(tmp_path / "data", tmp_path / "cache", port=free_port(), environ={})
    assert advice in str(caught.value)
    assert str(tmp_path / "data" / "server.log") in str(caught.value)


def test_a_server_that_never_answers_is_killed_at_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "bin" / "redis-server", f"echo $$ > {tmp_path}/pid", "echo loading", "exec /bin/sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ServiceError, match=r"no answer within 0.5 s[\s\S]*loading"):
        start_redis(None, tmp_path / "cache", limit_s=0.5, environ={})
    process = Path("/proc") / (tmp_path / "pid").read_text().strip()
    if Path("/proc/self").exists():
        assert not (process / "exe").exists()


def test_a_folder_that_stays_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "bin" / "mongod", "echo 'DBPathInUse: Unable to lock the lock file'", "exit 100")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ServiceError, match=r"in use by another running mongod"):
        start_mongod(tmp_path / "data", tmp_path / "cache", limit_s=0.5, environ={})


class Project:
    """A checkout whose `.venv` has a shell script for a Python: `pip install` notes its call and runs `pip`."""

    def __init__(self, folder: Path) -> None:
        self.requirements = folder / "requirements.txt"
        self.requirements.write_text("arq==1\n")
        self.calls = folder / "calls"
        self.python = folder / ".venv" / "bin" / "python"
        self.pip("exit 0")
        (folder / ".venv" / "pyvenv.cfg").touch()

    def pip(self, *lines: str) -> None:
        script(self.python, 'if [ "$1" = -c ]; then echo pip; exit; fi', f'echo "$@" >> {self.calls}', *lines)

    @property
    def installs(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_file_is_installed_once_until_it_changes(project: Project) -> None:
    assert ensure_environment(project.requirements) == project.python
    ensure_environment(project.requirements)
    assert project.installs == 1
    assert "install --require-hashes" in project.calls.read_text()
    project.requirements.write_text("arq==2\n")
    ensure_environment(project.requirements)
    assert project.installs == 2


def test_the_developers_file_counts_for_the_plain_one(project: Project) -> None:
    ensure = [project.requirements.with_name("requirements-dev.txt"), project.requirements]
    ensure[0].write_text("arq==1\npytest==1\n")
    for requirements in ensure * 2:
        ensure_environment(requirements)
    assert project.installs == 1


def test_a_failed_installation_says_what_pip_said_and_leaves_no_stamp(project: Project) -> None:
    ensure_environment(project.requirements)
    project.requirements.write_text("arq==2\n")
    project.pip("echo Collecting arq", "echo 'ERROR: no such version'", "exit 1")
    with pytest.raises(BootstrapError, match=r"requirements\.txt:\n    ERROR: no such version$"):
        ensure_environment(project.requirements)
    project.requirements.write_text("arq==1\n")
    project.pip("exit 0")
    ensure_environment(project.requirements)
    assert project.installs == 3


def test_an_installation_whose_script_was_killed_is_repaired(project: Project) -> None:
    project.pip('kill -9 "$PPID"')
    code = "import sys; from pathlib import Path; from scripts._bootstrap import ensure_environment as e; "
    command = [sys.executable, "-c", code + "e(Path(sys.argv[1]))", str(project.requirements)]
    assert subprocess.run(command, cwd=ROOT, check=False, stderr=subprocess.DEVNULL).returncode == -9  # noqa: S603
    project.pip("exit 0")
    ensure_environment(project.requirements)
    assert project.installs == 2


def test_a_second_installer_waits_for_the_first(project: Project) -> None:
    project.pip("/bin/sleep 0.3")
    code = "import sys; from pathlib import Path; from scripts._bootstrap import ensure_environment as e; "
    command = [sys.executable, "-c", code + "e(Path(sys.argv[1]))", str(project.requirements)]
    started = time.monotonic()
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(2)]  # noqa: S603
    assert [process.wait(30) for process in both] == [0, 0]
    assert project.installs == 1
    assert time.monotonic() - started < 30
