"""The wheel: the same tree under another name, in an app that may have its own `src`."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

from redis import Redis

from tests.acceptance.processes import ROOT, run
from tests.conftest import Servers

#: What only workers and the API need.
HEAVY = {
    *("motor", "pymongo", "bson", "httpx", "httpcore", "fastapi", "starlette", "loguru", "pydantic_settings"),
    *("prometheus_client", "aiolimiter", "croniter", "rich", "typer"),
}


def app_with_its_own_src(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "__init__.py").write_text("mine = True\n")


def test_the_wheel_carries_the_tree_as_folkform_worker(wheel: Path) -> None:
    """Every module of `src` is in it, and nothing stands outside of the package."""
    names = zipfile.ZipFile(wheel).namelist()
    ours = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert ours == {name.removeprefix("folkform_worker/") for name in names if name.endswith(".py")}


def test_it_works_beside_an_app_with_its_own_src(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment, from a program that has a package `src`: import, and the console command's help."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    app_with_its_own_src(tmp_path)
    program = (
        "import sys; sys.path[:0] = [sys.argv[1]]; sys.path.append(sys.argv[2])\n"
        "import src, folkform_worker, folkform_worker.engine.wire as wire, folkform_worker.cli\n"
        "assert src.mine and wire.deserialize(wire.serialize({'f': 'x'})) == {'f': 'x'}\n"
        "print(folkform_worker.__version__)\n"
    )
    command = [str(python), "-c", program, str(wheel), sysconfig.get_paths()["purelib"]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert (done.returncode, done.stdout.strip()) == (0, "0.1.0"), done.stderr


PROGRAM = """
import asyncio, importlib.util, json, sys
import src
from folkform_worker.enqueue import JobQueue

async def main():
    async with JobQueue.connect(sys.argv[1]) as queue:
        job_id = await queue.enqueue("sync_page_customers", page_id="100")
        info = await queue.job(job_id)
        return job_id, info.state

assert src.mine
job_id, state = asyncio.run(main())
installed = [name for name in json.loads(sys.argv[2]) if importlib.util.find_spec(name)]
loaded = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
print(json.dumps({"job_id": job_id, "state": state, "installed": installed, "loaded": loaded}))
"""


def test_the_base_install_enqueues(base_python: Path, servers: Servers, tmp_path: Path) -> None:
    """Arq, orjson and pydantic are enough to push work from an app that has a package `src` of its own."""
    app_with_its_own_src(tmp_path)
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
        command = [str(base_python), "-c", PROGRAM, servers.redis_url, json.dumps(sorted(HEAVY))]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert redis.zrange("sync", 0, -1) == [report.pop("job_id").encode()]
    assert report == {"state": "pending", "installed": [], "loaded": []}


def test_importing_enqueue_loads_nothing_heavy() -> None:
    """`-X importtime` names every module that is loaded: none of what only jobs need, though it is all installed."""
    done = run([sys.executable, "-X", "importtime", "-c", "import src.enqueue"], {})
    assert done.returncode == 0, done.stderr
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert {"src", "arq", "redis", "pydantic", "orjson"} <= loaded
    assert loaded & HEAVY == set()
