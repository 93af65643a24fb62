"""Tables on a terminal: what is looked for stays readable, whatever the window's width."""

import io
import sys

import pytest
from click import unstyle
from rich.cells import cell_len

from src.cli.runs import HEADS
from src.cli.shown import print_table

RUN = (
    *("05-14 02:00:09", "sync_page_conversations pg_1002003004", "dead", "12ms", "1m 30s", 3, "sync", "worker-3:4711"),
    "Pancake answered 502 for a minute, it is tried again with the next tick",
)
SPARE = ("attempt", "worker", "lane")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of(monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    terminal = Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        patched.setenv("COLUMNS", str(columns))
        print_table(HEADS, [RUN], numbers=("waited", "took", "attempt"), spare=SPARE)
    return unstyle(terminal.getvalue()).splitlines()


@pytest.mark.parametrize("columns", [80, 100, 120, 160, 200])
def test_a_row_is_one_line_and_says_when_what_and_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, columns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    heads, row = lines_of(monkeypatch, columns)
    assert cell_len(row) <= columns
    assert row.startswith("05-14 02:00:09  sync_page_conve")
    assert "dead" in row
    assert "Pancake answ" in row
    hidden = [head for head in SPARE if head not in heads]
    assert ("no room for" in capsys.readouterr().err) == bool(hidden)


def test_a_wide_window_shows_every_column(monkeypatch: pytest.MonkeyPatch) -> None:
    heads, row = lines_of(monkeypatch, 220)
    assert heads.split() == list(HEADS)
    assert row.endswith(RUN[-1])


def test_no_row_at_all_is_a_line_of_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    print_table(("id", "job"), [])
    assert unstyle(terminal.getvalue()).split() == ["id", "job"]
