"""What the scripts show: lines that stay, and one live line that is rewritten in place. Standard library only."""

import contextlib
import io
import os
import shutil
import sys
import time
import unicodedata
from typing import TextIO


class Screen:
    """Lines that stay (`say`) and one that moves (`live`).

    Where the output is no terminal a live text becomes a plain line, at most one per `every_s`, never twice the same.
    """

    def __init__(self, stream: TextIO | None = None, *, every_s: float = 5.0) -> None:
        self._stream = stream or sys.stderr
        self._every_s = every_s
        self._moves = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = ""
        self._due = 0.0

    def say(self, text: str) -> None:
        """Print a line that stays, above the live one."""
        shown, self._shown = self._shown, ""
        if self._moves and shown:
            self._write("\r\x1b[2K")
        self._write(f"{text}\n")
        if self._moves and shown:
            self.live(shown)

    def live(self, text: str) -> None:
        """Show `text` in the live line."""
        if self._moves:
            self._shown = text
            columns = shutil.get_terminal_size().columns
            self._write(f"\r\x1b[2K{_cut(text, columns - 1)}")
        elif text != self._shown and time.monotonic() >= self._due:
            self._shown = text
            self._due = time.monotonic() + self._every_s
            self._write(f"{text}\n")

    def wait(self, text: str) -> None:
        """Show `text` in the live line where there is one; what soon passes is not worth a line that stays."""
        if self._moves:
            self.live(text)

    def clear(self) -> None:
        """Take the live line away."""
        if self._moves and self._shown:
            self._write("\r\x1b[2K")
        self._shown, self._due = "", 0.0

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def speak_utf8() -> None:
    """Let names in any script through, whatever the locale says."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):
                stream.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)


def printable(text: str) -> str:
    """`text` without the control characters with which foreign data could move the cursor or recolour the terminal."""
    return "".join(" " if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} else char for char in text)


def _cut(text: str, columns: int) -> str:
    """The part of `text` that fits into `columns` cells."""
    used = 0
    for index, char in enumerate(text):
        used += 2 if unicodedata.east_asian_width(char) in "WF" else 0 if unicodedata.combining(char) else 1
        if used > columns:
            return text[:index]
    return text
