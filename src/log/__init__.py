"""One log stream: loguru owns the output, the standard library's loggers are forwarded to it.

`lines.py` makes every record clean before any sink sees it, tracebacks included, so no caller can leak a token by
carelessness; `files.py` keeps the files of LOG_DIR. What the lines hold is told in docs/logs.md.
"""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from loguru import logger

from .files import LogFiles
from .lines import Cleaner, json_line, own_line, workflow_of

if TYPE_CHECKING:
    from loguru import Message, Record

TEXT = "<dim>{time:HH:mm:ss}</dim> <level>{level: <7}</level> {extra[_shown]}\n"


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:  # a level of the library's own
            level = record.levelno
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library whose arguments do not fit its own text
            message = f"{record.msg} {record.args}"
        logger.opt(exception=record.exc_info).bind(logger=record.name).log(level, "{}", message)


def configure_logging(
    level: str = "INFO",
    style: Literal["json", "text"] | None = None,
    *,
    directory: Path | None = None,
    name: str = "worker",
    stream: TextIO | None = None,
    fields: dict[str, str] | None = None,
    zone: tzinfo | None = None,
) -> None:
    """Send everything to `stream` (standard error) as JSON lines, or as text on a terminal; safe to call again.

    With `directory`, JSON lines go to files there as well: `<name>.log`, and one for each `workflow` of the context.
    `fields` stand in every JSON line. Text lines tell the time in `zone`, or else as the machine does.

    Call it when a process starts its work, not at import: arq's command line installs its own handler after importing
    us, and would print each of its lines twice.
    """
    out = stream or sys.stderr
    is_terminal = out.isatty()
    style = style or ("text" if is_terminal else "json")
    is_text = style == "text"
    logger.remove()
    as_json = not is_text or directory is not None
    logger.configure(patcher=Cleaner(fields or {}, as_json=as_json, as_text=is_text, zone=zone), extra={})
    # diagnose=True would print local variables, tokens included, into every traceback
    options: dict[str, Any] = {"level": level, "diagnose": False, "backtrace": False}
    if is_text:
        logger.add(_Text(out.write, out.flush), format=lambda _: TEXT, colorize=is_terminal, **options)
    else:
        logger.add(_Json(out.write, out.flush), format=_unformatted, **options)
    if directory is not None:
        files = LogFiles(directory, name, _complaint(out, directory, is_text=is_text))
        logger.add(_Files(files), format=_unformatted, **options)
    _take_over_logging()


def _take_over_logging() -> None:
    """Forward the standard library's loggers to ours, each line once, without what we say ourselves."""
    logging.basicConfig(handlers=[_Forward()], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    for name in ("arq", "arq.worker"):
        logging.getLogger(name).handlers.clear()
    # our own lines say what a job did, and arq's repeat its arguments; httpx at INFO prints whole URLs with tokens
    for name in ("arq", "httpx", "httpcore", "pymongo"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _unformatted(record: "Record") -> str:
    """The line is made already; loguru has nothing to add to it."""
    return ""


class _Json:
    """JSON lines to a stream. One that takes nothing any more, for its reader went away, costs its lines and no job."""

    def __init__(self, write: Callable[[str], object], flush: Callable[[], object]) -> None:
        self._write, self._flush = write, flush

    def __call__(self, message: "Message") -> None:
        with suppress(OSError):
            self._write(json_line(message.record))
            self._flush()


class _Text:
    """The same for text: as loguru has coloured it."""

    def __init__(self, write: Callable[[str], object], flush: Callable[[], object]) -> None:
        self._write, self._flush = write, flush

    def __call__(self, message: "Message") -> None:
        with suppress(OSError):
            self._write(str(message))
            self._flush()


class _Files:
    """As loguru knows a file: written to, and stopped at the end."""

    def __init__(self, files: LogFiles) -> None:
        self._files = files

    def write(self, message: "Message") -> None:
        self._files.write(json_line(message.record), workflow_of(message.record))

    def stop(self) -> None:
        self._files.close()


def _complaint(out: TextIO, directory: Path, *, is_text: bool) -> Callable[[str, int], None]:
    """Tells the stream what is wrong with the files. Not through the logger, whose turn it is inside of."""

    def complain(why: str, lost: int) -> None:
        message = "log files cannot be written"
        line = f"{message} directory={directory} error={why!r} lines={lost}\n"
        with suppress(OSError):
            out.write(line if is_text else own_line("error", message, directory=str(directory), error=why, lines=lost))
            out.flush()

    return complain
