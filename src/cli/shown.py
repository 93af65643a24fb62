"""What commands print: JSON lines for programs, tables for people."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

UNBOUNDED = 10_000  # columns, where nobody's window has to hold them


def print_json(report: dict[str, Any]) -> None:
    """One line of JSON."""
    sys.stdout.write(orjson.dumps(report).decode() + "\n")


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = ()) -> None:
    """A table as wide as it needs to be; on a terminal as wide as that. The last column is cut where there is no room.

    `numbers`: the heads of the columns that stand to the right.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        is_last = head == heads[-1]
        table.add_column(
            head,
            justify="right" if head in numbers else "left",
            no_wrap=is_last,
            overflow="ellipsis" if is_last else "fold",
        )
    for row in rows:
        table.add_row(*(one_line(cell) for cell in row))
    console = Console(
        file=sys.stdout,
        width=None if sys.stdout.isatty() else UNBOUNDED,
        markup=False,
        highlight=False,
        emoji=False,
    )
    console.print(table)


def one_line(cell: object) -> str:
    """As text that neither breaks a line nor speaks to the terminal: an error may hold what others sent."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(cell)).split())
