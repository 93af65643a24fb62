"""When something counts as down and as up again; and how its address is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from src.rules.health import Found, Health, HealthUrl, health_url, judged
from src.settings import MonitorSettings

WELL, BAD = Found(None, 5.0), Found("it cannot be reached", 9.0)


def looked(looks: str, *, failures: int = 3, recoveries: int = 2, begin: Health | None = None) -> Health:
    """One letter a minute: `+` well, `-` not."""
    health = begin or Health()
    for minute, look in enumerate(looks, 1):
        found = WELL if look == "+" else BAD
        health = judged(health, found, minute * 60.0, failures=failures, recoveries=recoveries)
    return health


@pytest.mark.parametrize(
    ("looks", "state", "since_min", "in_row"),
    [
        ("", "new", 0, 0),
        ("+", "up", 1, 0),
        ("+++", "up", 1, 0),
        ("-", "new", 0, 1),
        ("--+", "up", 3, 0),
        ("---", "down", 1, 0),
        ("+--", "up", 1, 2),
        ("+--+--", "up", 1, 2),
        ("+---", "down", 2, 0),
        ("+-----", "down", 2, 0),
        ("+---+", "down", 2, 1),
        ("+---+-+", "down", 2, 1),
        ("+---++", "up", 5, 0),
    ],
)
def test_one_look_changes_nothing(looks: str, state: str, since_min: float, in_row: int) -> None:
    """Three in a row are down since the first of them, two in a row up again; what is between keeps the state."""
    health = looked(looks)
    assert (health.state, health.since / 60, health.in_row) == (state, since_min, in_row)


def test_where_one_failure_is_enough() -> None:
    assert looked("+-", failures=1).state == "down"
    assert looked("+-+", failures=1, recoveries=1).state == "up"


def test_the_last_error_stays_to_be_read() -> None:
    """People come after it is over."""
    health = looked("+---++")
    assert (health.last_error, health.last_ms, health.checked_at) == ("it cannot be reached", 5.0, 360.0)


@given(st.text("+-", max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_a_state_is_what_the_last_long_enough_run_says(looks: str, failures: int, recoveries: int) -> None:
    """Held against the plain reading: the last run of failures or successes that was long enough decides."""
    health, state = looked(looks, failures=failures, recoveries=recoveries), "new"
    for end in range(1, len(looks) + 1):
        if looks[max(0, end - failures) : end] == "-" * failures:
            state = "down"
        elif looks[:end].endswith("+" if state == "new" else "+" * recoveries):
            state = "up"
    assert health.state == state


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://shop.vn", HealthUrl("shop.vn", "https://shop.vn")),
        ("https://shop.vn:8443/ping/", HealthUrl("shop.vn:8443/ping", "https://shop.vn:8443/ping/")),
        ("https://shop.vn/ping?token=s3cret", HealthUrl("shop.vn/ping", "https://shop.vn/ping?token=s3cret")),
        ("https://u:p@shop.vn/#401", HealthUrl("shop.vn", "https://u:p@shop.vn/", 401)),
        ("web shop=http://shop.vn/#204", HealthUrl("web shop", "http://shop.vn/", 204)),
        ("shop=https://shop.vn/?a=b", HealthUrl("shop", "https://shop.vn/?a=b")),
    ],
)
def test_an_address_is_named_without_its_secrets(text: str, expected: HealthUrl) -> None:
    found = health_url(text)
    assert found == expected
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    "text", ["", "shop", "shop=", "ftp://shop.vn", "https://", "https://s.vn#ok", "https://s.vn:0"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="form name=https"):
        health_url(text)


def test_the_setting_names_the_entry_and_not_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault is printed at the start of the service."""
    monkeypatch.setenv("MONITOR_HEALTH_URLS", "https://a.vn, b=https://b.vn#204")
    assert [url.name for url in MonitorSettings().health_urls] == ["a.vn", "b"]
    for wrong, words in (("https://a.vn,nope?token=s3cret", "entry 2"), ("https://a.vn,https://a.vn", "entry 2 has")):
        monkeypatch.setenv("MONITOR_HEALTH_URLS", wrong)
        with pytest.raises(ValidationError, match=words) as refused:
            MonitorSettings()
        assert "s3cret" not in str(refused.value)


def test_the_readers_of_reports_are_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITOR_REPORT_TO", "Telegram:42, email:boss@shop.vn")
    assert MonitorSettings().report_to == ("telegram:42", "email:boss@shop.vn")
    monkeypatch.setenv("MONITOR_REPORT_TO", "boss@shop.vn")
    with pytest.raises(ValidationError, match="is no address"):
        MonitorSettings()
