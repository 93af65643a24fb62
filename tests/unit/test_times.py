"""Pancake's times: read wrongly, every window of the sync is wrong with them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from src.rules.times import in_utc, unix_seconds
from src.sync.customers import customer_document

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(stamp: object) -> int:
    """The second a customer with this stamp is ordered by."""
    second = customer_document("100", {"psid": "1", "updated_at": stamp})[0]
    assert second is not None
    return second


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
    """With or without a fraction, with or without an offset: the same second, in UTC where nothing else is said."""
    assert read(stamp) == second


@pytest.mark.parametrize(
    "stamp",
    [
        "",
        "not-a-date",
        "0000-01-01T00:00:00",
        "2026-02-30T00:00:00",
        "2026-05-14T25:00:00",
        "1969-12-31T23:59:59",
        "1969-12-31T23:59:59.999999",
        "1970-01-01T00:00:00+07:00",
        [],
        {},
        True,
        float("inf"),
        10**30,
    ],
    ids=str,
)
def test_what_is_no_time_is_refused(stamp: object) -> None:
    """A row with such a stamp is set aside by name; it is never sorted to 1970 or to the wrong day."""
    with pytest.raises(ValueError, match=r"\w"):
        read(stamp)


def test_a_customer_that_never_changed_is_ordered_by_its_birth() -> None:
    """Older answers have no `updated_at`: it says nothing of the row's place. One with neither stamp has no time."""
    born = {"psid": "1", "inserted_at": "2026-05-14T14:09:25", "updated_at": None}
    second, document = customer_document("100", born)
    assert (second, document["updatedAt"]) == (None, 1_778_767_765)
    with pytest.raises(ValueError, match="updated_at and inserted_at are both missing"):
        customer_document("100", {"psid": "1"})


OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001 - naive on purpose
    st.none() | OFFSETS,
)
@example(datetime(6326, 1, 1, 0, 0, 0, 999985), None)  # noqa: DTZ001 - a float has no such microsecond
def test_reading_what_was_written_gives_the_second(moment: datetime, offset: timezone | None) -> None:
    """Round trip over eight thousand years and all offsets, rounded down."""
    aware = in_utc(moment.replace(tzinfo=offset))
    second = (aware - EPOCH) // timedelta(seconds=1)
    assert unix_seconds(aware) == second
    assert read(moment.replace(tzinfo=offset).isoformat()) == second


@given(st.datetimes(), OFFSETS)
def test_only_naive_times_are_given_a_zone(moment: datetime, offset: timezone) -> None:
    """An offset says more than a habit; twice is once."""
    assert in_utc(moment.replace(tzinfo=offset)) == moment.replace(tzinfo=offset)
    assert in_utc(in_utc(moment)) == in_utc(moment) == moment.replace(tzinfo=UTC)


@given(st.text(alphabet="0123456789-:.TZ+ W", max_size=32) | st.text(max_size=12) | st.integers() | st.floats())
def test_any_stamp_is_a_time_or_a_clear_refusal(stamp: object) -> None:
    """Nothing but ValueError comes out, so one strange stamp cannot end a pass."""
    try:
        second = read(stamp)
    except ValueError:
        return
    assert 0 <= second < 253_402_300_800 + 86_400
