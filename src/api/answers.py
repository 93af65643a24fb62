"""Answers as JSON; what went wrong as RFC 9457 tells it."""

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from starlette.responses import Response

PROBLEM = "application/problem+json"


def as_json(body: Mapping[str, object], status: int = 200) -> Response:
    """`body` as JSON."""
    return Response(orjson.dumps(body), status, media_type="application/json")


def problem(status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """A failure of `status`; `detail` says what to do, and quotes nothing of the request."""
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    return Response(orjson.dumps(body), status.value, headers, media_type=PROBLEM)
