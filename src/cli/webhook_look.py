"""`webhook show`, `webhook list`: what MongoDB alone knows, so that Redis may be away."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from ..clients.mongo import Document, open_database
from ..errors import Misuse
from ..log import configure_logging
from ..settings import Settings
from ..store.webhook_deliveries import WebhookDeliveries
from ..store.webhook_endpoints import Endpoint, WebhookEndpoints
from ..store.webhook_events import Event, WebhookEvents
from ..store.webhook_records import Choice, Delivery
from .edge import checked, moment, run_or_stop, settings_or_stop
from .shown import print_json
from .webhook_shown import full_report, named, print_delivery, print_endpoint, print_event, print_list, report_of

T = TypeVar("T")
LAST = 20  # deliveries shown of an endpoint


class StatusName(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    PARKED = "parked"
    DEAD = "dead"


OfMerchant = Annotated[str | None, typer.Option("--merchant", help="of this merchant")]
OfEndpoint = Annotated[str | None, typer.Option("--endpoint", help="to this endpoint")]
OfEvent = Annotated[str | None, typer.Option("--event", help="of this kind of event")]
OfStatus = Annotated[list[StatusName] | None, typer.Option("--status", help="that stand so; several times")]
Since = Annotated[str | None, typer.Option(help="accepted since: 2026-05-14T14:00, or 2h for two hours ago")]
Until = Annotated[str | None, typer.Option(help="accepted before: as --since")]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What there is of webhooks in MongoDB."""

    endpoints: WebhookEndpoints
    events: WebhookEvents
    deliveries: WebhookDeliveries


@dataclass(frozen=True, slots=True)
class _Found:
    """What an id stands for. `listed`: the last deliveries of an endpoint, where it is that of one."""

    events: dict[str, Event] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    deliveries: list[Document] = field(default_factory=list)
    listed: list[Delivery] | None = None


def show(
    any_id: Annotated[str, typer.Argument(metavar="ID", help="of an event, a delivery (event:endpoint), an endpoint")],
    body: Annotated[bool, typer.Option("--body", help="also what was sent")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line a delivery, with all its attempts")] = False,
) -> None:
    """Show an event, where it went, and every attempt; of an endpoint, its last deliveries."""
    settings = quiet_settings()
    found = _with_kept(lambda kept: _find(kept, any_id), settings)
    if as_json:
        for each in found.deliveries:
            print_json(full_report(each, found.events.get(each["eventId"]), with_body=body))
    elif found.listed is not None:
        print_endpoint(found.endpoints[any_id])
        print_list(found.listed, settings)
    else:
        for event in found.events.values():
            print_event(event, settings, with_body=body)
        for each in found.deliveries:
            print_delivery(each, found.endpoints.get(each["endpointId"]), settings)
    if not found.deliveries:
        why = "no endpoint had subscribed to it" if found.listed is None else "nothing has been sent to it"
        typer.echo(f"there is no delivery: {why}", err=True)


def list_(
    merchant: OfMerchant = None,
    endpoint: OfEndpoint = None,
    event: OfEvent = None,
    status: OfStatus = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line each instead of a table")] = False,
) -> None:
    """Show deliveries, the latest first."""
    settings = quiet_settings()
    choice = checked(lambda: choice_of(settings, merchant, endpoint, event, status, since, until))

    async def ask(kept: _Kept) -> tuple[list[Delivery], int]:
        found = [each async for each in kept.deliveries.chosen(choice, limit, newest_first=True)]
        return found, await kept.deliveries.count(choice)

    found, matching = _with_kept(ask, settings)
    if as_json:
        for each in found:
            print_json(report_of(each))
    else:
        print_list(found, settings)
    if matching > len(found):
        typer.echo(f"{len(found)} of {matching}; --limit shows more", err=True)


def quiet_settings() -> Settings:
    """The settings, with nothing but errors in the log."""
    settings = settings_or_stop()
    configure_logging("ERROR", settings.service.log_format, zone=settings.service.zone)
    return settings


def choice_of(
    settings: Settings,
    merchant: str | None,
    endpoint: str | None,
    event: str | None,
    status: list[StatusName] | None,
    since: str | None,
    until: str | None,
) -> Choice:
    """What the options ask for. Raises Misuse on an empty one, on what is no time, and on a window that is none."""
    named({"--merchant": merchant, "--endpoint": endpoint, "--event": event})
    start, end = moment("--since", since, settings), moment("--until", until, settings)
    if start and end and start >= end:
        raise Misuse("--since is not before --until")
    return Choice(merchant, endpoint, event, tuple(each.value for each in status or ()), start, end)


def _with_kept(question: Callable[[_Kept], Coroutine[Any, Any, T]], settings: Settings) -> T:
    retention = timedelta(days=settings.webhooks.retention_days)

    async def opened() -> T:
        async with open_database(settings.mongo) as database:
            events, deliveries = WebhookEvents(database, retention), WebhookDeliveries(database, retention)
            return await question(_Kept(WebhookEndpoints(database), events, deliveries))

    return run_or_stop(opened, settings)


async def _find(kept: _Kept, any_id: str) -> _Found:
    """Raises Misuse where there is nothing of that id."""
    if endpoint := await kept.endpoints.get(any_id):
        choice = Choice(endpoint_id=any_id)
        listed = [each async for each in kept.deliveries.chosen(choice, LAST, newest_first=True)]
        found = [one for each in listed for one in await _of_event(kept, each.event_id, any_id)]
        events = [await kept.events.get(each.event_id) for each in listed]
        return _Found({event.event_id: event for event in events if event}, {any_id: endpoint}, found, listed)
    event_id, _, endpoint_id = any_id.partition(":")
    event, deliveries = await kept.events.get(event_id), await _of_event(kept, event_id, endpoint_id)
    if not deliveries and (event is None or endpoint_id):
        raise Misuse(f"there is no event, delivery or endpoint {any_id!r}; `webhook list` shows the deliveries")
    wanted = [await kept.endpoints.get(each["endpointId"]) for each in deliveries]
    endpoints = {endpoint.endpoint_id: endpoint for endpoint in wanted if endpoint}
    return _Found({event_id: event} if event else {}, endpoints, deliveries)


async def _of_event(kept: _Kept, event_id: str, endpoint_id: str) -> list[Document]:
    """Its deliveries; only the one to `endpoint_id`, where that is given."""
    return [each for each in await kept.deliveries.of_event(event_id) if endpoint_id in ("", each["endpointId"])]
