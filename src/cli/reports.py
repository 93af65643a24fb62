"""`report`: what the stored data says, worked out while you wait."""

import csv
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

from ..deps import Deps
from ..errors import Misuse
from ..monitoring.reports import bounds, day_of, lacking, page_report, policies
from ..rules.response_times import Row, Times
from ..rules.times import in_short
from ..settings import Settings
from .edge import checked, settings_or_stop, with_deps
from .shown import print_json, print_table

report = typer.Typer(no_args_is_help=True, help="Reports, worked out from what is stored.")

NUMBERS = ("answered", "unanswered", "median", "p90", "longest")
SECONDS = ("median_s", "p90_s", "longest_s", "business_median_s", "business_p90_s", "business_longest_s")
EVERYBODY, NAMELESS = "all", "(not named)"


@dataclass(frozen=True, slots=True)
class _Line:
    page_id: str
    page: str
    staff: str
    row: Row


@report.callback()
def _reports() -> None:
    """So that there can be more than one."""


@report.command("response-times")
def response_times(
    page: Annotated[str | None, typer.Option(help="only this page")] = None,
    day: Annotated[str | None, typer.Option(help="this day, 2026-05-14, in TIMEZONE; else yesterday")] = None,
    since: Annotated[str | None, typer.Option(help="from this day on")] = None,
    until: Annotated[str | None, typer.Option(help="to this day, itself included; else yesterday")] = None,
    business: Annotated[bool, typer.Option("--business", help="count business time only, as alerts do")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line each instead of a table")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="comma-separated, times in seconds")] = False,
) -> None:
    """How long customers waited for an answer: by day, page and who answered."""
    settings = settings_or_stop()
    first, last = checked(lambda: _days(settings, day, since, until))
    if as_json and as_csv:
        checked(_one_shape)

    async def ask(deps: Deps) -> list[_Line]:
        return [line async for line in _lines(deps, page, first, last)]

    found = with_deps(ask, level="ERROR")
    if as_json:
        for line in found:
            print_json(_record(line))
    elif as_csv:
        _print_csv(found)
    else:
        heads = ("day", "page", "staff", *NUMBERS)
        print_table(heads, [_cells(line, is_business=business) for line in found], numbers=NUMBERS)


def _one_shape() -> None:
    raise Misuse("--json or --csv, not both")


def _days(settings: Settings, day: str | None, since: str | None, until: str | None) -> tuple[date, date]:
    now, zone = datetime.now(UTC).timestamp(), settings.service.zone
    if day is not None and (since is not None or until is not None):
        raise Misuse("--day, or --since and --until, not both")
    if day is not None or since is None:
        if until is not None:
            raise Misuse("--until needs a --since")
        only = day_of(day, now, zone)
        return only, only
    first, last = day_of(since, now, zone), day_of(until, now, zone)
    if last < first:
        raise Misuse(f"--until {last} lies before --since {first}")
    return first, last


async def _lines(deps: Deps, page: str | None, first: date, last: date) -> AsyncIterator[_Line]:
    from_, to = bounds(first, last, deps.settings.service.zone)
    book, names = await policies(deps), await deps.staff.names()
    page_ids = [page] if page else await deps.pages.to_sync(deps.settings.pancake.page_ids)
    for page_id in await lacking(deps, page_ids, from_, to):
        typer.echo(f"page {page_id}: not everything of these days has been read yet", err=True)
    for page_id in page_ids:
        name = await deps.pages.name(page_id) or page_id
        for row in await page_report(deps, page_id, from_, to, book):
            staff = EVERYBODY if row.is_page else names.get(row.staff_id or "") or row.staff_id or NAMELESS
            yield _Line(page_id, name, staff, row)


def _cells(line: _Line, *, is_business: bool) -> tuple[object, ...]:
    row = line.row
    times = row.business if is_business else row.times
    spans = [in_short(seconds) for seconds in (times.median_s, times.p90_s, times.longest_s)] if times else [""] * 3
    unanswered = row.unanswered if row.is_page else ""
    return row.day or EVERYBODY, line.page, line.staff, row.answered, unanswered, *spans


def _record(line: _Line) -> dict[str, Any]:
    row = line.row
    return {
        "day": row.day,
        "page_id": line.page_id,
        "page": line.page,
        "staff_id": row.staff_id,
        "staff": line.staff,
        "is_page": row.is_page,
        "answered": row.answered,
        "unanswered": row.unanswered if row.is_page else None,
        **dict(zip(SECONDS, (*_seconds(row.times), *_seconds(row.business)), strict=True)),
    }


def _seconds(times: Times | None) -> Iterator[float | None]:
    yield from (times.median_s, times.p90_s, times.longest_s) if times else (None, None, None)


def _print_csv(lines: list[_Line]) -> None:
    records = [_record(line) for line in lines]
    heads = ("day", "page_id", "page", "staff_id", "staff", "is_page", "answered", "unanswered", *SECONDS)
    writer = csv.DictWriter(sys.stdout, heads, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in record.items()} for record in records)


def _harmless(value: object) -> object:
    """A spreadsheet takes text that begins so for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
