"""Replies of the vendor: what it says, and how the statistics call that."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

JSON: Final = b"application/json; charset=utf-8"
HTML: Final = b"text/html; charset=utf-8"
SHELL: Final = b"<!DOCTYPE html><html><head><title>Pancake</title></head><body><div id=app></div></body></html>"
TRANSIENT_MESSAGE: Final = "An error occurred. Please try again later."

#: Measured texts; 122 is named by the vendor's users without its text, which is invented here.
MESSAGES: Final = {
    102: "Invalid access_token",
    105: "access_token renewed please use new access_token",
    122: "Subscription of this page has expired",
    429: "Too many requests",
}


@dataclass(slots=True)
class Reply:
    """One HTTP reply. `outcome` is its name in the statistics."""

    body: bytes
    status: int = 200
    kind: bytes = JSON
    outcome: str = "ok"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    #: Close the connection in the middle of the body.
    cut: bool = False


def ok(value: Any) -> Reply:
    """Answer with JSON."""
    return Reply(orjson.dumps(value))


def shell() -> Reply:
    """Answer with the web app's page, as the vendor does on paths it does not know."""
    return Reply(SHELL, kind=HTML, outcome="html")


def coded(code: int, status: int = 200) -> Reply:
    """Answer with a business failure: HTTP 200 and success:false unless `status` says otherwise."""
    body = {"success": False, "error_code": code, "message": MESSAGES[code]}
    return Reply(orjson.dumps(body), status, outcome=f"code_{code}")


def refused(message: str) -> Reply:
    """Answer success:false without a code, for a call that lacks something."""
    return Reply(orjson.dumps({"success": False, "message": message}), outcome="refused")


def server_error() -> Reply:
    """Answer HTTP 500 as measured on statistics."""
    return Reply(orjson.dumps({"success": False, "message": "Server internal error"}), 500, outcome="http_500")


def transient(lot: float) -> Reply:
    """Answer with one of the passing failures, chosen by a number of 0..1."""
    if lot < 1 / 3:
        reply = server_error()
    elif lot < 2 / 3:
        reply = refused(TRANSIENT_MESSAGE)
    else:
        reply = Reply(b"upstream connect error", 503, b"text/plain")
    reply.outcome = "transient"
    return reply


def listing(name: str, total: int | None, bodies: list[bytes]) -> Reply:
    """Answer with rows that are JSON text already; `total` None leaves it out."""
    count = b"" if total is None else b'"total":%d,' % total
    return Reply(b'{"success":true,%b"%b":[%b]}' % (count, name.encode(), b",".join(bodies)))


def too_many(form: str, retry_after: int) -> Reply:
    """Answer a call over the limit, in one of the forms a client has to know."""
    reply = coded(429, 200 if form == "body_code" else 429)
    if form == "empty":
        reply = Reply(b"", 429, b"text/plain")
    elif form == "html":
        reply = Reply(b"<html><body><h1>429 Too Many Requests</h1></body></html>", 429, HTML)
    reply.outcome = "rate_limited"
    if retry_after > 0:
        reply.headers = ((b"retry-after", b"%d" % retry_after),)
    return reply
