"""The list without page numbers, read by page number: whatever becomes of the rows meanwhile, none is passed over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.clients.pancake.client import Listing, PancakeClient
from src.errors import Malformed
from src.sync.cursor import CursorReader

pytestmark = pytest.mark.anyio

SECOND = 1_780_000_000
LATER = SECOND + 500
Row = dict[str, Any]


@dataclass
class List2:
    """A list v2: `changed` and `began` say where each conversation stands. `meanwhile` happens before each call."""

    changed: dict[str, int]
    began: dict[str, int] = field(default_factory=dict)
    is_cursor_ignored: bool = False
    is_until_inside: bool = True
    cap: int = 60
    unreadable: set[str] = field(default_factory=set)
    meanwhile: Callable[[int], None] = lambda _: None
    calls: list[str | None] = field(default_factory=list)

    async def conversations(
        self, _page_id: str, *, since: int, until: int, after_id: str | None = None, order_by: str = "updated_at"
    ) -> Listing:
        """As the client's; the cursor's place is where its row stands when it is asked."""
        self.calls.append(after_id)
        self.meanwhile(len(self.calls))
        by = self.changed if order_by == "updated_at" else self.began
        last = until if self.is_until_inside or order_by == "updated_at" else until - 1
        found = sorted((key for key in self.changed if since <= by[key] <= last), key=lambda key: (-by[key], key))
        if after_id is not None and not self.is_cursor_ignored:
            place = (-by[after_id], after_id) if after_id in self.changed else None
            found = [key for key in found if place is not None and (-by[key], key) > place]
        rows = [self._row(key) for key in found[: self.cap]]
        return Listing(rows, None, SECOND, datetime.fromtimestamp(SECOND, UTC))

    def _row(self, key: str) -> Row:
        times = {"updated_at": self.changed[key], "inserted_at": self.began.get(key, SECOND)}
        if key in self.unreadable:
            return {"id": key, "updated_at": "soon", "inserted_at": "never"}
        return {"id": key, **{name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in times.items()}}


def tie(rows: int) -> dict[str, int]:
    """Conversations that changed in one and the same second."""
    return {f"c{number:04}": SECOND for number in range(rows)}


async def read_all(source: List2) -> list[str]:
    """The ids of every page up to the first empty one, in the order they came."""
    reader, found = CursorReader(cast(PancakeClient, source)), list[str]()
    for page_number in range(1, 50):
        page = await reader.read("p", since=SECOND, until=SECOND, page_number=page_number)
        if not page.rows:
            return found
        found += [row["id"] for row in page.rows]
    raise AssertionError("the list never ends")


@pytest.mark.parametrize("rows", [0, 1, 2, 59, 60, 61, 120, 250])
async def test_every_page_comes_once_and_in_order(rows: int) -> None:
    """An answer at a time, and two calls to be sure of the end."""
    source = List2(tie(rows))
    assert await read_all(source) == sorted(source.changed)
    assert len(source.calls) <= -(-rows // 60) + 2


async def test_pages_behind_the_first_are_asked_for_once() -> None:
    """A walk goes from the last page to the first; following the cursor anew for each would be quadratic."""
    source = List2(tie(600))
    reader = CursorReader(cast(PancakeClient, source))
    for page_number in range(11, 0, -1):
        await reader.read("p", since=SECOND, until=SECOND, page_number=page_number)
    assert len(source.calls) <= 10 + 2 + 1  # the first page is read anew


async def test_a_cursor_whose_row_was_deleted_is_not_the_end() -> None:
    """Its answer is empty, as behind the last row."""
    source = List2(tie(130))

    def meanwhile(call: int) -> None:
        if call == 2:  # the last rows of the first answer, more than a few of them
            for number in range(50, 60):
                del source.changed[f"c{number:04}"]

    source.meanwhile = meanwhile
    assert set(await read_all(source)) >= set(source.changed)


async def test_a_cursor_whose_row_moved_to_the_top_is_not_the_end() -> None:
    """Its answer begins at the top once more."""
    source = List2(tie(130))

    def meanwhile(call: int) -> None:
        if call in (2, 4):
            source.changed["c0059" if call == 2 else "c0119"] = LATER

    source.meanwhile = meanwhile
    left = {key for key in source.changed if key not in ("c0059", "c0119")}
    assert set(await read_all(source)) >= left


async def test_where_the_cursor_is_ignored_the_second_is_picked_out_of_all_conversations() -> None:
    """By the order they began, which can be read by windows of time alone."""
    source = List2(tie(200) | {f"old{number}": SECOND - 5 for number in range(90)}, is_cursor_ignored=True)
    source.began = {key: SECOND - 40_000 + 7 * place for place, key in enumerate(sorted(source.changed))}
    assert sorted(await read_all(source)) == sorted(tie(200))


async def test_an_ignored_cursor_is_known_even_while_rows_leave() -> None:
    """What comes again is then not quite the first answer."""
    source = List2(tie(200), is_cursor_ignored=True)
    source.began = {key: SECOND - 40_000 + 7 * place for place, key in enumerate(sorted(source.changed))}

    def meanwhile(call: int) -> None:
        source.changed[f"c{call:04}"] = LATER

    source.meanwhile = meanwhile
    found = await read_all(source)
    assert set(found) >= {key for key, at in source.changed.items() if at == SECOND}


@pytest.mark.parametrize("is_until_inside", [True, False])
async def test_where_nothing_helps_it_says_so(is_until_inside: bool) -> None:
    """More than an answer of conversations began in one second, and the cursor is ignored; whatever the bounds mean."""
    source = List2(tie(200), is_cursor_ignored=True, is_until_inside=is_until_inside)
    source.began = dict.fromkeys(source.changed, SECOND - 10)
    with pytest.raises(Malformed, match="ignores the cursor"):
        await read_all(source)


async def test_a_row_that_does_not_say_when_it_changed_is_not_passed_over() -> None:
    """It has to be set aside by name."""
    source = List2(tie(200), is_cursor_ignored=True, unreadable={"c0150"})
    source.began = {key: SECOND - 1000 + place for place, key in enumerate(source.changed)}
    assert "c0150" in await read_all(source)


async def test_a_short_window_needs_no_cursor() -> None:
    """One that is ignored says nothing then: all rows are there."""
    source = List2(tie(40), is_cursor_ignored=True)
    assert await read_all(source) == sorted(source.changed)
    assert len(source.calls) == 2


async def test_smaller_answers_than_documented_are_followed_all_the_same() -> None:
    """A server that cuts them shorter looks like the end."""
    assert len(await read_all(List2(tie(130), cap=25))) == 130


#: Any row, and more often one that an answer ends with.
NUMBERS = st.integers(0, 139) | st.sampled_from((9, 19, 29, 24, 49, 74, 59, 119))


@given(
    rows=st.integers(0, 140),
    cap=st.sampled_from([10, 25, 60]),
    events=st.lists(st.tuples(st.integers(1, 8), NUMBERS, st.booleans()), max_size=25),
)
async def test_what_stays_where_it_is_is_always_met(rows: int, cap: int, events: list[tuple[int, int, bool]]) -> None:
    """Rows are deleted and changed between any two calls; those that are not come, each once."""
    source = List2(tie(rows), cap=cap)

    def meanwhile(call: int) -> None:
        for at, number, is_deleted in events:
            key = f"c{number:04}"
            if at == call and key in source.changed:
                if is_deleted:
                    del source.changed[key]
                else:
                    source.changed[key] = LATER

    source.meanwhile = meanwhile
    found = await read_all(source)
    assert len(found) == len(set(found))
    assert set(found) >= {key for key, at in source.changed.items() if at == SECOND}
