"""Agents check in; who does not for MONITOR_AGENT_OFFLINE_SECONDS is gone, which is told once, and its end once.

Who is to be told of is worked out anew at each look, from the agents and the notices that are open: a look that was
cut off anywhere, or two at once, leave nothing that the next one does not put right. Workers of ours are looked at more
often, in `machine/workers.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ..alerts.notices import OPENED, close_notice, open_notice
from ..deps import Deps
from ..errors import Misuse
from ..store.agents import Agent, Agents
from ..store.alerts import Alert
from .away import was_away
from .machine.troubles import machine_key
from .quiet import end_quietly

LONGEST_ID = 128  # characters


@dataclass(frozen=True, slots=True)
class Looked:
    """How a look at the agents of the shop ended. `told` and `back` count notices that were opened and closed by it."""

    online: int
    missing: int
    told: int
    back: int


async def check_in(
    agents: Agents,
    agent_id: str,
    *,
    now: float,
    system_info: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    job_status: Sequence[Mapping[str, Any]] | None = None,
) -> bool:
    """An agent says that it is there; returns whether it was missed. Safe to repeat. Who is new is registered.

    Raises Misuse for an id that nobody could read.
    """
    if not agent_id.strip() or len(agent_id) > LONGEST_ID or not agent_id.isprintable():
        raise Misuse(f"an agent's id has 1 to {LONGEST_ID} characters that can be read")
    at = datetime.fromtimestamp(now, UTC)
    return await agents.check_in(agent_id, at, system_info=system_info, metrics=metrics, job_status=job_status)


async def remove(deps: Deps, agent_id: str) -> bool:
    """It is not expected any more, until it checks in again; returns whether it was. Its notice ends quietly."""
    was_expected = await deps.agents.remove(agent_id)
    keys = notice_key(agent_id), machine_key("worker_gone", agent_id)
    await end_quietly(deps, (await deps.alerts.by_key(keys)).values(), "removed")
    return was_expected


async def look_at_agents(deps: Deps) -> Looked:
    """Find who is gone and who is back, and have it told. Safe to repeat, to kill and to run several times at once."""
    now = datetime.fromtimestamp(deps.now(), UTC)
    limit = timedelta(seconds=deps.settings.monitor.agent_offline_seconds)
    if not await was_away(deps):
        await deps.agents.turn_offline(now - limit, "agent")
    agents = await deps.agents.all(with_removed=True, kind="agent")
    missing = [agent for agent in agents if agent.is_missing]
    notices = await deps.alerts.by_key(notice_key(agent.agent_id) for agent in agents)
    told = [agent for agent in missing if not _is_told(notices.get(notice_key(agent.agent_id)))]
    back = [agent for agent in agents if agent.is_online and notice_key(agent.agent_id) in notices]
    over = [agent for agent in agents if agent.has_left or agent.is_removed]
    opened = [await _tell(deps, agent) for agent in told]
    closed = [await close_notice(deps, notice_key(agent.agent_id)) for agent in back]
    await end_quietly(deps, _of(over, notices), "left")
    return Looked(sum(agent.is_online for agent in agents), len(missing), sum(opened), sum(closed))


def notice_key(agent_id: str) -> str:
    """What the notice about an agent is found by."""
    return f"agent:{agent_id}"


async def _tell(deps: Deps, agent: Agent) -> bool:
    return await open_notice(
        deps,
        notice_key(agent.agent_id),
        kind="agent_offline",
        severity="high",
        facts={"agent": agent.agent_id},
        since=agent.last_check_in_at.timestamp(),
    )


def _is_told(notice: Alert | None) -> bool:
    return notice is not None and OPENED in notice.steps


def _of(agents: Iterable[Agent], notices: Mapping[str, Alert]) -> list[Alert]:
    return [notices[notice_key(agent.agent_id)] for agent in agents if notice_key(agent.agent_id) in notices]
