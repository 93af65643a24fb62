"""`webhook endpoint`: where merchants are told, and what their requests are signed with."""

import math
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ..deps import Deps
from ..enqueue import JobQueue
from ..errors import Misuse
from ..settings import Settings
from ..store.webhook_endpoints import Endpoint
from ..webhooks import endpoints as service
from .edge import checked, with_deps
from .shown import print_json, print_table
from .webhook_shown import at, named, patterns

LONGEST_OVERLAP_H = 24 * 366.0

Id = Annotated[str, typer.Argument(metavar="ID", help="the endpoint's id, as `webhook endpoint list` shows it")]
Own = Annotated[str | None, typer.Option("--secret", help="the merchant's own (whsec_...); else a new one is made")]

endpoint = typer.Typer(no_args_is_help=True, help="Add, list, enable and disable endpoints; exchange their secrets.")


@endpoint.command()
def add(
    merchant: Annotated[str, typer.Option(help="whose endpoint it is")],
    url: Annotated[str, typer.Option(help="what is called: https://host/path")],
    event: Annotated[
        list[str] | None, typer.Option(help="payment.completed, payment.* or *; several times; none: all events")
    ] = None,
    secret: Own = None,
    with_key: Annotated[bool, typer.Option("--with-key", help="sign with an ed25519 key besides")] = False,
    rate: Annotated[float | None, typer.Option(help="calls a second at most")] = None,
    max_in_flight: Annotated[int | None, typer.Option(help="calls at the same time at most")] = None,
) -> None:
    """Store a new endpoint, enabled; prints it and its secret as one JSON line. The secret is shown this once."""
    checked(lambda: named({"--merchant": merchant, "--url": url, "--secret": secret}))

    async def work(deps: Deps) -> None:
        shown = await service.add(
            deps,
            merchant_id=merchant,
            url=url,
            events=event or (),
            secret=secret,
            with_key=with_key,
            rate_per_second=rate,
            max_in_flight=max_in_flight,
        )
        _print_secret(shown, deps.settings)

    with_deps(work, level="ERROR")


@endpoint.command("list")
def list_(
    merchant: Annotated[str | None, typer.Option(help="only this merchant's")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line each instead of a table")] = False,
) -> None:
    """Show endpoints and how they do, never their secrets."""
    checked(lambda: named({"--merchant": merchant}))

    async def ask(deps: Deps) -> tuple[Settings, list[Endpoint], dict[str, tuple[int, float]]]:
        found = await deps.merchants.endpoints.all(merchant)
        return deps.settings, found, await deps.merchants.gate.closed([each.endpoint_id for each in found])

    settings, found, gates = with_deps(ask, level="ERROR")
    reports = [_report(each, *gates[each.endpoint_id]) for each in found]
    if as_json:
        for report in reports:
            print_json(report)
        return
    heads = ("id", "merchant", "url", "events", "secrets", "failing since", "failures", "closed until", "state")
    print_table(heads, [_row(report, settings) for report in reports], numbers=("secrets", "failures"))


@endpoint.command()
def enable(endpoint_id: Id) -> None:
    """Send to it again, and send what is parked for it. Safe to repeat."""

    async def work(deps: Deps) -> tuple[Endpoint, int]:
        was = await service.known(deps, endpoint_id)
        return was, await service.enable(deps, JobQueue(deps.redis), endpoint_id)

    was, count = with_deps(work, level="ERROR")
    parked = f"; {count} parked deliveries go out, {service.PER_S:g} a second" if count else ""
    typer.echo(f"{endpoint_id} is enabled{parked}")
    if not was.is_enabled and was.disabled_at:
        since = was.disabled_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        typer.echo(
            f"events that came while it was disabled have no delivery for it: "
            f"`webhook replay --missing --endpoint {endpoint_id} --since {since}` sends them",
            err=True,
        )


@endpoint.command()
def disable(
    endpoint_id: Id,
    reason: Annotated[str, typer.Option(help="why, for whoever looks at the list")] = "disabled by hand",
) -> None:
    """Send nothing more to it; what is under way to it is parked. Safe to repeat."""
    checked(lambda: named({"--reason": reason}))
    done = with_deps(lambda deps: service.disable(deps, endpoint_id, reason), level="ERROR")
    what = "is disabled" if done else "was disabled already"
    typer.echo(f"{endpoint_id} {what}; `webhook endpoint enable {endpoint_id}` sends to it again")


@endpoint.command()
def rotate(
    endpoint_id: Id,
    secret: Own = None,
    overlap_hours: Annotated[
        float | None, typer.Option(help="the old one signs too for so long; else WEBHOOK_SECRET_OVERLAP_HOURS")
    ] = None,
) -> None:
    """Sign with a new secret; prints it as one JSON line, this once."""
    overlap_s = checked(lambda: _overlap_s(secret, overlap_hours))

    async def work(deps: Deps) -> None:
        shown = await service.rotate(deps, endpoint_id, secret=secret, overlap_s=overlap_s)
        _print_secret(shown, deps.settings)
        ends = [each.expires_at for each in shown.endpoint.secrets if each.expires_at]
        until = f"the old one signs too until {at(max(ends), deps.settings)}" if ends else "the old one signs no more"
        typer.echo(until, err=True)

    with_deps(work, level="ERROR")


@endpoint.command()
def reseal() -> None:
    """Seal every stored secret with the first key of WEBHOOK_SECRETS_KEY, after that was set or changed."""
    count = with_deps(service.reseal, level="ERROR")
    typer.echo(f"{count} secrets were sealed with the first key of WEBHOOK_SECRETS_KEY")


def _overlap_s(secret: str | None, hours: float | None) -> float | None:
    named({"--secret": secret})
    if hours is None:
        return None
    if math.isnan(hours) or not 0 <= hours <= LONGEST_OVERLAP_H:
        raise Misuse(f"--overlap-hours is 0 to {LONGEST_OVERLAP_H:.0f}")
    return hours * 3600


def _print_secret(shown: service.Shown, settings: Settings) -> None:
    """What is shown once goes out first, so that nothing which fails afterwards can lose it."""
    stored = shown.endpoint
    key = {"public_key": shown.public_key} if shown.public_key else {}
    print_json(
        {
            "endpoint_id": stored.endpoint_id,
            "merchant_id": stored.merchant_id,
            "url": stored.url,
            "events": list(stored.events),
            "secret": shown.secret,
            **key,
        }
    )
    typer.echo("the secret is shown this once: hand it to the merchant by a safe way", err=True)
    if shown.warning:
        typer.echo(f"warning: {shown.warning}", err=True)
    if not settings.webhooks.secrets_key:
        typer.echo(
            "warning: WEBHOOK_SECRETS_KEY is not set, so the secret is stored as it is; "
            "`webhook key` makes a key, and `webhook endpoint reseal` seals what is stored",
            err=True,
        )


def _report(stored: Endpoint, failures: int, closed_until: float) -> dict[str, Any]:
    is_closed = closed_until > time.time()
    return {
        "endpoint_id": stored.endpoint_id,
        "merchant_id": stored.merchant_id,
        "url": service.shown_url(stored.url),
        "events": list(stored.events),
        "enabled": stored.is_enabled,
        "disabled_reason": stored.disabled_reason,
        "disabled_at": stored.disabled_at,
        "failing_since": stored.failing_since,
        "failures": failures,
        "closed_until": datetime.fromtimestamp(round(closed_until, 3), UTC) if is_closed else None,
        "secrets": len(stored.signing(datetime.now(UTC))),
        "rate_per_second": stored.rate_per_second,
        "max_in_flight": stored.max_in_flight,
        "created_at": stored.created_at,
    }


def _row(report: dict[str, Any], settings: Settings) -> list[object]:
    state = "enabled" if report["enabled"] else f"disabled: {report['disabled_reason']}"
    return [
        *(report["endpoint_id"], report["merchant_id"], report["url"], patterns(report["events"]), report["secrets"]),
        *(at(report["failing_since"], settings), report["failures"], at(report["closed_until"], settings), state),
    ]
