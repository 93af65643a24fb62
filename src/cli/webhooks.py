"""`webhook`: send an event, send again what did not arrive, and make a key."""

import json
import math
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ..deps import Deps
from ..engine.dead_letters import possible_rate
from ..enqueue import JobQueue
from ..errors import Misuse
from ..rules import vault
from ..rules.webhook_event import checked_data
from ..store.webhook_records import Choice
from ..webhooks import replay as service
from ..webhooks.endpoints import PER_S, known
from ..webhooks.submit import Submitted, submit
from . import webhook_look as look
from .edge import checked, with_deps
from .shown import print_json
from .webhook_endpoints import endpoint
from .webhook_look import OfEndpoint, OfEvent, OfMerchant, OfStatus, Since, Until
from .webhook_shown import named

LONGEST_TEXT = 4 * 1024 * 1024  # bytes of JSON as it is given: spaces in it are not sent
SLOWEST_PER_S = 0.001
REPLAY_ID = "rpl_"  # what the ids of replays start with

webhook = typer.Typer(no_args_is_help=True, help="Send events to merchants, see what became of them, send them again.")
webhook.add_typer(endpoint, name="endpoint")
webhook.command()(look.show)
webhook.command("list")(look.list_)


@webhook.command()
def send(
    merchant: Annotated[str, typer.Option(help="who is to be told")],
    event: Annotated[str, typer.Option(help="what happened, such as payment.completed")],
    data: Annotated[str | None, typer.Option(help="the payload, a JSON object; - for standard input")] = None,
    data_file: Annotated[str | None, typer.Option(help="a file that holds it; - for standard input")] = None,
    key: Annotated[str | None, typer.Option(help="idempotency key: each of a merchant's is accepted once")] = None,
    order_key: Annotated[str | None, typer.Option(help="events with the same one arrive in their order")] = None,
) -> None:
    """Store an event and have it delivered; prints its id as one JSON line. With --key safe to repeat."""

    def prepared() -> dict[str, Any]:
        payload = _payload(data, data_file)
        checked_data(merchant, event, payload, idempotency_key=key, order_key=order_key)
        return payload

    payload = checked(prepared)

    async def work(deps: Deps) -> Submitted:
        keys = {"idempotency_key": key, "order_key": order_key}
        queue = JobQueue(deps.redis)
        return await submit(deps, queue, merchant_id=merchant, event=event, payload=payload, **keys)

    done = with_deps(work, level="WARNING")
    print_json({"event_id": done.event_id, "endpoints": list(done.endpoint_ids), "duplicate": done.is_duplicate})
    if not done.endpoint_ids:
        typer.echo(
            f"nobody is told: {merchant} has no enabled endpoint that has subscribed to {event}; "
            "`webhook replay --missing` sends it to one that has, later",
            err=True,
        )


@webhook.command()
def replay(
    any_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="an event, or one delivery (event:endpoint); else what fits")
    ] = None,
    merchant: OfMerchant = None,
    endpoint_id: OfEndpoint = None,
    event: OfEvent = None,
    status: OfStatus = None,
    since: Since = None,
    until: Until = None,
    missing: Annotated[bool, typer.Option("--missing", help="what --endpoint was never sent, --since then")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count")] = False,
    per_second: Annotated[float | None, typer.Option(help=f"how many fall due each second; else {PER_S:g}")] = None,
    cancel: Annotated[str | None, typer.Option(metavar="REPLAY_ID", help="put back what it has not tried yet")] = None,
) -> None:
    """Send again with the same id: one event, or the dead deliveries that fit; --status asks for others.

    An ID alone means those of its deliveries that have not succeeded.
    """
    settings = look.quiet_settings()
    filters = {"--merchant": merchant, "--event": event, "--endpoint": endpoint_id, "--since": since, "--until": until}
    rest = {"--status": status, "--missing": missing, "--dry-run": dry_run, "--per-second": per_second is not None}

    def chosen() -> Choice:
        named({"ID": any_id, "--cancel": cancel, **filters})
        _refuse_mixed({"ID": any_id, "--cancel": cancel, **filters, **rest})
        return look.choice_of(settings, merchant, endpoint_id, event, status, since, until)

    choice = checked(chosen)
    per_s = checked(lambda: _rate(per_second))

    async def work(deps: Deps) -> dict[str, Any]:
        if cancel is not None:
            return {"cancelled": await service.cancel(deps, cancel)}
        done = await _replayed(deps, any_id, choice, per_s, is_missing=missing, dry_run=dry_run)
        return {"replay_id": done.replay_id, "matching": done.matching, "enqueued": done.enqueued}

    report = with_deps(work, level="ERROR")
    print_json(report)
    if any_id and not report["matching"]:
        typer.echo("nothing of it is left to send; --status delivered sends again what has arrived", err=True)


@webhook.command("key")
def new_key() -> None:
    """Print a new key for WEBHOOK_SECRETS_KEY. Keep a copy: without it no sealed secret can be read."""
    typer.echo(vault.new_key(os.urandom(vault.KEY_BYTES)))


async def _replayed(
    deps: Deps, any_id: str | None, choice: Choice, per_s: float, *, is_missing: bool, dry_run: bool
) -> service.Replay:
    queue = JobQueue(deps.redis)
    if any_id is not None:
        return await service.replay_one(deps, queue, any_id, choice.statuses or service.NOT_DELIVERED)
    if choice.endpoint_id:
        await known(deps, choice.endpoint_id)
    if is_missing and choice.endpoint_id and choice.since:
        until = choice.until or datetime.now(UTC)
        return await service.replay_missing(
            deps, queue, choice.endpoint_id, choice.since, until, per_s=per_s, dry_run=dry_run
        )
    choice = choice if choice.statuses else replace(choice, statuses=("dead",))
    return await service.replay(deps, queue, choice, per_s=per_s, dry_run=dry_run)


def _refuse_mixed(options: dict[str, object]) -> None:
    """Raises Misuse on a call that does not say which deliveries it means, or says it twice."""
    given = {name for name, value in options.items() if value}
    if "--cancel" in given:
        _refuse(given - {"--cancel"}, "--cancel names one replay")
        if not str(options["--cancel"]).startswith(REPLAY_ID):
            raise Misuse(f"--cancel wants the replay_id that `webhook replay` printed: {REPLAY_ID}...")
    elif "ID" in given:
        _refuse(given - {"ID", "--status"}, "an ID names what is meant")
    elif "--missing" in given:
        _refuse(given & {"--merchant", "--event", "--status"}, "--missing is about one endpoint and a time")
        if not {"--endpoint", "--since"} <= given:
            raise Misuse("--missing needs --endpoint and --since")
    elif not given & {"--merchant", "--endpoint", "--event", "--since", "--until"}:
        raise Misuse("which ones? give an ID, --merchant, --endpoint, --event, --since or --until")


def _refuse(too_much: set[str], why: str) -> None:
    if too_much:
        raise Misuse(f"{why}: leave out {', '.join(sorted(too_much))}")


def _rate(per_second: float | None) -> float:
    if per_second is None:
        return PER_S
    if 0 < per_second < SLOWEST_PER_S:
        raise Misuse(f"--per-second is at least {SLOWEST_PER_S}")
    return possible_rate(per_second)


def _payload(data: str | None, data_file: str | None) -> dict[str, Any]:
    """Raises Misuse on what is no JSON object."""
    if (data is None) == (data_file is None):
        raise Misuse("what is to be sent? give either --data '{...}' or --data-file PATH (- for standard input)")
    option = "--data" if data_file is None else "--data-file"
    text = data.encode(errors="surrogateescape") if data not in (None, "-") else _read(data_file or "-")
    if len(text) > LONGEST_TEXT:
        raise Misuse(f"{option} is longer than {LONGEST_TEXT} bytes; send an id, and let the merchant fetch the rest")
    try:
        payload = json.loads(text, parse_constant=_no_number, parse_float=_number)
    except (ValueError, RecursionError) as e:
        raise Misuse(f"{option} is to be JSON, and is not: {e}") from e
    if not isinstance(payload, dict):
        raise Misuse(f'{option} is to be a JSON object, such as {{"payment_id": "pay_1"}}')
    return payload


def _read(path: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read(LONGEST_TEXT + 1)
        with Path(path).open("rb") as file:
            return file.read(LONGEST_TEXT + 1)
    except OSError as e:
        raise Misuse(f"--data-file {path}: {e.strerror or type(e).__name__}") from e


def _number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
