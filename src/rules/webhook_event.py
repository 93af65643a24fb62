"""What can be sent to a merchant, and who is told of it."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson

from ..errors import Misuse

MAX_DATA_BYTES = 256 * 1024  # of a payload as JSON
LONGEST_KEY = 256  # characters of an idempotency key or an order key
LONGEST_MERCHANT = 128
_EVENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")  # it goes into a header
_PATTERN = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.:/-]{0,125}[.:/])?\*|" + _EVENT.pattern)
_ID = re.compile(r"evt_[A-Za-z0-9_-]{1,76}")


def checked_data(
    merchant_id: str, event: str, payload: dict[str, Any], *, idempotency_key: str | None, order_key: str | None
) -> bytes:
    """The payload as JSON. Raises Misuse, saying how to send it, for an event that cannot be sent."""
    if not 0 < len(merchant_id) <= LONGEST_MERCHANT:
        raise Misuse(f"a webhook needs a merchant_id and an event: merchant_id has 1 to {LONGEST_MERCHANT} characters")
    if not is_event(event):
        raise Misuse(
            "a webhook needs a merchant_id and an event, such as payment.completed; "
            f"{event[:140]!r} is none: letters, digits and . _ - : / up to 128"
        )
    for name, key in (("idempotency_key", idempotency_key), ("order_key", order_key)):
        if key is not None and not 0 < len(key) <= LONGEST_KEY:
            raise Misuse(f"{event}: {name} has 1 to {LONGEST_KEY} characters")
    try:
        data = orjson.dumps(payload)
    except TypeError as e:
        raise Misuse(f"the payload of {event} cannot be written as JSON: {e}") from e
    if len(data) > MAX_DATA_BYTES:
        raise Misuse(
            f"the payload of {event} is {len(data)} bytes long, at most {MAX_DATA_BYTES} are taken; "
            "send an id, and let the merchant fetch the rest"
        )
    return data


def body_of(event_id: str, event: str, at: datetime, data: bytes) -> bytes:
    """The request body: `{"id", "event", "timestamp", "data"}`, with `data` as `checked_data` gave it."""
    head = orjson.dumps({"id": event_id, "event": event, "timestamp": rfc3339(at)})
    return head[:-1] + b',"data":' + data + b"}"


def event_id_of(job_id: str, merchant_id: str, event: str, payload: dict[str, Any]) -> str:
    """The id of the event a job brings: the job's own where the helper made it, else one made of all it brings.

    The same each time, so that a job that runs twice brings one event; and another for another event, because a plain
    arq client may use an id again. Raises Misuse for a payload that is no JSON.
    """
    if _ID.fullmatch(job_id):
        return job_id
    try:
        said = orjson.dumps([job_id, merchant_id, event, payload], option=orjson.OPT_SORT_KEYS)
    except TypeError as e:
        raise Misuse(f"the payload of {event} cannot be written as JSON: {e}") from e
    return "evt_" + sha256(said).hexdigest()[:32]


def order_group(of: str, order_key: str | None) -> str:
    """The group (`Queue.prepare`) of a merchant's events, or an endpoint's deliveries, in their order; "" for none."""
    return f"webhook:{of}:{order_key}" if order_key else ""


def rfc3339(at: datetime) -> str:
    """`2026-01-31T10:30:00.000Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def is_event(name: str) -> bool:
    """Whether an event can be called that."""
    return _EVENT.fullmatch(name) is not None


def is_pattern(name: str) -> bool:
    """Whether an endpoint can subscribe to that: an event, `payment.*` for all that begin so, or `*`."""
    return _PATTERN.fullmatch(name) is not None


def subscribes(patterns: Sequence[str], event: str) -> bool:
    """Whether an endpoint with these subscriptions gets `event`; without any it gets all."""
    return not patterns or any(
        pattern == event or (pattern.endswith("*") and event.startswith(pattern[:-1])) for pattern in patterns
    )
