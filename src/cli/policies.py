"""`policy`: what pages promise their customers; see it, set it, try it on a moment."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ..alerts.monitor import told_by
from ..alerts.outgoing import released
from ..clients.mongo import Document
from ..deps import Deps
from ..errors import Misuse
from ..rules.policy import ASSIGNEE, Policy, Step, applies, is_too_old, steps_due
from ..rules.policy_document import policy_of
from ..rules.recipients import recipient_of
from ..rules.times import moment_of
from ..settings import Settings
from ..store.reply_policies import EVERY_PAGE, PolicyBook, merged
from . import policy_shown as shown
from .edge import checked, moment, settings_or_stop, with_deps
from .policy_given import fields_of, page_of
from .shown import print_json, print_table

Page = Annotated[str | None, typer.Option(help="the page's id")]
Every = Annotated[bool, typer.Option("--all", help="every page, where it says nothing else of its own")]
Json = Annotated[bool, typer.Option("--json", help="one JSON line each instead of a table")]
Several = list[str] | None

policy = typer.Typer(no_args_is_help=True, help="Set how long customers of a page may wait, and who is told.")


@policy.command("list")
def list_(as_json: Json = False) -> None:
    """Show the policy of every page, and what is wrong with those that do not count."""
    settings = settings_or_stop()

    async def ask(deps: Deps) -> tuple[PolicyBook, dict[str, str | None]]:
        book = await deps.policies.load(_base(settings))
        page_ids = {*await deps.pages.to_sync(settings.pancake.page_ids), *book.pages}
        return book, {page_id: await deps.pages.name(page_id) for page_id in sorted(page_ids)}

    book, names = with_deps(ask, level="CRITICAL")
    rows = [(EVERY_PAGE, "every other page", book.default)]
    rows += [(page_id, name or "", book.of(page_id)) for page_id, name in names.items()]
    if as_json:
        for page_id, name, found in rows:
            print_json(_report(page_id, name, found, book))
        return
    heads = ("page", "name", "policy", "minutes", "steps", "hours", "told", "fault")
    shown = [_row(page_id, name, found, book) for page_id, name, found in rows]
    print_table(heads, shown, numbers=("minutes",), spare=("steps", "name"))


@policy.command()
def show(
    page: Page = None,
    every: Every = False,
    as_json: Annotated[bool, typer.Option("--json", help="what is stored, as one JSON line")] = False,
) -> None:
    """Show the policy of a page in full."""
    page_id, settings = checked(lambda: _page(page, every)), settings_or_stop()

    async def ask(deps: Deps) -> tuple[PolicyBook, Document | None, str | None, dict[str, str]]:
        book, document = await deps.policies.load(_base(settings)), (await deps.policies.all()).get(page_id)
        return book, document, await deps.pages.name(page_id), await deps.staff.names(page_id)

    book, document, name, staff = with_deps(ask, level="CRITICAL")
    if as_json:
        print_json(document or {"pageId": page_id})
    else:
        _print_summary(page_id, name, book, staff)


@policy.command("set")
def set_(
    page: Page = None,
    every: Every = False,
    threshold: Annotated[float | None, typer.Option(help="minutes of business time a customer may wait")] = None,
    warn: Annotated[float | None, typer.Option(help="a warning so many minutes before that; 0: none")] = None,
    escalate: Annotated[
        list[float] | None, typer.Option(help="told again so many minutes after that; several times; 0: never")
    ] = None,
    to: Annotated[Several, typer.Option(help="who is told: telegram:-100..., email:...; several times")] = None,
    warn_to: Annotated[Several, typer.Option(help="who is warned; else whoever it is assigned to")] = None,
    escalate_to: Annotated[Several, typer.Option(help="who is told after that; else those of --to")] = None,
    hours: Annotated[
        str | None, typer.Option(help='"mon-fri 08:00-12:00 13:00-17:30; sat 08:00-12:00", or 24/7')
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="of the hours, such as Asia/Ho_Chi_Minh")] = None,
    holiday: Annotated[
        Several, typer.Option(help='closed: "2027-02-05..2027-02-11 Tet", 2027-04-30, 09-02 (each year), tet, vn')
    ] = None,
    day: Annotated[Several, typer.Option(help='hours of its own: "2027-02-13 09:00-12:00"')] = None,
    leave_out_tag: Annotated[Several, typer.Option(help="nobody is told of conversations with this tag")] = None,
    leave_out_type: Annotated[Several, typer.Option(help="nor of this type: INBOX or COMMENT")] = None,
    staff: Annotated[Several, typer.Option(help="USER_ID=ADDRESS: where an assignee is told")] = None,
    quiet: Annotated[Several, typer.Option(help="ADDRESS=22:00-07:00: not told meanwhile, but after")] = None,
    max_age_days: Annotated[float | None, typer.Option(help="nobody is told of who is overdue for longer")] = None,
    unset: Annotated[Several, typer.Option(help="an option's name: again as for other pages; several times")] = None,
) -> None:
    """Change what is given and leave the rest; prints what is stored as one JSON line.

    Options that may stand several times replace what was there, but --staff and --quiet, which add to it; `none`
    empties them. Safe to repeat.
    """
    page_id = checked(lambda: _page(page, every))
    given = {
        "threshold": threshold,
        "warn": warn,
        "escalate": escalate,
        "to": to,
        "warn-to": warn_to,
        "escalate-to": escalate_to,
        "hours": hours,
        "timezone": timezone,
        "holiday": holiday,
        "day": day,
        "leave-out-tag": leave_out_tag,
        "leave-out-type": leave_out_type,
        "staff": staff,
        "quiet": quiet,
        "max-age-days": max_age_days,
    }
    fields = checked(lambda: fields_of(given, unset or ()))
    settings = settings_or_stop()
    checked(lambda: _readable(fields, settings))

    async def work(deps: Deps) -> tuple[Document, list[str]]:
        base = _base(settings)
        over = base if page_id == EVERY_PAGE else (await deps.policies.load(base)).default
        try:
            document = await deps.policies.change(page_id, fields, over)
        except ValueError as e:
            raise Misuse(f"nothing was changed: {e}") from e
        return document, await _remarks(deps, page_id, document)

    document, remarks = with_deps(work, level="CRITICAL")
    print_json(document)
    for remark in remarks:
        typer.echo(remark, err=True)


@policy.command()
def remove(page: Page = None, every: Every = False) -> None:
    """Give a page the policy of all pages again, or with --all all of them that of the settings. Safe to repeat."""
    page_id = checked(lambda: _page(page, every))
    done = with_deps(lambda deps: deps.policies.remove(page_id), level="ERROR")
    typer.echo(f"{_named(page_id)} {'has' if done else 'had'} no policy of {'their' if every else 'its'} own")


@policy.command("test")
def try_(
    page: Page = None,
    every: Every = False,
    since: Annotated[
        str, typer.Option(help='when a customer writes: "2027-02-05 20:00" on the page\'s clock, or 2h for 2 hours ago')
    ] = "0s",
    assignee: Annotated[Several, typer.Option(help="user id the conversation is assigned to")] = None,
    tag: Annotated[Several, typer.Option(help="id or name of a tag it has")] = None,
    type_: Annotated[str, typer.Option("--type", help="INBOX or COMMENT")] = "INBOX",
    as_json: Json = False,
) -> None:
    """Show when each step is due for a customer who writes then and gets no answer, and who is told. Sends nothing."""
    page_id, settings = checked(lambda: _page(page, every)), settings_or_stop()
    checked(lambda: moment("--since", since, settings))

    async def ask(deps: Deps) -> Policy:
        return (await deps.policies.load(_base(settings))).of(page_id)

    found = with_deps(ask, level="ERROR")
    at = moment_of(since, datetime.now(UTC), found.calendar.zone).timestamp()
    if not applies(found, type_, tag or (), tag or ()):
        typer.echo("nobody is told: conversations with this tag or of this type are left out", err=as_json)
        return
    if not as_json:
        opening = found.calendar.next_open(at)
        counts = (
            "the page never opens" if opening is None else f"time counts from {shown.moment(opening, found.calendar)}"
        )
        typer.echo(f"written {shown.moment(at, found.calendar)} ({found.calendar.zone.key}); {counts}")
    rows = [_tried(step, found, at, assignee or ()) for step in found.steps]
    rows.sort(key=lambda row: (row["at"] is None, row["at"]))
    if as_json:
        for row in rows:
            print_json(row)
        return
    print_table(("step", "severity", "due", "told", "remark"), [_tried_row(row, found) for row in rows])


def _page(page: str | None, every: bool) -> str:
    return page_of(page, every=every, name_of_all=EVERY_PAGE)


def _named(page_id: str) -> str:
    return "other pages" if page_id == EVERY_PAGE else f"page {page_id}"


def _base(settings: Settings) -> Policy:
    return settings.alerts.policy(settings.service.zone)


def _readable(fields: Document, settings: Settings) -> None:
    """What is wrong by itself is refused before a server is asked."""
    try:
        policy_of(merged({}, fields), _base(settings))
    except ValueError as e:
        raise Misuse(f"nothing was changed: {e}") from e


def _report(page_id: str, name: str | None, found: Policy, book: PolicyBook) -> dict[str, Any]:
    return {
        "page_id": page_id,
        "name": name,
        "policy": _origin(page_id, book),
        "threshold_minutes": found.threshold_s / 60,
        "steps": [shown.step_report(step) for step in found.steps],
        "hours": shown.hours(found.calendar),
        "timezone": found.calendar.zone.key,
        "fault": book.faults.get(page_id),
    }


def _row(page_id: str, name: str, found: Policy, book: PolicyBook) -> tuple[object, ...]:
    told = dict.fromkeys(to for step in found.steps for to in step.to)
    return (
        *(page_id, name, _origin(page_id, book), shown.minutes(found.threshold_s), shown.steps(found)),
        *(shown.hours(found.calendar), ", ".join(told), book.faults.get(page_id, "")),
    )


def _origin(page_id: str, book: PolicyBook) -> str:
    """Whose policy a page has."""
    if page_id in book.faults:
        return "does not count"
    if page_id in book.own:
        return "own" if page_id != EVERY_PAGE else "set for all"
    return "set for all" if EVERY_PAGE in book.own else "settings"


def _print_summary(page_id: str, name: str | None, book: PolicyBook, staff: dict[str, str]) -> None:
    found = book.of(page_id)
    today = datetime.now(found.calendar.zone).date()
    about = f"{name or ''} ({page_id})".strip() if page_id != EVERY_PAGE else "every page that says nothing of its own"
    lines = [("page", about), ("policy", _origin(page_id, book)), *shown.summary(found, today, staff)]
    if fault := book.faults.get(page_id):
        lines.insert(2, ("fault", fault))
    print_table(("what", "how it is"), lines)


async def _remarks(deps: Deps, page_id: str, document: Document) -> list[str]:
    """What a person should know of a policy that was just stored."""
    book = await deps.policies.load(_base(deps.settings))
    found = book.of(page_id)
    remarks = [f"the policy of {_named(page)} does not count now: {fault}" for page, fault in book.faults.items()]
    if page_id != EVERY_PAGE and await deps.pages.met_at(page_id) is None:
        remarks.append(f"no page {page_id} is known yet: `policy list` shows those that are")
    if document.get("steps") is not None:
        remarks.append("it has steps of its own: --warn, --escalate and --to do not count before `--unset steps`")
    told = {to for step in found.steps for to in step.to} | {to for each in found.staff.values() for to in each}
    if told <= {ASSIGNEE}:
        remarks.append("nobody is told but in the app: set --to, or --staff for those it is assigned to")
    for to in sorted(told - {ASSIGNEE}):
        recipient = recipient_of(to)
        lacking = None if recipient.channel in ("app", "webhook") else deps.channels.configured(recipient)
        if lacking:
            remarks.append(f"{to} cannot be told yet: {lacking}")
    return remarks


def _tried(step: Step, found: Policy, at: float, assignees: Sequence[str]) -> dict[str, Any]:
    """A step of a wait that began `at`: when it is due, who is told and when, and why not."""
    due = next((moment for each, moment in steps_due(found, at) if each is step), None)
    told = told_by(step, found, assignees)
    held = {to: released(found, to, due) for to in told} if due is not None else {}
    remarks = [f"{to} is told {shown.moment(until, found.calendar)}" for to, until in held.items() if until != due]
    if due is None:
        remarks = ["the page is not open for so long within two years"]
    elif is_too_old(found, at, due):
        told, remarks = [], [f"nobody is told of who is overdue for more than {found.max_age_s / 86_400:g} days"]
    elif ASSIGNEE in step.to and not assignees:
        remarks.append("and whoever it is assigned to (--assignee)")
    elif unknown := [user for user in assignees if ASSIGNEE in step.to and user not in found.staff]:
        remarks.append(f"no address of {', '.join(unknown)} is known (--staff)")
    return {
        "step": step.name,
        "severity": step.severity,
        "due": None if due is None else datetime.fromtimestamp(due, found.calendar.zone).isoformat(),
        "at": due,
        "told": told,
        "remark": "; ".join(remarks),
    }


def _tried_row(row: dict[str, Any], found: Policy) -> tuple[object, ...]:
    due = "never" if row["at"] is None else shown.moment(row["at"], found.calendar)
    return row["step"], row["severity"], due, ", ".join(row["told"]) or "the app only", row["remark"]
