"""What commands show of events and deliveries: lines and tables for people, the same as JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import typer

from ..clients.mongo import Document
from ..errors import Misuse
from ..settings import Settings
from ..store.webhook_endpoints import Endpoint
from ..store.webhook_events import Event
from ..store.webhook_records import Delivery
from ..webhooks.endpoints import shown_url
from .shown import one_line, print_table

ATTEMPT = ("number", "at", "status", "ms", "counts", "error", "response")


def named(options: Mapping[str, str | None]) -> None:
    """Raises Misuse on an empty option: `--merchant "$M"` with nothing in it must not mean all merchants."""
    for option, value in options.items():
        if value is not None and not value.strip():
            raise Misuse(f"{option} is empty")


def at(moment: datetime | None, settings: Settings) -> str:
    """A time in the zone of the settings; nothing where there is none."""
    return moment.astimezone(settings.service.zone).strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def patterns(events: Sequence[str]) -> str:
    """What an endpoint has subscribed to."""
    return ", ".join(events) or "all"


def report_of(delivery: Delivery) -> dict[str, Any]:
    """A delivery of a list, as JSON."""
    return {
        "id": delivery.delivery_id,
        "event_id": delivery.event_id,
        "endpoint_id": delivery.endpoint_id,
        "merchant_id": delivery.merchant_id,
        "event": delivery.event,
        "status": delivery.status,
        "calls": delivery.attempts,
        "tries": delivery.tries,
        "accepted_at": delivery.created_at,
        "next_try_at": delivery.next_try_at,
        "error": _error(delivery.status, delivery.error),
        "replay_id": delivery.replay_id,
        "job_id": delivery.job_id,
    }


def full_report(found: Document, event: Event | None, *, with_body: bool) -> dict[str, Any]:
    """A delivery as it is stored, with all its attempts, as JSON."""
    attempts = [{name: each.get(name) for name in ATTEMPT} for each in found["attempts"]]
    report = {
        "id": f"{found['eventId']}:{found['endpointId']}",
        "event_id": found["eventId"],
        "endpoint_id": found["endpointId"],
        "merchant_id": found["merchantId"],
        "event": found["event"],
        "idempotency_key": event.idempotency_key if event else None,
        "order_key": event.order_key if event else None,
        "status": found["status"],
        "tries": found["tries"],
        "accepted_at": found["createdAt"],
        "next_try_at": found.get("nextTryAt"),
        "error": _error(found["status"], found.get("error")),
        "replay_id": found.get("replayId"),
        "job_id": found["jobId"],
        "attempts": attempts,
    }
    return {**report, "body": orjson.loads(event.body)} if with_body and event else report


def print_list(deliveries: Iterable[Delivery], settings: Settings) -> None:
    """A table of deliveries."""
    most = settings.webhooks.max_tries
    heads = ("id", "merchant", "event", "status", "calls", "tries", "accepted", "next try", "error")
    rows = [
        (
            *(each.delivery_id, each.merchant_id, each.event, each.status, each.attempts, f"{each.tries} of {most}"),
            *(at(each.created_at, settings), at(each.next_try_at, settings), _error(each.status, each.error) or ""),
        )
        for each in deliveries
    ]
    print_table(heads, rows, numbers=("calls", "tries"), spare=("calls", "accepted", "merchant"))


def print_event(event: Event, settings: Settings, *, with_body: bool) -> None:
    """What happened, a line a fact."""
    facts: dict[str, object] = {
        "event": event.event_id,
        "merchant": event.merchant_id,
        "kind": event.event,
        "accepted": at(event.created_at, settings),
        "size": f"{len(event.body)} bytes",
    }
    more = {"idempotency key": event.idempotency_key, "order key": event.order_key}
    _print_facts(facts | {name: value for name, value in more.items() if value is not None})
    if with_body:
        _print_facts({"body": ""})
        typer.echo(_harmless(event.body.decode()))


def print_endpoint(endpoint: Endpoint) -> None:
    """Where it goes, a line a fact."""
    _print_facts(
        {
            "endpoint": endpoint.endpoint_id,
            "merchant": endpoint.merchant_id,
            "url": shown_url(endpoint.url),
            "events": patterns(endpoint.events),
            "state": "enabled" if endpoint.is_enabled else f"disabled: {endpoint.disabled_reason}",
        }
    )
    typer.echo("")


def print_delivery(found: Document, endpoint: Endpoint | None, settings: Settings) -> None:
    """A delivery, a line a fact, and a table of its attempts."""
    status = found["status"]
    facts: dict[str, object] = {
        "delivery": f"{found['eventId']}:{found['endpointId']}",
        "to": shown_url(endpoint.url) if endpoint else "an endpoint that is gone",
        "status": status,
        "tries": f"{found['tries']} of {settings.webhooks.max_tries} failed",
        "next try": at(found.get("nextTryAt"), settings),
        "error": _error(status, found.get("error")),
    }
    typer.echo("")
    _print_facts({name: value for name, value in facts.items() if value})
    if not found["attempts"]:
        typer.echo("no call was made yet")
        return
    heads = ("call", "at", "status", "ms", "counts", "error", "response")
    print_table(heads, [_attempt(each, settings) for each in found["attempts"]], numbers=("call", "status", "ms"))


def _attempt(row: Document, settings: Settings) -> list[object]:
    counts = "yes" if row.get("counts") else ""
    cells = [row.get("number"), at(row.get("at"), settings), row.get("status"), row.get("ms"), counts]
    return ["" if cell is None else cell for cell in (*cells, row.get("error"), row.get("response"))]


def _error(status: str, error: str | None) -> str | None:
    """What was written down of the last failure is no error any more once it is delivered."""
    return None if status == "delivered" else error


def _print_facts(facts: Mapping[str, object]) -> None:
    for name, value in facts.items():
        typer.echo(f"{name:<16}{one_line(value)}".rstrip())


def _harmless(body: str) -> str:
    """The same JSON, with escapes for what would speak to the terminal."""
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in body)
