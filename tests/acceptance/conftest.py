"""The wheel as an app installs it, made once for all tests that need it; and workers with test jobs."""

import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.acceptance.lane_yard import Yard, open_yard
from tests.conftest import Servers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)  # noqa: S603 - our own project
    return next(folder.glob("folkform_worker-*.whl"))


@pytest.fixture(scope="session")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package `folkform_worker`, for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.fixture(scope="session")
def base_python(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds what `pip install folkform-worker` brings, and no more.

    What it brings is read from the metadata, as pip does, and linked from the environment we run in: nothing is
    fetched, and a requirement that is missing from the metadata is missing there.
    """
    environment = tmp_path_factory.mktemp("base") / "env"
    venv.create(environment, with_pip=False)
    site = next((environment / "lib").glob("python*/site-packages"))
    ours = PathDistribution(next(unpacked.glob("*.dist-info")))
    for needed in (ours, *_needed_by(ours, frozenset())):
        for top in {file.parts[0] for file in needed.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(str(needed.locate_file(top)))
    return environment / "bin" / "python"


def _needed_by(needing: Distribution, extras: frozenset[str]) -> Iterator[Distribution]:
    """What a distribution needs when it is installed with `extras`, and what that needs."""
    for requirement in map(Requirement, needing.requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            found = distribution(requirement.name)
            yield found
            yield from _needed_by(found, frozenset(requirement.extras))


@pytest.fixture
def yard(servers: Servers, database_name: str, tmp_path: Path) -> Iterator[Yard]:
    """Workers with test jobs, on the test servers."""
    with ExitStack() as stack:
        yield open_yard(stack, servers, servers.redis_url, database_name, tmp_path)
