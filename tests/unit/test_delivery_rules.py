"""What a merchant's answer means."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from src.rules.delivery import LONGEST_HOLD_S, SHORTEST_HOLD_S, Verdict, held_s, judge

NOW = datetime(2026, 1, 31, 10, 30, tzinfo=UTC)
FAILED = Verdict("failed")
REFUSED = Verdict("failed", is_overloaded=True, is_alive=True)
OVERLOADED = Verdict("failed", is_overloaded=True)


def verdict(status: int | None, retry_after: str = "", control: str = "", *, is_ours: bool = False) -> Verdict:
    return judge(status, retry_after=retry_after, control=control, is_ours=is_ours, now=NOW)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
def test_2xx_is_success(status: int) -> None:
    """All of it, and no header but one changes that."""
    assert verdict(status) == verdict(status, "30") == verdict(status, "", "abort-message") == Verdict("delivered")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (100, FAILED),
        (199, FAILED),
        (300, FAILED),
        (301, FAILED),
        (302, FAILED),
        (304, FAILED),
        (307, FAILED),
        (308, FAILED),
        (400, FAILED),
        (401, FAILED),
        (404, FAILED),
        (408, FAILED),
        (409, FAILED),
        (425, FAILED),
        (429, REFUSED),
        (500, FAILED),
        (501, FAILED),
        (502, OVERLOADED),
        (503, OVERLOADED),
        (504, OVERLOADED),
        (599, FAILED),
        (999, FAILED),
        (None, OVERLOADED),
    ],
)
def test_all_else_is_tried_again(status: int | None, expected: Verdict) -> None:
    """Redirects too; what tells of too much load slows us down, and a 429 comes from a server that works."""
    assert verdict(status) == expected


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_holds_the_endpoint(status: int) -> None:
    """Where the status says that it is about the endpoint."""
    assert verdict(status, "30").hold_s == 30.0


@pytest.mark.parametrize("status", [200, 301, 400, 404, 410, 500, 502, 504, None])
def test_retry_after_is_nothing_elsewhere(status: int | None) -> None:
    """A redirect's or a success' says nothing of the endpoint."""
    assert verdict(status, "30").hold_s == 0.0


def test_410_disables() -> None:
    """At once, and the delivery is not tried again; whatever else it says."""
    for control in ("", "disable", "abort-message"):
        found = verdict(410, "30", control)
        assert (found.kind, found.is_alive, found.hold_s) == ("given_up", True, 0.0)
        assert "410" in found.disables


@pytest.mark.parametrize("status", [400, 429, 500, 503, 302])
def test_the_control_header(status: int) -> None:
    """`disable` ends the endpoint, `abort-message` this delivery alone; other words are nothing."""
    disabled, aborted = verdict(status, "", "disable"), verdict(status, "30", "abort-message")
    assert (disabled.kind, "disable" in disabled.disables) == ("given_up", True)
    assert aborted == Verdict("given_up", is_alive=True)
    assert verdict(status, "", "whatever") == verdict(status)


def test_a_success_can_be_the_last_one() -> None:
    """An endpoint that takes this one and wants no more."""
    found = verdict(200, "", "disable")
    assert found.kind == "delivered"
    assert found.disables


def test_a_fault_of_ours_says_nothing_of_the_merchant() -> None:
    """No hold, no breaker, no overload."""
    assert verdict(None, "30", "disable", is_ours=True) == Verdict("ours")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0.0),
        ("   ", 0.0),
        ("0", SHORTEST_HOLD_S),
        ("1", 1.0),
        (" 120 ", 120.0),
        ("86400", 86_400.0),
        ("86401", LONGEST_HOLD_S),
        ("9" * 100, LONGEST_HOLD_S),
        ("0" * 50 + "5", SHORTEST_HOLD_S),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("1e9", 0.0),
        ("٣", 0.0),
        ("soon", 0.0),
        ("3 s", 0.0),
        ("Sat, 31 Jan 2026 10:30:45 GMT", 45.0),
        ("Sat, 31 Jan 2026 10:30:00 GMT", SHORTEST_HOLD_S),
        ("Fri, 30 Jan 2026 10:30:00 GMT", SHORTEST_HOLD_S),
        ("Sat, 31 Jan 2036 10:30:00 GMT", LONGEST_HOLD_S),
        ("Saturday, 31-Jan-26 10:30:45 GMT", 45.0),
        ("Sat, 31 Jan 2026 17:30:45 +0700", 45.0),
        ("Sat, 31 Jan 2026 10:30:45", 0.0),
        ("Sat, 31 Feb 2026 10:30:45 GMT", 0.0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 0001 00:00:00 +2359", SHORTEST_HOLD_S),
    ],
)
def test_retry_after_as_it_comes(text: str, seconds: float) -> None:
    """Seconds or a date, within 1 s and 24 h; what is neither is as if there was none."""
    assert held_s(text, NOW) == seconds


@given(
    st.text(max_size=100) | st.from_regex(r"\w{0,3},? ?\d{1,30}[ -]Jan[ -]\d{1,30} \d{1,30}:\d\d:\d\d [+-]?\w{0,20}")
)
@example("Mon, 01 Jan 2026 00:00:00 +99999999999999999999")
def test_no_retry_after_breaks_us(text: str) -> None:
    """It is a stranger's text."""
    assert held_s(text, NOW) == 0.0 or SHORTEST_HOLD_S <= held_s(text, NOW) <= LONGEST_HOLD_S


@given(st.floats(-1e6, 1e6), st.integers(-12, 12))
def test_a_date_means_a_moment(seconds: float, offset_h: int) -> None:
    """In whatever zone it is written."""
    at = (NOW + timedelta(seconds=seconds)).replace(microsecond=0).astimezone(timezone(timedelta(hours=offset_h)))
    expected = min(max((at - NOW).total_seconds(), SHORTEST_HOLD_S), LONGEST_HOLD_S)
    assert held_s(format_datetime(at), NOW) == (expected if offset_h else held_s(format_datetime(at), NOW))


@given(st.none() | st.integers(0, 999), st.text(max_size=20), st.sampled_from(["", "disable", "abort-message", "x"]))
def test_every_answer_has_a_verdict(status: int | None, retry_after: str, control: str) -> None:
    """Success is 2xx alone, and nothing holds an endpoint longer than a day."""
    found = verdict(status, retry_after, control)
    assert (found.kind == "delivered") == (status is not None and 200 <= status < 300)
    assert 0.0 <= found.hold_s <= LONGEST_HOLD_S
    assert not (found.disables and found.kind == "failed")
