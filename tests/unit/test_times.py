"""Pancake's times: read wrongly, every window of the sync is wrong with them."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from src.rules.times import unix_seconds

HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
LATEST = 253_402_300_799 + 86_400  # the end of 9999, and the widest offset


@pytest.mark.parametrize(
    ("stamp", "second"),
    [
        ("1970-01-01T00:00:00", 0),
        ("2026-05-14T14:09:25", 1_778_767_765),
        ("2026-05-14T14:09:25.000000", 1_778_767_765),
        ("2026-05-14T14:09:25.976000", 1_778_767_765),
        ("2026-05-14T14:09:25Z", 1_778_767_765),
        ("2026-05-14T21:09:25+07:00", 1_778_767_765),
        ("2026-05-14T10:09:25.5-04:00", 1_778_767_765),
    ],
    ids=["first second", "plain", "zero fraction", "fraction is cut", "Z", "offset", "offset and fraction"],
)
def test_every_form_seen_is_read(stamp: str, second: int) -> None:
    """With or without a fraction, with or without an offset: the same second."""
    assert unix_seconds(stamp) == second


def test_a_time_without_offset_is_read_in_the_zone_of_the_settings() -> None:
    """The zone concerns naive times alone; an offset says more than a setting."""
    assert unix_seconds("2026-05-14T21:09:25", HANOI) == 1_778_767_765
    assert unix_seconds("2026-05-14T14:09:25Z", HANOI) == 1_778_767_765


@pytest.mark.parametrize(
    "stamp",
    [None, "", 1_778_767_765, 1.5, True, [], "not-a-date", "0000-01-01T00:00:00", "2026-02-30T00:00:00"]
    + ["1969-12-31T23:59:59", "1969-12-31T23:59:59.999999", "1970-01-01T00:00:00+07:00", "1778767765"],
    ids=str,
)
def test_what_is_no_time_is_refused(stamp: object) -> None:
    """A row with such a stamp is set aside by name; it is never sorted to 1970 or to the wrong day."""
    with pytest.raises(ValueError, match="."):
        unix_seconds(stamp)


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001 - naive on purpose
    st.none() | st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_reading_what_was_written_gives_the_second(moment: datetime, offset: timezone | None) -> None:
    """Round trip over eight thousand years and all offsets, rounded down."""
    stamp = moment.replace(tzinfo=offset).isoformat()
    aware = moment.replace(tzinfo=offset or UTC)
    assert unix_seconds(stamp) == (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


@given(st.text(alphabet="0123456789-:.TZ+ W", max_size=32) | st.text(max_size=12), st.sampled_from([UTC, HANOI]))
@example("0001-01-01T00:00:00+14:00", HANOI)
@example("9999-12-31T23:59:59-14:00", HANOI)
@example("0001-01-01T00:00:00", HANOI)
def test_any_text_is_a_time_or_a_clear_refusal(stamp: str, zone: ZoneInfo) -> None:
    """Nothing but ValueError comes out, so one strange stamp cannot end a pass."""
    try:
        second = unix_seconds(stamp, zone)
    except ValueError:
        return
    assert 0 <= second <= LATEST
