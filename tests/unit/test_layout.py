"""The house keeps its floors: imports point one way, secrets of one room stay in it, everything public says what it is.

The checks are functions over a tree, so that they can be shown a tree with a fault.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

#: From the ground up; what shares a floor does not know of each other. A new room has to be given its floor here.
FLOORS = (
    {"errors"},
    {"rules"},
    {"settings", "log", "meters", "tracing", "batcher"},
    {"clients", "traced"},
    {"store"},
    {"sync"},
    {"deps"},
    {"engine"},
    {"catalog"},
    {"webhooks", "enqueue", "scheduling"},
    {"alerts"},
    {"monitoring"},
    {"jobs"},
    {"service"},
    {"progress", "doctor", "runtime"},
    {"worker", "cli", "api"},
    {"__main__"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
#: What a rule must not reach for: the network, a driver, the clock, chance, the disk, the log.
IMPURE = {
    *("httpx", "arq", "redis", "motor", "pymongo", "aiolimiter", "socket", "asyncio", "threading", "subprocess"),
    *("loguru", "logging", "time", "random", "secrets", "os", "sys", "pathlib", "pydantic_settings"),
}
#: What an app that only enqueues has installed, and what may be loaded into it.
LIGHT = {"arq", "redis", "pydantic", "pydantic_core", "orjson"} | sys.stdlib_module_names
MONGO = {("clients", "mongo"), ("clients", "mongo_spans")}
NAMES = {"src", "folkform_worker"}  # the package's own names: imported relatively or not at all


def modules(root: Path) -> Iterator[tuple[tuple[str, ...], ast.Module]]:
    """Each module of the package as (path parts without `.py`, syntax tree)."""
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).with_suffix("").parts, ast.parse(path.read_text())


def imports(parts: tuple[str, ...], tree: ast.Module) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """Each import of a module as (is inside the package, path of what is imported)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((False, tuple(name.name.split("."))) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            where = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                # `parts` of a package's __init__ ends in `__init__`, so the same cut serves both
                inside = (*parts[: len(parts) - node.level], *where)
                yield from ((True, (*inside, name.name)) for name in node.names)
            else:
                yield False, where


def faults_of_layout(root: Path) -> list[str]:
    """Every import that does not belong where it stands, one line each."""
    faults: list[str] = []
    for parts, tree in modules(root):
        where = "/".join(parts)
        if parts[0] not in FLOOR_OF and parts != ("__init__",):
            faults.append(f"{where}: stands on no floor; add it to FLOORS")
            continue
        for inside, target in imports(parts, tree):
            faults.extend(f"{where}: {fault}" for fault in _faults(parts, inside, target))
    return faults


def _faults(parts: tuple[str, ...], inside: bool, target: tuple[str, ...]) -> Iterator[str]:
    room, floor = parts[0], FLOOR_OF.get(parts[0], -1)
    if inside:
        if target[0] != room and FLOOR_OF.get(target[0], -1) >= floor:
            yield f"imports {'.'.join(target)}, which stands no lower"
        return
    if target[0] in NAMES:
        yield f"imports {'.'.join(target)} by its absolute name"
    if target[0] == "motor" and parts != ("clients", "mongo"):
        yield "imports motor"
    if target[0] in ("pymongo", "bson") and parts not in MONGO and room != "store":
        yield f"imports {target[0]}"
    if room == "rules" and target[0] in IMPURE:
        yield f"a rule imports {target[0]}"


def weight_of(root: Path, start: str) -> list[str]:
    """Everything heavier than `LIGHT` that importing module `start` reaches, and by which module."""
    trees = dict(modules(root))
    faults: list[str] = []
    reached, waiting = set[tuple[str, ...]](), [(start,)]
    while waiting:
        parts = waiting.pop()
        if parts in reached or parts not in trees:
            continue
        reached.add(parts)
        for inside, target in imports(parts, trees[parts]):
            if inside:
                # the module itself, its packages, and what is named of it, which may be a module too
                waiting += [(*target[:end], *tail) for end in range(len(target) + 1) for tail in ((), ("__init__",))]
            elif target[0] not in LIGHT:
                faults.append(f"{'/'.join(parts)}: imports {target[0]}, and {start} reaches it")
    return sorted(faults)


def undocumented(root: Path) -> list[str]:
    """Every public module, class, function and method without a docstring."""
    found: list[str] = []
    for parts, tree in modules(root):
        where = "/".join(parts)
        if not ast.get_docstring(tree):
            found.append(where)
        found += [f"{where}: {name}" for name in _undocumented(tree.body, "")]
    return found


def _undocumented(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from _undocumented(node.body, f"{prefix}{node.name}.")


def test_imports_point_one_way_and_stay_in_their_rooms() -> None:
    """Whoever changes a floor need not fear for the floors below it."""
    assert faults_of_layout(SRC) == []


def test_enqueue_is_light() -> None:
    """An app that only enqueues loads no driver, no web framework and nothing else of what the jobs need."""
    assert weight_of(SRC, "enqueue") == []
    assert any("motor" in fault for fault in weight_of(SRC, "service"))  # so the check does see what is heavy


def test_everything_public_says_what_it_is() -> None:
    """A reader never has to guess what a public name is for."""
    assert undocumented(SRC) == []


@pytest.mark.parametrize(
    ("path", "line", "fault"),
    [
        ("rules/x.py", "from ..settings import Settings", "which stands no lower"),
        ("store/x.py", "from ..sync import filler", "which stands no lower"),
        ("clients/far/x.py", "from ...jobs.pages import JOBS", "which stands no lower"),
        ("clients/far/x.py", "from ... import deps", "which stands no lower"),
        ("log.py", "from .settings import Settings", "which stands no lower"),
        ("errors.py", "def later():\n    from .rules import retry", "which stands no lower"),
        ("jobs/x.py", "from src.deps import Deps", "absolute name"),
        ("jobs/x.py", "import folkform_worker.deps", "absolute name"),
        ("store/x.py", "from motor.motor_asyncio import AsyncIOMotorClient", "imports motor"),
        ("sync/x.py", "import pymongo.errors", "imports pymongo"),
        ("rules/x.py", "import asyncio", "a rule imports asyncio"),
        ("rules/x.py", "from httpx import URL", "a rule imports httpx"),
        ("attic.py", "import re", "no floor"),
    ],
    ids=[
        "rule reads settings",
        "store knows sync",
        "client knows jobs",
        "client knows deps",
        "neighbours",
        "hidden in a function",
        "absolute",
        "absolute by the other name",
        "second motor",
        "driver outside the store",
        "rule with a loop",
        "rule with a network",
        "room without a floor",
    ],
)
def test_a_planted_crossing_is_found(path: str, line: str, fault: str, tmp_path: Path) -> None:
    """A check that cannot fail keeps nothing in order."""
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(line + "\n")
    found = faults_of_layout(tmp_path)
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("clients/mongo.py", "from motor.motor_asyncio import AsyncIOMotorClient"),
        ("clients/far/x.py", "from ..rate_limit import Permit\nfrom ...errors import Transient\nfrom . import models"),
        ("store/x.py", "from pymongo import UpdateOne\nfrom .rows import RowStore"),
        ("jobs/__init__.py", "from . import customers\nfrom ..engine.job import Job"),
        ("rules/x.py", "import re\nfrom .intervals import Spans"),
        ("cli.py", "from . import __version__"),
    ],
    ids=["motor's own room", "client", "store", "package", "rule", "version"],
)
def test_what_is_allowed_is_not_reported(path: str, line: str, tmp_path: Path) -> None:
    """The check cries only where there is something to cry about."""
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(line + "\n")
    assert faults_of_layout(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "line", "fault"),
    [
        ("enqueue.py", "import httpx", "enqueue: imports httpx"),
        ("engine/queue.py", "from ..settings import Settings", "settings: imports pydantic_settings"),
        ("engine/queue.py", "def late():\n    from .. import settings", "settings: imports pydantic_settings"),
        ("engine/__init__.py", "from loguru import logger", "engine/__init__: imports loguru"),
        ("__init__.py", "import uvloop", "__init__: imports uvloop"),
    ],
    ids=["itself", "behind two modules", "a module by name, late", "a package on the way", "the house"],
)
def test_a_planted_weight_is_found(path: str, line: str, fault: str, tmp_path: Path) -> None:
    """However far away, and in a package that is only passed through."""
    texts = {
        "enqueue.py": "import asyncio\nfrom redis.asyncio import Redis\nfrom .engine.queue import Queue\n",
        "engine/queue.py": "from . import keys\n",
        "engine/keys.py": "from arq.constants import default_queue_name\n",
        "settings.py": "from pydantic_settings import BaseSettings\n",
        "heavy.py": "import motor\n",
    }
    for name, text in {**texts, path: texts.get(path, "") + line + "\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert weight_of(tmp_path, "enqueue") == [f"{fault}, and enqueue reaches it"]


def test_a_missing_docstring_is_found(tmp_path: Path) -> None:
    """Methods count as much as functions; private names and dunders do not."""
    (tmp_path / "x.py").write_text(
        '"""Said."""\nclass A:\n    """Said."""\n'
        "    def b(self): ...\n    def _c(self): ...\n    def __len__(self): ...\n"
    )
    (tmp_path / "y.py").write_text("async def d(): ...\n")
    assert undocumented(tmp_path) == ["x: A.b", "y", "y: d"]
