"""The log: lines a machine can read, no secret in any of them, and none lost."""

import ast
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as runs
from hypothesis import strategies as st
from loguru import logger

from src.log import configure_logging
from src.log.lines import LONGEST_STACK
from src.rules.cleaned import LONGEST_TEXT, ROOM
from src.runtime import last_words

SRC = Path(__file__).parents[2] / "src"

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
    logging.captureWarnings(False)
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
    assert line.pop("timestamp")[-6:-5] in "+-"
    assert line == {"level": "info", "message": "job done", "rows": 12, "page_id": "100", "job": "sync", "attempt": 2}


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


def fail(text: str) -> None:
    raise RuntimeError(text)


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
    assert "RuntimeError" in line["stack"]
    assert "ConnectionError" in line["stack"]
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


def test_text_tells_the_time_of_the_shop() -> None:
    """As all commands do, whatever the machine's own zone is; JSON says its offset."""
    stream = StringIO()
    far = timezone(timedelta(hours=5, minutes=45))
    configure_logging("INFO", "text", stream=stream, zone=far)
    before = datetime.now(far)
    logger.info("job done")
    told = stream.getvalue().split()[0]
    assert told in {f"{at:%H:%M:%S}" for at in (before, datetime.now(far))}


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
    assert (line["level"], line["message"]) == ("error", "failed at https://pages.test/x?page_access_token=***&since=1")
    assert "RuntimeError" in line["stack"]
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


def test_the_message_of_a_library_says_which(out: StringIO) -> None:
    """A warning is worth little without who warns."""
    logging.getLogger("some.library").warning("watch out")
    assert lines(out)[0]["logger"] == "some.library"


def test_warnings_of_python_are_lines_too(out: StringIO) -> None:
    """Not text of their own between lines of JSON."""
    with warnings.catch_warnings():
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.simplefilter("always")
        warnings.warn("this will go away", DeprecationWarning, stacklevel=1)
    (line,) = lines(out)
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "this will go away" in line["message"]


def test_what_ends_a_process_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """Python's own last words would be the bare traceback."""
    try:
        fail_with_a_secret()
    except RuntimeError as e:
        last_words(type(e), e, e.__traceback__)
    said = capsys.readouterr().err
    assert said.startswith("ConnectionError: ")
    assert said.endswith("RuntimeError: token=***\n")
    assert SECRET not in said


def test_a_library_that_misuses_its_logger_hurts_nobody(out: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments that do not fit the text must not raise into whoever called the library."""
    root = logging.getLogger()  # pytest's own handlers there do raise
    ours = [handler for handler in root.handlers if not type(handler).__module__.startswith("_pytest")]
    monkeypatch.setattr(root, "handlers", ours)
    logging.getLogger("some.library").warning("%d rows", "many")
    assert lines(out)[0]["message"] == "%d rows ('many',)"


@pytest.mark.parametrize("name", ["timestamp", "level", "message", "stack"])
def test_a_callers_field_does_not_take_the_place_of_ours(name: str, out: StringIO) -> None:
    """Filters on level and time hold whatever a caller calls its fields."""
    logger.bind(**{name: "theirs"}).info("ours")
    (line,) = lines(out)
    assert (line["message"], line["level"], line[f"{name}_"]) == ("ours", "info", "theirs")


def test_text_reads_as_the_documents_show_it() -> None:
    """`level message field=value`, quoted where a reader could not tell where the value ends."""
    stream = StringIO()
    configure_logging("INFO", "text", stream=stream)
    logger.info("job registered", job="database_cleanup", schedule="0 2 * * *", rows={"new": 1}, none=None)
    assert stream.getvalue()[9:] == (
        'INFO    job registered job=database_cleanup schedule="0 2 * * *" rows={"new":1} none=""\n'
    )


def test_text_of_others_cannot_forge_a_line_or_speak_to_the_terminal() -> None:
    """A customer's name may hold a line break, or the codes that move a terminal's cursor."""
    stream = StringIO()
    configure_logging("INFO", "text", stream=stream)
    logger.warning(
        "row\n12:00:00 INFO    all is well", name="a\nb\x1b[2J", details={"x": "\x1b]0;title\x07"}, y="\u202eevil"
    )
    try:
        fail("\x1b[2J\n12:00:00 INFO    all is well")
    except RuntimeError:
        logger.exception("failed")
    text = stream.getvalue()
    assert sum(not line.startswith("  ") for line in text.splitlines()) == 2
    assert not set(text) & set("\x1b\x07\u202e")


def test_a_line_is_bounded(out: StringIO) -> None:
    """Ten megabytes of an answer, in the message, in a field, in an error, make no line of ten megabytes."""
    big = "x " * 5_000_000
    logger.info(big)
    logger.info("answer", body=big, parts=[big] * 100)
    try:
        fail(big)
    except RuntimeError:
        logger.exception("failed")
    assert all(len(line) < LONGEST_TEXT + 3 * ROOM for line in out.getvalue().splitlines())
    assert [line["message"][:6] for line in lines(out)] == ["x x x ", "answer", "failed"]
    assert lines(out)[2]["stack"].startswith("Traceback")


def test_names_of_fields_are_cleaned_and_bounded_too(out: StringIO) -> None:
    """Whoever logs what came in as keywords."""
    logger.info("asked", **{f"access_token={SECRET}": 1, "k" * 100_000: 2, **{f"field_{n}": n for n in range(50_000)}})
    assert SECRET not in out.getvalue()
    assert len(out.getvalue()) < 3 * ROOM


def fall(depth: int) -> None:
    if not depth:
        raise RuntimeError("the last of many")
    try:
        fall(depth - 1)
    except RuntimeError as e:
        raise RuntimeError(f"number {depth}") from e


def test_of_a_long_traceback_beginning_and_end_stay(out: StringIO) -> None:
    """Where it began, and what happened at last."""
    try:
        fall(200)
    except RuntimeError:
        logger.exception("failed")
    stack = lines(out)[0]["stack"]
    assert len(stack) < LONGEST_STACK + 100
    assert "the last of many" in stack
    assert stack.endswith("RuntimeError: number 200\n")
    assert "more)" in stack


class Awkward:
    def __str__(self) -> str:
        raise ValueError(SECRET)

    def __repr__(self) -> str:
        raise ValueError(SECRET)


class AwkwardError(Exception):
    def __str__(self) -> str:
        raise ValueError(SECRET)


def raise_awkwardly() -> None:
    raise AwkwardError


@pytest.mark.parametrize("style", ["json", "text"])
def test_nothing_a_caller_hands_over_raises_into_it(style: Any) -> None:
    """Objects that cannot say what they are cost their field, not the line and not the job."""
    stream = StringIO()
    configure_logging("INFO", style, stream=stream)
    try:
        raise_awkwardly()
    except AwkwardError:
        logger.opt(exception=True).error("job panic recovered", what=Awkward(), parts=[{Awkward(): Awkward()}])
    assert "job panic recovered" in stream.getvalue()
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_reader_that_went_away_stops_nobody(style: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`| head` closes the pipe; the worker goes on without a word per line."""

    class Closed(StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    configure_logging("INFO", style, stream=Closed())
    logger.info("on we go")
    assert capsys.readouterr() == ("", "")


def test_whatever_else_is_handed_the_record_sees_no_secret(out: StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """Another sink, and loguru's own report about one that fails: the record itself is clean."""
    seen = []

    def failing(message: Any) -> None:
        seen.append(str(message) + repr(message.record))
        raise RuntimeError("this sink is broken")

    logger.add(failing, format="{message} {extra}")
    try:
        fail_with_a_secret()
    except RuntimeError:
        logger.exception(f"asked {URL}", url=URL, password=SECRET)
    assert "Logging error" in capsys.readouterr().err or seen
    assert SECRET not in seen[0] + capsys.readouterr().err


def test_each_workflow_has_its_file(tmp_path: Path) -> None:
    """What is logged inside of a workflow stands in its file, and on the stream with all else."""
    stream = StringIO()
    configure_logging("INFO", "json", stream=stream, directory=tmp_path, fields={"service": "worker"})
    logger.info("before")
    with logger.contextualize(workflow="invoices"):
        logger.info("inside")
    logger.remove()
    assert [line["message"] for line in lines(stream)] == ["before", "inside"]
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert {name: (line["message"], line["service"]) for name, line in found.items()} == {
        "worker.log": ("before", "worker"),
        "invoices.log": ("inside", "worker"),
    }


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_directory_that_cannot_be_written_is_told_and_costs_nothing_else(style: Any, tmp_path: Path) -> None:
    """Once a minute, on the stream; the lines themselves are there."""
    (tmp_path / "logs").write_text("no directory")
    stream = StringIO()
    configure_logging("INFO", style, stream=stream, directory=tmp_path / "logs")
    for _ in range(3):
        logger.info("job done")
    said = stream.getvalue().splitlines()
    assert sum("log files cannot be written" in line and "File exists" in line for line in said) == 1
    assert sum("job done" in line for line in said) == 3


def planted() -> st.SearchStrategy[Any]:
    """What hides the secret in one of the ways it comes: in an address, under a name, in an object, in bytes."""
    return st.recursive(
        st.sampled_from(
            [URL, {"token": SECRET}, f"redis://:{SECRET}@cache.test", ValueError(URL), URL.encode(), Path(URL)]
        ),
        lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.sampled_from(["a", "url"]), parts, max_size=3),
        max_leaves=5,
    )


@runs(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(message=st.sampled_from(["failed", f"failed at {URL}"]), field=planted(), bound=planted(), style=st.booleans())
def test_no_path_leads_around_the_cleaning(
    message: str, field: Any, bound: Any, style: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Message, fields, context, error and cause; JSON, text and file."""
    stream, directory = StringIO(), tmp_path_factory.mktemp("logs")
    configure_logging("INFO", "json" if style else "text", stream=stream, directory=directory)
    with logger.contextualize(bound=bound):
        try:
            fail_with_a_secret()
        except RuntimeError:
            logger.opt(exception=True).bind(password=SECRET).error(message.replace("{", ""), field=field)
    logger.remove()
    written = (directory / "worker.log").read_text()
    assert "failed" in stream.getvalue()
    assert "failed" in written
    assert SECRET not in stream.getvalue() + written


LEVELS = {"trace", "debug", "info", "success", "warning", "error", "critical", "exception"}


def messages_of(tree: ast.Module) -> Iterator[tuple[ast.Call, ast.expr]]:
    """Each call of the logger, with what it gives as the message."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            root: ast.AST = node.func.value
            while isinstance(root, ast.Call | ast.Attribute):
                root = root.func if isinstance(root, ast.Call) else root.value
            if isinstance(root, ast.Name) and root.id == "logger":
                yield node, node.args[0]


def test_messages_are_constant() -> None:
    """What varies is a field: it can be searched for, and a brace in it is nothing special (as a message it raises)."""
    varying = [
        f"{path.relative_to(SRC)}:{call.lineno}"
        for path in SRC.rglob("*.py")
        for call, message in messages_of(ast.parse(path.read_text()))
        if call.keywords
        and not isinstance(message, ast.Constant)
        and not (isinstance(message, ast.BinOp) and isinstance(message.right, ast.Name) and message.right.id.isupper())
    ]
    assert varying == []


def test_the_messages_that_the_documents_show_are_said() -> None:
    """Word for word, so that who has read them finds them."""
    said = {
        message.value
        for path in SRC.rglob("*.py")
        for _, message in messages_of(ast.parse(path.read_text()))
        if isinstance(message, ast.Constant)
    }
    assert said >= {
        "initializing worker",
        "database connection established",
        "job registered: {job}",
        "starting scheduler",
        "worker started successfully",
        "shutdown signal received, initiating graceful shutdown...",
        "shutting down scheduler...",
        "all running jobs completed",
        "worker shutdown completed",
        "job skipped (max concurrent executions reached)",
        "job panic recovered",
        "Webhook delivered successfully",
    }
