"""The log: lines a machine can read, no secret in any of them, and none lost."""

import json
import logging
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from src.log import configure_logging

SECRET = "s3cr3t-0f-n0body"
URL = f"https://pages.test/x?page_access_token={SECRET}&since=1"
FORWARDED = ("", "arq", "arq.worker", "httpx", "httpcore", "pymongo")


@pytest.fixture(autouse=True)
def _logging_put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in FORWARDED}
    yield
    logger.remove()
    logger.configure(patcher=lambda _: None)
    logger.add(sys.stderr)
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def out() -> StringIO:
    """What a worker that logs JSON at INFO has written."""
    stream = StringIO()
    configure_logging("INFO", "json", stream=stream)
    return stream


def lines(stream: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_the_callers_fields(out: StringIO) -> None:
    """Time with its offset, level, message, then what the caller and the context say."""
    with logger.contextualize(job="sync", attempt=2):
        logger.info("job done", rows=12, page_id="100")
    (line,) = lines(out)
    assert line.pop("time")[-6:-5] in "+-"
    assert line == {"level": "INFO", "message": "job done", "rows": 12, "page_id": "100", "job": "sync", "attempt": 2}


@pytest.mark.parametrize(
    "value",
    [URL, {"url": URL}, [URL], ({"calls": [{"url": URL}]},), ValueError(URL), Path(f"x?token={SECRET}")],
    ids=["text", "dict", "list", "nested", "exception", "object"],
)
def test_no_field_shows_a_secret(value: object, out: StringIO) -> None:
    """Whatever a caller hands to the log, however deep the URL lies in it."""
    logger.warning("call failed", details=value)
    assert "call failed" in out.getvalue()
    assert SECRET not in out.getvalue()


def test_no_message_shows_a_secret(out: StringIO) -> None:
    """Messages should be constant; a library's are not."""
    logger.error(f"failed at {URL}")
    assert lines(out)[0]["message"] == "failed at https://pages.test/x?page_access_token=***&since=1"


def fail_with_a_secret() -> None:
    token_of_the_page = SECRET
    raise RuntimeError(f"token={token_of_the_page}") from ConnectionError(URL)


def test_no_traceback_shows_a_secret(out: StringIO) -> None:
    """Neither the error, nor its cause, nor the variables on the way."""
    try:
        fail_with_a_secret()
    except RuntimeError:
        logger.exception("job hit a bug")
    (line,) = lines(out)
    assert "RuntimeError" in line["exception"]
    assert "ConnectionError" in line["exception"]
    assert SECRET not in out.getvalue()


@pytest.mark.parametrize("style", ["json", "text"])
def test_braces_and_brackets_are_nothing_special(style: Any) -> None:
    """Customers write `{name}` and `<b>`; that must neither raise nor change the line."""
    stream = StringIO()
    configure_logging("INFO", style, stream=stream)
    logger.info("row set aside", error="{oops} {0} <red>x</red> %s", row_id="{")
    logging.getLogger("other").warning("from {outside} <b>")
    assert "{oops} {0} <red>x</red> %s" in stream.getvalue()
    assert "from {outside} <b>" in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 2


def test_the_text_form_hides_secrets_too() -> None:
    """A person at a terminal shares what is on it."""
    stream = StringIO()
    configure_logging("INFO", "text", stream=stream)
    logger.info("asked", url=URL, details={"url": URL})
    try:
        fail_with_a_secret()
    except RuntimeError:
        logger.exception("failed")
    assert "page_access_token=***&since=1" in stream.getvalue()
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize(
    "value",
    [2**70, "half \ud800 pair", {1: "one"}, {1, 2}, b"bytes", float("nan"), object()],
    ids=["big integer", "half a character", "number as key", "set", "bytes", "nan", "object"],
)
def test_a_field_that_json_cannot_hold_does_not_cost_the_line(value: object, out: StringIO) -> None:
    """The line that tells of trouble must not be the one that is lost."""
    logger.error("job failed for good", value=value, job="sync")
    (line,) = lines(out)
    assert (line["message"], line["job"]) == ("job failed for good", "sync")


def test_the_file_gets_the_same_lines(tmp_path: Path) -> None:
    """With a directory, JSON lines are kept there as well, whatever the terminal shows."""
    configure_logging("INFO", "text", stream=StringIO(), directory=tmp_path)
    logger.info("asked {nothing}", url=URL, nothing="x")
    logger.remove()  # closes the file
    (line,) = (tmp_path / "worker.log").read_text().splitlines()
    assert json.loads(line)["url"] == "https://pages.test/x?page_access_token=***&since=1"


def test_lines_below_the_level_are_left_out(out: StringIO) -> None:
    """LOG_LEVEL holds for our own lines."""
    logger.debug("too much")
    assert lines(out) == []


def test_lines_of_other_libraries_are_ours(out: StringIO) -> None:
    """One stream: what goes through the standard library comes out in the same form, tracebacks and all."""
    try:
        fail_with_a_secret()
    except RuntimeError:
        logging.getLogger("some.library").exception("failed at %s", URL)
    (line,) = lines(out)
    assert (line["level"], line["message"]) == ("ERROR", "failed at https://pages.test/x?page_access_token=***&since=1")
    assert "RuntimeError" in line["exception"]
    assert SECRET not in out.getvalue()


def test_a_librarys_own_level_is_no_reason_to_fail(out: StringIO) -> None:
    """The standard library knows levels between the named ones; logging at one must not raise into the caller."""
    logging.getLogger("some.library").log(logging.INFO + 5, "between")
    assert [line["message"] for line in lines(out)] == ["between"]


@pytest.mark.parametrize("name", ["httpx", "httpcore", "httpcore.connection", "arq", "pymongo"])
def test_chatty_libraries_are_silent_at_info_and_heard_at_warning(name: str, out: StringIO) -> None:
    """httpx prints each URL at INFO, token included; its warnings still matter."""
    logging.getLogger(name).info("HTTP Request: GET %s", URL)
    assert out.getvalue() == ""
    logging.getLogger(name).warning("pool is full")
    assert [line["message"] for line in lines(out)] == ["pool is full"]


def test_configuring_again_writes_each_line_once(out: StringIO) -> None:
    """A command line that configures first and a worker that does so later do not double the log."""
    configure_logging("INFO", "json", stream=out)
    logger.info("ours")
    logging.getLogger("other").warning("theirs")
    assert [line["message"] for line in lines(out)] == ["ours", "theirs"]
