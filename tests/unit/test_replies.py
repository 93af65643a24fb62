"""Pancake's ways to fail, each mapped to what the caller should do next."""

import traceback
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from src.clients.pancake.replies import body_of
from src.errors import (
    Malformed,
    PageUnavailable,
    Permanent,
    RateLimited,
    ServiceError,
    TokenRejected,
    Transient,
)

TOKEN = "t0ken-0f-n0body"
REQUEST = httpx.Request(
    "GET", "https://pages.test/api/public_api/v1/pages/100/page_customers", params={"page_access_token": TOKEN}
)
HTML = f"<!DOCTYPE html><html><body>access_token={TOKEN}</body></html>"


def reply(status: int, content: Any = b"", **headers: str) -> httpx.Response:
    raw = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else None
    return httpx.Response(
        status,
        content=orjson.dumps(content) if raw is None else raw,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        request=REQUEST,
    )


def code(number: object, **more: Any) -> dict[str, Any]:
    return {"success": False, "error_code": number, "message": f"refused {TOKEN}", **more}


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (reply(200, code(100)), TokenRejected),
        (reply(200, code(102)), TokenRejected),
        (reply(200, code(103)), TokenRejected),
        (reply(200, code(105)), TokenRejected),
        (reply(200, code(106)), TokenRejected),
        (reply(200, code(107)), PageUnavailable),
        (reply(200, code(121)), PageUnavailable),
        (reply(200, code(122)), PageUnavailable),
        (reply(200, code(551)), Permanent),
        (reply(200, code(99_999)), Permanent),
        (reply(200, code("something new")), Permanent),
        (reply(200, {"success": False, "message": "An error occurred. Please try again later."}), Transient),
        (reply(200, {"success": False}), Transient),
        (reply(200, code(None)), Transient),
        (reply(200, code(429)), RateLimited),
        (reply(429), RateLimited),
        (reply(429, HTML), RateLimited),
        (reply(429, code(429)), RateLimited),
        (reply(401, code(102)), TokenRejected),
        (reply(401, HTML), TokenRejected),
        (reply(401), TokenRejected),
        (reply(403, {"message": "no"}), TokenRejected),
        (reply(403, HTML), TokenRejected),
        (reply(200, HTML), Transient),
        (reply(200, b"  \n<html>"), Transient),
        (reply(200, b""), Transient),
        (reply(200, b'{"success": true, "customers": [{"ps'), Transient),
        (reply(500, {"success": False, "message": "Server internal error"}), Transient),
        (reply(500, HTML), Transient),
        (reply(502, HTML), Transient),
        (reply(503, "upstream connect error"), Transient),
        (reply(404, HTML), Permanent),
        (reply(404, {"message": "no"}), Permanent),
        (reply(400, code(102)), TokenRejected),
        (reply(301), Permanent),
        (reply(200, []), Malformed),
        (reply(200, [{"success": False}]), Malformed),
        (reply(200, b'"text"'), Malformed),
        (reply(200, b"null"), Malformed),
        (reply(200, b"5"), Malformed),
    ],
    ids=[
        *("100", "102", "103", "105", "106", "107", "121", "122", "551", "unknown code", "code in words"),
        *("transient without a code", "bare refusal", "null code", "429 in a 200"),
        *("429 empty", "429 html", "429 json"),
        *("401 json", "401 html", "401 empty", "403 json", "403 html"),
        *("200 html", "200 html after blanks", "200 empty", "200 cut off"),
        *("500 json", "500 html", "502 html", "503 text", "404 html", "404 json", "400 with a code", "redirect"),
        *("list", "list of refusals", "text", "null", "number"),
    ],
)
def test_each_failure_says_what_to_do_next(response: httpx.Response, error: type[ServiceError]) -> None:
    """One class per next step, never a subclass that means another, and never a secret in the text."""
    with pytest.raises(ServiceError) as caught:
        body_of(response)
    assert type(caught.value) is error
    assert "GET /api/public_api/v1/pages/100/page_customers" in str(caught.value)
    assert TOKEN not in "".join([str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)])


@pytest.mark.parametrize(
    "body",
    [
        {"success": True, "customers": []},
        {"customers": []},
        {},
        {"success": None},
        {"success": True, "error_code": 102},
    ],
    ids=["success", "success missing", "empty", "success null", "success with a code"],
)
def test_only_success_false_is_a_failure(body: dict[str, Any]) -> None:
    """Several endpoints leave `success` out; that is no error."""
    assert body_of(reply(200, body)) == body


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("1.2.3", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
    ids=["whole", "zero", "fraction", "empty", "word", "negative", "nonsense", "date"],
)
@pytest.mark.parametrize(
    "response", [(429, b""), (429, b"<html>"), (200, orjson.dumps(code(429))), (503, b"")], ids=lambda r: str(r[0])
)
def test_the_other_sides_wait_is_handed_on(
    response: tuple[int, bytes], retry_after: str, seconds: float | None
) -> None:
    """`Retry-After` in seconds is obeyed where it stands; anything else counts as not said."""
    status, content = response
    with pytest.raises(Transient) as caught:
        body_of(reply(status, content, retry_after=retry_after))
    assert caught.value.retry_after_s == seconds


def test_one_row_with_half_a_character_does_not_cost_the_page() -> None:
    """A lone surrogate, valid by JSON's grammar, is read; what to do with its row is decided row by row."""
    raw = b'{"success":true,"customers":[{"psid":"1","name":"half \\ud800 pair"},{"psid":"2","name":"An"}]}'
    rows = body_of(reply(200, raw))["customers"]
    assert [row["psid"] for row in rows] == ["1", "2"]
    assert rows[0]["name"] == "half \ud800 pair"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.fixed_dictionaries({}, optional={"success": JSON, "error_code": JSON, "message": JSON, "total": JSON})


@given(st.sampled_from([200, 201, 301, 400, 401, 403, 404, 429, 500, 503]), BODIES | JSON)
@example(200, {"success": False, "error_code": [105]})
@example(200, {"success": False, "error_code": {"code": 105}})
def test_whatever_comes_is_a_body_or_one_of_our_errors(status: int, content: Any) -> None:
    """No error schema exists, so any JSON must end in a decision, never in a bug of ours."""
    try:
        body = body_of(reply(status, orjson.dumps(content)))
    except ServiceError:
        return
    assert body == content


@given(st.sampled_from([200, 401, 404, 500]), st.binary(max_size=40))
def test_whatever_bytes_come_end_in_a_decision(status: int, content: bytes) -> None:
    """Broken UTF-8, cut answers, noise: all the same."""
    try:
        assert isinstance(body_of(reply(status, content)), dict)
    except ServiceError:
        return
