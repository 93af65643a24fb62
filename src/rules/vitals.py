"""Whether a worker process lives, and whether it does its work: judged from how long ago each sign of it was."""

from collections.abc import Mapping
from dataclasses import dataclass

DEAD_S = 120.0  # an event loop that stands still for longer is not waited for: systemd's WatchdogSec is the same
BLOCKED_S = 10.0  # nothing starts and nothing is answered meanwhile
ANSWERED_S = 30.0  # how old the last answer of a server may be: some looks
CLAIMED_S = 15.0  # lanes with free slots look for jobs several times a second


@dataclass(frozen=True, slots=True)
class Server:
    """Redis or MongoDB as the last look found it. `age_s`: since it answered, None for never; `error`: "" for well."""

    age_s: float | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Signs:
    """What is seen of a process. `stands_s`: how long its event loop has stood still.

    `claimed_s`: since the last claim; `has_slots`: whether there is a slot to claim for.
    """

    stands_s: float
    servers: Mapping[str, Server]
    claimed_s: float
    has_slots: bool
    is_stopping: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was judged, and what there is to say of it."""

    name: str
    is_ok: bool
    said: str


def is_live(stands_s: float) -> bool:
    """Whether the process may still come round by itself."""
    return stands_s <= DEAD_S


def checks_of(signs: Signs) -> list[Check]:
    """Everything a worker needs to do its work; it is ready where all of it is well."""
    stands = signs.stands_s > BLOCKED_S
    loop = f"it has stood still for {signs.stands_s:.0f} s" if stands else "it runs"
    checks = [Check("event_loop", not stands, loop)]
    checks += [_server(name, server) for name, server in signs.servers.items()]
    is_late = signs.has_slots and signs.claimed_s > CLAIMED_S
    lanes = (
        f"no claim for {signs.claimed_s:.0f} s" if is_late else "they claim" if signs.has_slots else "all slots taken"
    )
    checks.append(Check("lanes", not is_late, lanes))
    checks.append(Check("running", not signs.is_stopping, "it is shutting down" if signs.is_stopping else "yes"))
    return checks


def _server(name: str, server: Server) -> Check:
    if server.age_s is None:
        return Check(name, False, server.error or "not asked yet")
    if server.error:
        return Check(name, False, f"{server.error}; it answered {server.age_s:.0f} s ago")
    if server.age_s > ANSWERED_S:
        return Check(name, False, f"it answered {server.age_s:.0f} s ago")
    return Check(name, True, "it answers")
