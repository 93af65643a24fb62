"""`agents`, `health`: who is there, and whether all that we need answers."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ..deps import Deps
from ..errors import Misuse
from ..monitoring import agents as desk
from ..rules.health import Health
from ..rules.times import in_short
from ..store.agents import Agent
from .edge import FAILED, checked, stop, with_deps
from .shown import print_json, print_table

Id = Annotated[str, typer.Argument(metavar="ID", help="the agent's name")]
Json = Annotated[bool, typer.Option("--json", help="one JSON line each instead of a table")]
NEVER_LOOKED = "nothing was looked at yet: start the worker, or `run check_health`"
STALE_S = 600.0  # the job runs each minute

agents = typer.Typer(no_args_is_help=True, help="Show who checks in, check in, stop expecting somebody.")


@agents.command("list")
def list_(as_json: Json = False) -> None:
    """Show every agent and every worker, and when it was last heard of."""

    async def ask(deps: Deps) -> tuple[list[Agent], float]:
        return await deps.agents.all(), deps.now()

    found, now = with_deps(ask, level="ERROR")
    if as_json:
        for agent in found:
            print_json(_report(agent))
        return
    print_table(("agent", "kind", "state", "heard of", "about"), [_row(agent, now) for agent in found])


@agents.command("check-in")
def check_in(
    agent_id: Id,
    info: Annotated[list[str] | None, typer.Option(help="about it, name=value; may stand several times")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="how it is, name=value; may stand several times")] = None,
) -> None:
    """Say that an agent is there; a script or a cron job of its machine calls this each minute."""
    about, how = checked(lambda: _pairs("--info", info)), checked(lambda: _pairs("--metric", metric))

    async def work(deps: Deps) -> bool:
        now = (await deps.agents.clock()).timestamp()
        return await desk.check_in(deps.agents, agent_id, now=now, system_info=about or None, metrics=how or None)

    came_back = with_deps(work, level="ERROR")
    print_json({"agent": agent_id, "online": True, "came_back": came_back})


@agents.command()
def remove(agent_id: Id) -> None:
    """Stop expecting an agent: no alert about it, until it checks in again."""

    async def work(deps: Deps) -> None:
        if not await desk.remove(deps, agent_id):
            raise Misuse(f"no agent {agent_id!r} is expected: `agents list` shows those that are")

    with_deps(work, level="ERROR")
    print_json({"agent": agent_id, "removed": True})


def health(as_json: Json = False) -> None:
    """Show how everything stood when it was last looked at; exits 1 where something is down."""

    async def ask(deps: Deps) -> tuple[dict[str, Health], float]:
        return await deps.health_checks.all(), deps.now()

    found, now = with_deps(ask, level="ERROR")
    if not found:
        stop(NEVER_LOOKED, FAILED)
    if as_json:
        for name, one in found.items():
            print_json(_health_report(name, one))
    else:
        heads = ("name", "state", "for", "ms", "looked at", "last error")
        print_table(heads, [_health_row(name, one, now) for name, one in found.items()], numbers=("ms",))
        if now - max(one.checked_at for one in found.values()) > STALE_S:
            typer.echo("nobody has looked for a while: is a worker running?", err=True)
    if any(one.state == "down" for one in found.values()):
        raise typer.Exit(FAILED)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not (equals and name.strip()):
            raise Misuse(f"{option} {pair}: write name=value")
        found[name.strip()] = value
    return found


def _state(agent: Agent) -> str:
    if agent.is_online:
        return "online"
    return "left" if agent.has_left else "OFFLINE"


def _row(agent: Agent, now: float) -> tuple[object, ...]:
    ago = in_short(now - agent.last_check_in_at.timestamp()) + " ago"
    told = {**agent.system_info, **agent.metrics}
    about = " ".join(f"{name}={value}" for name, value in told.items())
    return agent.agent_id, agent.kind, _state(agent), ago, about


def _report(agent: Agent) -> dict[str, Any]:
    return {
        "agent": agent.agent_id,
        "kind": agent.kind,
        "state": _state(agent).lower(),
        "last_check_in_at": agent.last_check_in_at.isoformat(),
        "system_info": agent.system_info,
        "metrics": agent.metrics,
        "job_status": list(agent.job_status),
    }


def _health_row(name: str, one: Health, now: float) -> tuple[object, ...]:
    state = one.state.upper() if one.state == "down" else one.state
    if one.turned_at is not None:
        state += f", {'failing' if one.state != 'down' else 'answering'} ({one.in_row} in a row)"
    lasted = in_short(now - one.since) if one.since else ""
    shown_error = one.last_error if one.state == "down" or one.turned_at is not None else ""
    return name, state, lasted, f"{one.last_ms:.0f}", f"{in_short(now - one.checked_at)} ago", shown_error or ""


def _health_report(name: str, one: Health) -> dict[str, Any]:
    return {
        "name": name,
        "state": one.state,
        "since": datetime.fromtimestamp(one.since, UTC).isoformat() if one.since else None,
        "in_row": one.in_row,
        "last_error": one.last_error,
        "last_ms": one.last_ms,
        "checked_at": datetime.fromtimestamp(one.checked_at, UTC).isoformat(),
    }
