"""One log stream: loguru owns the output, the standard library's loggers are forwarded to it.

Every line passes `redact` as its last step, tracebacks included, so no caller can leak a token by carelessness.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import orjson
from loguru import logger

from .rules.redact import redact

if TYPE_CHECKING:
    from loguru import Message, Record

TEXT = "<dim>{time:HH:mm:ss}</dim> <level>{level: <7}</level> {message} <dim>{extra[_shown]}</dim>"
ROTATION, FILES_KEPT = "20 MB", 10


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:  # a level of the library's own
            level = record.levelno
        logger.opt(depth=6, exception=record.exc_info).log(level, "{}", record.getMessage())


def configure_logging(
    level: str = "INFO",
    style: Literal["json", "text"] | None = None,
    *,
    directory: Path | None = None,
    stream: TextIO | None = None,
    fields: dict[str, str] | None = None,
) -> None:
    """Send everything to `stream` (standard error) as JSON lines, or as text on a terminal; safe to call again.

    With `directory`, JSON lines go to a rotating file there as well; `fields` stand in every JSON line. Call it when a
    process starts its work, not at import: arq's command line installs its own handler after importing us, and would
    print each of its lines twice.
    """
    out = stream or sys.stderr
    is_terminal = out.isatty()
    style = style or ("text" if is_terminal else "json")
    logger.remove()
    logger.configure(patcher=_with_shown_fields, extra={"_fields": fields or {}})
    # diagnose=True would print local variables, tokens included, into every traceback
    options: dict[str, Any] = {"level": level, "diagnose": False, "backtrace": False}
    if style == "json":
        logger.add(_json_lines(out.write, out.flush), format="{message}", **options)
    else:
        logger.add(_text_lines(out.write), format=TEXT, colorize=is_terminal, **options)
    if directory is not None:
        logger.add(
            directory / "worker.log",
            format=_file_line,
            rotation=ROTATION,
            retention=FILES_KEPT,
            delay=True,
            **options,
        )
    _take_over_logging()


def _take_over_logging() -> None:
    """Forward the standard library's loggers to ours, each line once, without what we say ourselves."""
    logging.basicConfig(handlers=[_Forward()], level=logging.INFO, force=True)
    for name in ("arq", "arq.worker"):
        logging.getLogger(name).handlers.clear()
    # our own lines say what a job did, and arq's repeat its arguments; httpx at INFO prints whole URLs with tokens
    for name in ("arq", "httpx", "httpcore", "pymongo"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _with_shown_fields(record: "Record") -> None:
    fields = {key: value for key, value in record["extra"].items() if not key.startswith("_")}
    record["extra"]["_shown"] = " ".join(f"{key}={value}" for key, value in fields.items())


def _as_json(record: "Record") -> str:
    """Time, level and message, then the caller's fields; `exception` holds the traceback where there is one."""
    problem = record["exception"]
    line: dict[str, Any] = {
        "time": record["time"].isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        "message": redact(record["message"]),
        **record["extra"].get("_fields", {}),
        **{key: _clean(value) for key, value in record["extra"].items() if not key.startswith("_")},
    }
    if problem and problem.value:
        line["exception"] = redact("".join(traceback.format_exception(problem.value)))
    return _dump(line) + "\n"


def _clean(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {str(key): _clean(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(part) for part in value]
    return value


def _dump(line: dict[str, Any]) -> str:
    """One line of JSON, whatever it holds: a log line must not be lost for a number too large or half a character."""
    try:
        return orjson.dumps(line, default=lambda value: redact(str(value))).decode()
    except TypeError:
        return json.dumps(line, default=lambda value: redact(str(value)))


def _text_lines(write: Callable[[str], object]) -> Callable[["Message"], None]:
    def sink(message: "Message") -> None:
        write(redact(message))

    return sink


def _json_lines(write: Callable[[str], object], flush: Callable[[], object]) -> Callable[["Message"], None]:
    def sink(message: "Message") -> None:
        write(_as_json(message.record))
        flush()

    return sink


def _file_line(record: "Record") -> str:
    # loguru formats what a format function returns once more, so the line travels as a field
    record["extra"]["_line"] = _as_json(record)
    return "{extra[_line]}"
