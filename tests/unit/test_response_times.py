"""The report of response times: which episodes it counts, what its numbers are, and what its message says."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.response_text import MOST_PAGES, MOST_STAFF, report_text
from src.rules.response_times import Follower, Row, Times, Wait, report_of
from src.rules.waiting import Episode, Said, episodes, in_order

DAY = "2026-05-14"
WHO = ("customer", "agent", "bot", "system")


def wait(minutes: float | None, staff: str | None = "u1", day: str = DAY, business: float | None = None) -> Wait:
    seconds = minutes * 60 if minutes is not None else None
    counted = business * 60 if business is not None else seconds
    return Wait(day, staff if minutes is not None else None, seconds, counted)


def minutes(times: Times | None) -> tuple[float, ...]:
    return (times.median_s / 60, times.p90_s / 60, times.longest_s / 60) if times else ()


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        ([5], (5, 5, 5)),
        ([1, 3], (2, 3, 3)),
        ([9, 1, 2], (2, 9, 9)),
        (list(range(1, 11)), (5.5, 9, 10)),
        ([*range(1, 10), 600], (5.5, 9, 600)),
        (list(range(1, 101)), (50.5, 90, 100)),
        ([0, 0], (0, 0, 0)),
    ],
    ids=["one", "two", "three", "ten", "ten with one far out", "hundred", "at once"],
)
def test_numbers(waits: list[float], expected: tuple[float, ...]) -> None:
    """The mean of the middle two; the wait nine of ten did not exceed; the longest."""
    (page, staff) = report_of([wait(each) for each in waits])
    assert minutes(page.times) == minutes(staff.times) == expected


def test_a_page_comes_before_its_staff_and_who_answered_most_before_the_others() -> None:
    """Who answered from the channel's own app has no name, and a wait that nobody ended is the page's alone."""
    rows = report_of([wait(4, "b"), wait(2, "a"), wait(6, "a"), wait(1, None), wait(None), wait(None)])
    assert [(row.is_page, row.staff_id, row.answered, row.unanswered) for row in rows] == [
        (True, None, 4, 2),
        (False, "a", 2, 0),
        (False, "b", 1, 0),
        (False, None, 1, 0),
    ]
    assert minutes(rows[1].times) == (4, 6, 6)


def test_business_time_stands_beside_the_clocks() -> None:
    (page, _) = report_of([wait(600, business=20), wait(10, business=0)])
    assert minutes(page.times) == (305, 600, 600)
    assert minutes(page.business) == (10, 20, 20)


def test_where_nothing_was_answered_there_are_no_numbers() -> None:
    assert report_of([wait(None)]) == [Row(DAY, True, None, 0, 1, None, None)]
    assert report_of([]) == []


def test_several_days_have_their_sum_at_the_end() -> None:
    """A median of medians is none: the sum is worked out anew."""
    rows = report_of([wait(1, day="2026-05-14"), wait(9, day="2026-05-15"), wait(20, day="2026-05-15")])
    pages = [(row.day, row.answered, *minutes(row.times)) for row in rows if row.is_page]
    assert pages == [("2026-05-14", 1, 1, 1, 1), ("2026-05-15", 2, 14.5, 20, 20), (None, 3, 9, 20, 20)]


SAID = st.tuples(
    st.sampled_from("AB"),
    st.builds(
        Said,
        st.integers(0, 999).map(lambda number: f"m{number:03d}"),
        st.integers(0, 40).map(lambda half_seconds: half_seconds * 500_000),
        st.sampled_from(WHO),
        st.none() | st.sampled_from(("u1", "u2")),
    ),
)
TALK = st.lists(SAID, max_size=24, unique_by=lambda one: one[1].message_id)


@given(TALK, st.integers(0, 20), st.integers(0, 20))
def test_following_finds_the_episodes_that_begin_in_the_stretch(
    talk: list[tuple[str, Said]], first: int, last: int
) -> None:
    """Read second by second, in one pass, as if each conversation had been read whole."""
    low, high = min(first, last) * 1_000_000, max(first, last) * 1_000_000
    of = {name: [said for conversation, said in talk if conversation == name] for name in "AB"}
    expected, waiting = set[Episode](), set[str]()
    for name, said in of.items():
        found = episodes(said)
        expected |= {each for each in found if low <= each.since_us < high}
        if any(each.since_us < low and (each.replied_us is None or each.replied_us >= low) for each in found):
            waiting.add(name)
    inside = sorted((one for one in talk if low <= one[1].at_us < high), key=lambda one: one[1].at_us // 1_000_000)
    follower = Follower(waiting)
    answered = set(follower.follow(inside))
    assert {each for each in expected if each.replied_us is not None and each.replied_us < high} == answered
    assert {(each.message_id, each.since_us) for each in expected - answered} == {
        (each.message_id, each.since_us) for each in follower.open.values()
    }


def test_following_goes_on_from_one_batch_to_the_next() -> None:
    """A day of a page comes in many batches; whoever waits at the end of one is answered in the next."""
    follower = Follower()
    assert list(follower.follow([("A", Said("1", 0, "customer"))])) == []
    assert list(follower.follow([("A", Said("2", 9_000_000, "agent", "u"))])) == [Episode("1", 0, 9_000_000, "u")]
    assert follower.open == {}


def test_a_message_names_the_page_with_most_unanswered_first() -> None:
    pages = {
        "1": report_of([wait(4, "a"), wait(8, "b"), wait(9, "b")]),
        "2": report_of([wait(None), wait(None)]),
        "3": [],
    }
    title, text = report_text(DAY, pages, {"1": "Shop {A}", "2": "Clinic"}, {"a": "Lan", "b": "Minh"}, "en")
    assert title == "Response times of 2026-05-14"
    assert text.splitlines() == [
        "Clinic: 0 answered, 2 unanswered",
        "Shop {A}: 3 answered, 0 unanswered",
        "  median 8 min, 90% within 9 min, longest 9 min",
        "  • Minh: 2, median 8 min, longest 9 min",
        "  • Lan: 1, median 4 min, longest 4 min",
    ]
    assert report_text(DAY, {"3": []}, {}, {}, "vi") == (
        "Thời gian phản hồi ngày 2026-05-14",
        "Không có khách nào nhắn tin.",
    )


def test_a_message_stays_short() -> None:
    """However many pages and staff there are: the rest is a number."""

    def staff(count: int) -> Iterator[Wait]:
        return (wait(1, f"u{number}") for number in range(count))

    pages = {f"{number}": report_of(staff(20)) for number in range(40)}
    _, text = report_text(DAY, pages, {}, {}, "vi", is_business=True)
    lines = text.splitlines()
    assert len(lines) == MOST_PAGES * (MOST_STAFF + 3) + 2
    assert lines[-2:] == ["... và 30 trang khác", "Tính theo giờ làm việc."]
    assert "  ... và 15 nhân viên khác" in lines


@given(TALK)
def test_within_a_second_the_order_of_reading_means_nothing(talk: list[tuple[str, Said]]) -> None:
    by_second = sorted(talk, key=lambda one: one[1].at_us // 1_000_000)
    exact = [(name, said) for said in in_order(said for _, said in talk) for name, one in talk if one == said]
    assert list(Follower().follow(by_second)) == list(Follower().follow(exact))
