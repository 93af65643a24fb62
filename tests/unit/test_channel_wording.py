"""A note is cut where it must be, at no half character, and loses nothing else."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.clients.channels.note import Note
from src.clients.channels.wording import CUT, clean, cut, links_of, plain, title_of, utf16


@given(st.text(max_size=60), st.integers(1, 40), st.sampled_from([len, utf16]))
def test_a_cut_text_fits_and_is_a_start(text: str, limit: int, size: Callable[[str], int]) -> None:
    """Whatever the measure; what fits stays as it is, and what is cut says so."""
    shown = cut(text, limit, size)
    assert size(shown) <= limit
    assert shown == text or (shown.endswith(CUT) and text.startswith(shown[: -len(CUT)]))


@given(st.text(max_size=300), st.text(max_size=300), st.integers(30, 400))
def test_plain_text_fits_and_can_be_sent(title: str, text: str, limit: int) -> None:
    """No half character and no control sign gets out."""
    shown = plain(Note("n", title, text, link="https://p.test/1"), limit)
    assert len(shown) <= limit
    shown.encode()
    assert all(sign in "\n\t" or sign.isprintable() or sign >= " " for sign in shown)


def test_the_text_gives_way_before_title_and_link() -> None:
    """Who is told too little still learns what it is about, and where to act."""
    shown = plain(Note("n", "Title", "x" * 100, link="https://p.test/1"), 40)
    assert shown == f"Title\n{'x' * 15}{CUT}\n\nhttps://p.test/1"


@pytest.mark.parametrize(
    ("note", "links"),
    [
        (Note("n", "t", "see https://p.test/1", link="https://p.test/1"), []),
        (
            Note("n", "t", "x", link="https://p.test/1", links=(("An", "https://p.test/1"),)),
            [("An", "https://p.test/1")],
        ),
        (Note("n", "t", "x", links=(("An", "javascript:alert(1)"), ("B", "ftp://p.test"))), []),
        (Note("n", "t", "x", links=((" ", "https://p.test/ 1\n"),)), [("https://p.test/1", "https://p.test/1")]),
    ],
    ids=["in the text", "twice", "other schemes", "untidy"],
)
def test_links_are_shown_once_and_lead_to_pages(note: Note, links: list[tuple[str, str]]) -> None:
    """One that stands in the text already is not repeated."""
    assert links_of(note) == links


def test_a_title_is_one_line() -> None:
    """Headers and first lines hold no breaks, however it was put together."""
    assert title_of(Note("n", " a\r\n b\t\x00c\ud800 ", "")) == "a b c?"
    assert clean("\x1b[31mred") == "[31mred"
