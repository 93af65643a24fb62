"""What `scripts/check` runs."""

import argparse
import subprocess
import sys
import time

from scripts._bootstrap import ROOT

CHECKS = {
    "format": ("ruff", "format", "--check", "--quiet"),
    "lint": ("ruff", "check", "--quiet"),
    "types": ("mypy", "--no-error-summary"),
}
FIXES = (("ruff", "check", "--fix-only", "--quiet"), ("ruff", "format", "--quiet"))


def main() -> int:
    """1 when any check fails."""
    parser = argparse.ArgumentParser(prog="scripts/check", description="Check format, lint and types.")
    parser.add_argument("--fix", action="store_true", help="format, and repair what lint can repair, first")
    if parser.parse_args().fix:
        for command in FIXES:
            _run(command)
    return int(any([_failed(name, command) for name, command in CHECKS.items()]))  # noqa: C419  all of them run


def _failed(name: str, command: tuple[str, ...]) -> bool:
    started = time.monotonic()
    code, output = _run(command)
    word = "failed" if code else "ok"
    print(f"{name:7} {word:6} ({' '.join(command[:2])}, {time.monotonic() - started:.1f} s)", flush=True)
    if code:
        print(output, flush=True)
    return code != 0


def _run(command: tuple[str, ...]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.rstrip()
