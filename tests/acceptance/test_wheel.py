"""The wheel: the same tree under another name, in an app that may have its own `src`."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)  # noqa: S603 - our own project
    return next(folder.glob("folkform_worker-*.whl"))


def test_the_wheel_carries_the_tree_as_folkform_worker(wheel: Path) -> None:
    """Every module of `src` is in it, and nothing stands outside of the package."""
    names = zipfile.ZipFile(wheel).namelist()
    ours = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert ours == {name.removeprefix("folkform_worker/") for name in names if name.endswith(".py")}


def test_it_works_beside_an_app_with_its_own_src(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment, from a program that has a package `src`: import, and the console command's help."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "__init__.py").write_text("mine = True\n")
    program = (
        "import sys; sys.path[:0] = [sys.argv[1]]; sys.path.append(sys.argv[2])\n"
        "import src, folkform_worker, folkform_worker.engine.wire as wire, folkform_worker.cli\n"
        "assert src.mine and wire.deserialize(wire.serialize({'f': 'x'})) == {'f': 'x'}\n"
        "print(folkform_worker.__version__)\n"
    )
    command = [str(python), "-c", program, str(wheel), sysconfig.get_paths()["purelib"]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert (done.returncode, done.stdout.strip()) == (0, "0.1.0"), done.stderr
