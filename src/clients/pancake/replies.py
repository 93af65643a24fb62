"""From an HTTP reply to a JSON object, or to one of our errors: the one place that knows Pancake's ways to fail.

Auth and business failures mostly come as HTTP 200 with `success: false`; documents that promise a 401 for a dead
token are contradicted by every measurement, so both count. Messages name method, path and status, never the body.
"""

import json
from typing import Any

import httpx
import orjson

from ...errors import Malformed, PageUnavailable, Permanent, RateLimited, TokenRejected, Transient

TOKEN_CODES = frozenset({100, 102, 103, 105, 106})  # invalid, wrong kind, session over, superseded
PAGE_CODES = {
    107: "permission denied on this page",
    121: "the account has no seat in the page's subscription",
    122: "the page's subscription is over",
}
TOO_MANY = 429


def body_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of a successful reply.

    Raises RateLimited (429 in either form), TokenRejected, PageUnavailable, Transient (5xx, a web page instead of
    JSON, a failure without a code), Permanent (any other refusal), Malformed (JSON that is no object).
    """
    where = f"{response.request.method} {response.request.url.path}"
    status = response.status_code
    if status == TOO_MANY:
        raise RateLimited(f"{where}: too many calls (429)", retry_after_s=_retry_after_s(response))
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise Transient(f"{where}: Pancake failed ({status})", retry_after_s=_retry_after_s(response))
    body = _decode(response, where)
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise TokenRejected(f"{where}: token refused ({status})")
    if isinstance(body, dict) and body.get("success") is False:
        raise _failure(body, where, response)
    if not response.is_success:
        raise Permanent(f"{where}: refused ({status}); is PANCAKE_BASE_URL right?")
    if not isinstance(body, dict):
        raise Malformed(f"{where}: expected a JSON object, got {type(body).__name__}")
    return body


def _failure(body: dict[str, Any], where: str, response: httpx.Response) -> Exception:
    code = body.get("error_code")
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    if code is None:
        return Transient(f"{where}: Pancake failed without a code; its advice is to try again")
    if code == TOO_MANY:
        return RateLimited(f"{where}: too many calls (error_code 429)", retry_after_s=_retry_after_s(response))
    if not isinstance(code, int):
        return Permanent(f"{where}: refused with a code that is no number")
    if code in TOKEN_CODES:
        return TokenRejected(f"{where}: token refused (error_code {code})")
    if code in PAGE_CODES:
        return PageUnavailable(f"{where}: {PAGE_CODES[code]} (error_code {code})")
    return Permanent(f"{where}: refused (error_code {code})")


def _decode(response: httpx.Response, where: str) -> Any:
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        pass
    try:
        # orjson refuses a whole page for one lone surrogate; the standard library reads it, and only that row is lost
        return json.loads(response.content, parse_int=_as_orjson_reads)
    except ValueError as e:
        if not response.is_success:
            if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                return None
            raise Permanent(f"{where}: refused ({response.status_code}); is PANCAKE_BASE_URL right?") from e
        kind = "a web page" if response.content.lstrip()[:1] == b"<" else "something else"
        raise Transient(f"{where}: {kind} came instead of JSON; if this stays, check PANCAKE_BASE_URL") from e


def _as_orjson_reads(digits: str) -> int | float:
    """Beyond 64 bits a float: a row must not be storable or not by what stands in the rows beside it."""
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(digits)


def _retry_after_s(response: httpx.Response) -> float | None:
    """Seconds of `Retry-After`; its date form is not used by Pancake as far as anyone saw, and is ignored."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdecimal() else None
