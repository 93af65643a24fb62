"""`alerts`: what is wrong now; say that you have seen it, or want to hear of it later."""

import getpass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ..alerts import desk
from ..deps import Deps
from ..errors import Misuse
from ..rules.alert_text import Line, sentence
from ..rules.times import in_short, moment_of
from ..settings import Settings
from ..store.alerts import WAITING, Alert
from .edge import WRONG_CALL, checked, settings_or_stop, stop, with_deps
from .shown import print_json, print_table

Id = Annotated[str, typer.Argument(metavar="ID", help="the alert's id, as `alerts list` shows it")]
For = Annotated[str, typer.Option("--for", help="how long: 30m, 2h, 1d")]
Until = Annotated[str | None, typer.Option(help="or until when: 2026-05-14T14:00, in TIMEZONE")]

NOT_SHOWN = {"type", "variant", "where", "digests", "runs"}  # facts that only our own texts and looks need

alerts = typer.Typer(no_args_is_help=True, help="Look at alerts, acknowledge them, put them off.")


@alerts.command("list")
def list_(
    page: Annotated[str | None, typer.Option(help="only this page's")] = None,
    with_resolved: Annotated[bool, typer.Option("--all", help="also those that are over")] = False,
    customers: Annotated[bool, typer.Option("--customers", help="only of customers who wait")] = False,
    machine: Annotated[bool, typer.Option("--machine", help="only of jobs, lanes, workers, agents, data")] = False,
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line each instead of a table")] = False,
) -> None:
    """Show what is wrong now, the newest first."""
    if customers and machine:
        stop("--customers and --machine leave nothing: name one of them", WRONG_CALL)
    waiting = customers if customers or machine else None

    async def ask(deps: Deps) -> tuple[list[Alert], float]:
        is_open = None if with_resolved else True
        return await deps.alerts.latest(is_open=is_open, page_id=page, waiting=waiting, most=limit), deps.now()

    found, now = with_deps(ask, level="ERROR")
    if as_json:
        for alert in found:
            print_json(_report(alert))
        return
    print_table(
        ("id", "kind", "severity", "for", "steps", "state", "about"),
        [_row(alert, now) for alert in found],
        spare=("steps", "severity"),
    )


@alerts.command()
def ack(
    alert_id: Id,
    by: Annotated[str, typer.Option(help="who has seen it")] = "",
    span: For = "2h",
    until: Until = None,
) -> None:
    """Say that somebody takes care: no further step for a while; after it the alert comes again if nobody answered."""
    _hush(alert_id, span, until, by or getpass.getuser())


@alerts.command()
def snooze(alert_id: Id, span: For = "1h", until: Until = None) -> None:
    """Hear of it later."""
    _hush(alert_id, span, until, None)


def _hush(alert_id: str, span: str, until: str | None, by: str | None) -> None:
    settings = settings_or_stop()
    moment = checked(lambda: _moment(span, until, settings))
    alert = with_deps(lambda deps: desk.hush(deps, alert_id, moment, by=by), level="ERROR")
    print_json(_report(alert))


def _moment(span: str, until: str | None, settings: Settings) -> datetime:
    now = datetime.now(UTC)
    try:
        if until is not None:
            return moment_of(until, now, settings.service.zone)
        return now + (now - moment_of(span, now, settings.service.zone))
    except ValueError as e:
        raise Misuse(f"{'--until' if until is not None else '--for'}: {e}") from e


def _row(alert: Alert, now: float) -> tuple[object, ...]:
    state = "open" if alert.is_open else alert.reason or "over"
    if alert.is_open and alert.quiet_until > now:
        word = f"acknowledged by {alert.acked_by}" if alert.acked_by else "snoozed"
        state = f"{word} {in_short(alert.quiet_until - now)}"
    lasted = (alert.resolved_at or now) - alert.since
    return (
        alert.alert_id,
        alert.kind,
        alert.severity,
        in_short(lasted),
        ", ".join(alert.steps),
        state,
        _about(alert, lasted),
    )


def _about(alert: Alert, lasted_s: float) -> str:
    """Of a customer what is known; of the rest what the notice said when it began."""
    if alert.kind == WAITING:
        return " ".join(str(value) for name, value in alert.facts.items() if name not in NOT_SHOWN and value)
    return sentence(Line(alert.kind, alert.severity, False, lasted_s / 60, alert.facts), "en")


def _report(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.alert_id,
        "kind": alert.kind,
        "severity": alert.severity,
        "open": alert.is_open,
        "since": datetime.fromtimestamp(alert.since, UTC).isoformat(),
        "page_id": alert.page_id,
        "conversation_id": alert.conversation_id,
        "steps": list(alert.steps),
        "quiet_until": datetime.fromtimestamp(alert.quiet_until, UTC).isoformat() if alert.quiet_until else None,
        "acknowledged_by": alert.acked_by,
        "reason": alert.reason,
        **alert.facts,
    }
