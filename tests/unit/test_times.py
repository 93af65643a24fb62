"""Times as others write them. Pancake's read wrongly, every window of the sync is wrong with them."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from src.rules.times import in_short, in_utc, moment_of, unix_seconds
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


NOW = datetime(2026, 5, 14, 12, 0, 0, tzinfo=UTC)
HANOI = ZoneInfo("Asia/Ho_Chi_Minh")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", datetime(2026, 5, 14, 10, tzinfo=UTC)),
        (" 30m ago ", datetime(2026, 5, 14, 11, 30, tzinfo=UTC)),
        ("1d 12h ago", datetime(2026, 5, 13, 0, tzinfo=UTC)),
        ("1W", datetime(2026, 5, 7, 12, tzinfo=UTC)),
        ("90s", datetime(2026, 5, 14, 11, 58, 30, tzinfo=UTC)),
        ("0s", NOW),
        ("2026-05-14", datetime(2026, 5, 13, 17, tzinfo=UTC)),
        ("2026-05-14T14:00", datetime(2026, 5, 14, 7, tzinfo=UTC)),
        ("2026-05-14 14:00:05.5", datetime(2026, 5, 14, 7, 0, 5, 500_000, tzinfo=UTC)),
        ("2026-05-14T14:00Z", datetime(2026, 5, 14, 14, tzinfo=UTC)),
        ("2026-05-14T14:00-04:00", datetime(2026, 5, 14, 18, tzinfo=UTC)),
    ],
)
def test_a_person_writes_when_or_how_long_ago(text: str, moment: datetime) -> None:
    """In the zone of the settings where none stands there; the answer is in UTC."""
    found = moment_of(text, NOW, HANOI)
    assert (found, found.tzinfo) == (moment, UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2",
        "h",
        "2 hours",
        "-2h",
        "2h later",
        "ago",
        "14:00",
        "2026-02-30",
        "9" * 5000 + "d",
        "9999999999w",
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_moment_is_refused_with_how_to_write_one(text: str) -> None:
    """A filter that is misread would choose the wrong jobs."""
    with pytest.raises(ValueError, match="is no time: write 2026-05-14T14:00"):
        moment_of(text, NOW, HANOI)


@given(st.text(alphabet="0123456789smhdw ago-:TZ+.", max_size=24) | st.text(max_size=12))
def test_any_text_is_a_moment_or_a_clear_refusal(text: str) -> None:
    """Nothing but ValueError comes out."""
    try:
        moment = moment_of(text, NOW, HANOI)
    except ValueError:
        return
    assert moment.tzinfo is UTC


@given(st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1)), OFFSETS)  # noqa: DTZ001 - naive on purpose
def test_a_moment_written_is_the_moment_read(moment: datetime, offset: timezone) -> None:
    """Round trip, with the offset written or left to the zone."""
    aware = moment.replace(tzinfo=offset)
    assert moment_of(aware.isoformat(), NOW, HANOI) == aware
    assert moment_of(moment.isoformat(), NOW, offset) == aware


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m"),
        (200, "3m 20s"),
        (3600, "1h"),
        (3605, "1h"),
        (7500, "2h 5m"),
        (86_400 * 12 + 3 * 3600 + 59, "12d 3h"),
    ],
)
def test_a_span_is_shown_by_its_two_largest_units(seconds: float, text: str) -> None:
    """Next to each other, so that nobody takes 1h 5s for 1h 5m."""
    assert in_short(seconds) == text
