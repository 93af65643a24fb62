"""Makes the environment that a peer runs in: its own, so that its dependencies never meet ours."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def python_of(name: str) -> Path:
    """The Python that has the peer `name` installed, at the versions of its requirements file; made at first use."""
    pins = Path(__file__).with_name(f"requirements-{name}.txt")
    folder = ROOT / ".data" / "peers" / name
    stamp, digest = folder / ".requirements.sha256", hashlib.sha256(pins.read_bytes()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == digest):
        print(f"installing {name} into {folder.relative_to(ROOT)}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run(name, sys.executable, "-m", "venv", str(folder))
        options = ["--no-input", "--disable-pip-version-check", "--quiet"]
        _run(name, str(folder / "bin" / "python"), "-m", "pip", "install", *options, "--requirement", str(pins))
        stamp.write_text(digest)
    return folder / "bin" / "python"


def _run(name: str, *command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} cannot be installed:\n{done.stdout[-2000:]}")
