"""What can be sent, as which bytes, and who is told."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import Misuse
from src.rules.webhook_event import (
    LONGEST_KEY,
    LONGEST_MERCHANT,
    MAX_DATA_BYTES,
    body_of,
    checked_data,
    event_id_of,
    is_event,
    is_pattern,
    order_group,
    rfc3339,
    subscribes,
)

AT = datetime(2026, 1, 31, 10, 30, 0, 7_999, tzinfo=UTC)
VISIBLE = re.compile(r"[!-~]{1,128}")  # what a header may hold, and no white space

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}", fullmatch=True)
payloads = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def data(payload: dict[str, Any], merchant_id: str = "m1", event: str = "payment.completed", **keys: str) -> bytes:
    return checked_data(
        merchant_id,
        event,
        payload,
        idempotency_key=keys.get("idempotency_key"),
        order_key=keys.get("order_key"),
    )


def of_size(size: int) -> dict[str, Any]:
    return {"x": "y" * (size - len('{"x":""}'))}


@pytest.mark.parametrize(
    "name", ["payment.completed", "a", "A1", "order:created", "x/y/z", "snake_case-and-dash", "0", "a" * 128]
)
def test_names_that_events_have(name: str) -> None:
    """Letters, digits and a few signs."""
    assert is_event(name)
    assert data({}, event=name) == b"{}"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".a",
        "a b",
        "a\n",
        "a\r\nX-Evil: 1",
        "a\x00",
        "é",
        "đơn.hàng",
        "a" * 129,
        "payment.*",
        "*",
        "a,b",
        '"a"',
    ],
)
def test_names_that_no_event_has(name: str) -> None:
    """What would break a header, or be taken for a pattern; the producer is told."""
    assert not is_event(name)
    with pytest.raises(Misuse, match="event"):
        data({}, event=name)


@given(st.text(max_size=130))
def test_a_name_is_safe_in_a_header(name: str) -> None:
    """Visible ASCII only."""
    assert not is_event(name) or VISIBLE.fullmatch(name)
    assert not is_pattern(name) or VISIBLE.fullmatch(name)


def test_a_payload_of_256_kib_is_taken_and_not_a_byte_more() -> None:
    """Counted as JSON, in bytes; the refusal says both numbers."""
    assert len(data(of_size(MAX_DATA_BYTES))) == MAX_DATA_BYTES == 256 * 1024
    with pytest.raises(Misuse, match=f"{MAX_DATA_BYTES + 1} bytes long, at most {MAX_DATA_BYTES}"):
        data(of_size(MAX_DATA_BYTES + 1))
    with pytest.raises(Misuse, match="bytes long"):
        data({"x": "ế" * (MAX_DATA_BYTES // 3)})


@pytest.mark.parametrize(
    ("field", "longest"),
    [("merchant_id", LONGEST_MERCHANT), ("idempotency_key", LONGEST_KEY), ("order_key", LONGEST_KEY)],
)
def test_ids_and_keys_are_neither_empty_nor_endless(field: str, longest: int) -> None:
    """The refusal names the field."""
    data({}, **{field: "k" * longest})
    for wrong in ("", "k" * (longest + 1)):
        with pytest.raises(Misuse, match=field):
            data({}, **{field: wrong})


@pytest.mark.parametrize("value", [{1, 2}, object(), "\ud800", 2**64, {"k": b"bytes"}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    """At the call, with the name of the event."""
    with pytest.raises(Misuse, match=r"payment\.completed"):
        data({"value": value})


@given(
    names,
    payloads,
    st.integers(0, 4_000_000_000_000).map(lambda ms: datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)),
)
def test_the_body_says_what_was_given(event: str, payload: dict[str, Any], at: datetime) -> None:
    """`{"id", "event", "timestamp", "data"}`, in this order, the data byte for byte as checked."""
    checked = data(payload, event=event)
    body = body_of("evt_1", event, at, checked)
    assert list(orjson.loads(body)) == ["id", "event", "timestamp", "data"]
    assert orjson.loads(body) == {
        "id": "evt_1",
        "event": event,
        "timestamp": rfc3339(at),
        "data": orjson.loads(checked),
    }
    assert body.endswith(b',"data":' + checked + b"}")
    assert orjson.loads(checked) == orjson.loads(orjson.dumps(payload))


def test_the_body_byte_for_byte() -> None:
    """What merchants have seen does not change."""
    body = body_of("evt_1", "payment.completed", AT, data({"payment_id": "pay_456", "name": "Lê"}))
    assert (
        body
        == (
            '{"id":"evt_1","event":"payment.completed","timestamp":"2026-01-31T10:30:00.007Z",'
            '"data":{"payment_id":"pay_456","name":"Lê"}}'
        ).encode()
    )


def test_times_are_utc_whatever_the_zone() -> None:
    """To the millisecond, never rounded up into the next second."""
    late = datetime(2026, 1, 31, 17, 30, 59, 999_999, tzinfo=timezone(timedelta(hours=7)))
    assert rfc3339(late) == "2026-01-31T10:30:59.999Z"


@given(st.text(max_size=100))
def test_every_job_has_one_event_id(job_id: str) -> None:
    """The same each time, dot-free and safe in a header: it is signed with dots around it."""
    event_id = event_id_of(job_id, "m", "a.b", {})
    assert event_id == event_id_of(job_id, "m", "a.b", {})
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", event_id)


@given(st.text(max_size=100), st.text(max_size=100))
def test_two_jobs_have_two_event_ids(one: str, other: str) -> None:
    """Else the second event would be taken for the first again."""
    assert (event_id_of(one, "m", "a.b", {}) == event_id_of(other, "m", "a.b", {})) == (one == other)


def test_our_own_ids_stay_as_they_are() -> None:
    """The id that `enqueue_webhook` gives back is what the merchant sees; a foreign one is made fit."""
    assert event_id_of("evt_0123abc", "m", "a.b", {}) == "evt_0123abc"
    assert event_id_of("job.1", "m", "a.b", {}) == "evt_" + event_id_of("job.1", "m", "a.b", {})[4:] != "evt_job.1"
    assert event_id_of("a:b", "m", "a.b", {}) != event_id_of("a.b", "m", "a.b", {})


@pytest.mark.parametrize("pattern", ["*", "payment.*", "a/b/*", "order:*", "payment.completed", "a" * 128])
def test_patterns(pattern: str) -> None:
    """An event, all that begin so, or all."""
    assert is_pattern(pattern)


@pytest.mark.parametrize("pattern", ["", "pay*", "*.completed", "payment.*.x", "**", "payment.**", ".*", " *", "é.*"])
def test_what_is_no_pattern(pattern: str) -> None:
    """A star stands alone or behind a whole part."""
    assert not is_pattern(pattern)


@pytest.mark.parametrize(
    ("patterns", "event", "expected"),
    [
        ((), "anything", True),
        (("*",), "anything", True),
        (("payment.*",), "payment.completed", True),
        (("payment.*",), "payment.refund.done", True),
        (("payment.*",), "payments.completed", False),
        (("payment.*",), "payment", False),
        (("payment.completed",), "payment.completed", True),
        (("payment.completed",), "payment.completed.late", False),
        (("order.*", "payment.completed"), "payment.completed", True),
        (("order.*", "payment.failed"), "payment.completed", False),
        (("Payment.*",), "payment.completed", False),
    ],
)
def test_who_subscribes(patterns: tuple[str, ...], event: str, expected: bool) -> None:
    """Without any pattern it is all; else what one of them names."""
    assert subscribes(patterns, event) is expected


@given(names.filter(lambda name: len(name) < 126), st.sampled_from([".", ":", "/"]), names)
def test_a_star_takes_all_that_begin_so(head: str, sign: str, tail: str) -> None:
    """And nothing that does not."""
    assert is_pattern(f"{head}{sign}*")
    assert subscribes((f"{head}{sign}*",), f"{head}{sign}{tail}")
    assert subscribes((f"{head}{sign}*",), tail) == tail.startswith(f"{head}{sign}")


def test_order_groups() -> None:
    """One per merchant or endpoint and key; events without a key are in none."""
    assert order_group("ep_1", None) == order_group("ep_1", "") == ""
    assert len({order_group("ep_1", "a"), order_group("ep_1", "b"), order_group("ep_2", "a")}) == 3
