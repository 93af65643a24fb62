"""What commands print: JSON lines for programs, tables for people."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

UNBOUNDED = 10_000  # columns, where nobody's window has to hold them
ENOUGH = 30  # columns: so much of the last one, the text, is worth more than another column
LEAST = 16  # and so much of it stays, whatever else is cut
LEAST_CELL = 8
GAP = 2  # between columns


def print_json(report: dict[str, Any]) -> None:
    """One line of JSON."""
    sys.stdout.write(orjson.dumps(report).decode() + "\n")


def print_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """A table as wide as it needs to be, one line a row; on a terminal as wide as that.

    Where there is no room columns of `spare` are left out, the first of them first, which is said; then cells are cut,
    the last column's before others. `numbers`: the heads of the columns that stand to the right.
    """
    width = None if sys.stdout.isatty() else UNBOUNDED
    console = Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = _widths(heads, cells, spare, console.width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, width in widths.items():
        right = head in numbers
        table.add_column(head, justify="right" if right else "left", no_wrap=True, overflow="ellipsis", max_width=width)
    for row in cells:
        table.add_row(*(Text(cell) for head, cell in zip(heads, row, strict=True) if head in widths))
    console.print(table)
    if left_out := [head for head in heads if head not in widths]:
        sys.stderr.write(f"no room for: {', '.join(left_out)} (a wider window shows all, and `| less -S` does)\n")


def _widths(heads: Sequence[str], cells: list[list[str]], spare: Sequence[str], width: int) -> dict[str, int]:
    """How wide each column is to be that has a place in a window of this width; others are not in it."""
    columns = zip(heads, *cells, strict=True)
    widths = {head: max(map(cell_len, column)) for head, column in zip(heads, columns, strict=True)}
    last = heads[-1]
    whole, widths[last] = widths[last], min(widths[last], ENOUGH)

    def too_wide() -> int:
        return sum(widths.values()) + GAP * (len(widths) - 1) - width

    for head in spare:
        if too_wide() <= 0:
            break
        del widths[head]
    widths[last] = min(widths[last], max(LEAST, widths[last] - too_wide()))
    # the widest first, and never the first column: it is the id that other commands ask for
    for head in sorted([*widths][1:], key=widths.__getitem__, reverse=True):
        widths[head] = min(widths[head], max(LEAST_CELL, widths[head] - max(0, too_wide())))
    widths[last] += max(0, min(whole - widths[last], -too_wide()))
    return widths


def one_line(cell: object) -> str:
    """As text that neither breaks a line nor speaks to the terminal: an error may hold what others sent."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(cell)).split())
