"""When something that is looked at again and again counts as down, and when as up again.

One look says little: a restart takes seconds. So it takes several failures in a row to be down, and some successes in
a row to be up again; what is between keeps the state it had.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlsplit

State = Literal["new", "up", "down"]

_NAMED = re.compile(r"([^=/?#:]+)=(.*)", re.DOTALL)
_STATUS = re.compile(r"[1-5]\d\d")


@dataclass(frozen=True, slots=True)
class HealthUrl:
    """An address to look at. `status`: the one answer that is well; None: every 2xx and 3xx is."""

    name: str
    url: str = field(repr=False)  # it may hold a token
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found. `error`: None where all is well. `ms`: how long it took."""

    error: str | None
    ms: float


@dataclass(frozen=True, slots=True)
class Health:
    """How something stands. Times are Unix seconds.

    `since`: when it came into this state, by the first of the looks that led to it; `turned_at`: of those that could
    lead out of it, the first one, None while there are none. `in_row`: how many those are.
    """

    state: State = "new"
    since: float = 0.0
    in_row: int = 0
    turned_at: float | None = None
    last_error: str | None = None
    last_ms: float = 0.0
    checked_at: float = 0.0


def judged(health: Health, found: Found, at: float, *, failures: int, recoveries: int) -> Health:
    """The next state after a look at `at`: down after so many `failures` in a row, up again after `recoveries`.

    Something new is up with its first success.
    """
    error = found.error if found.error is not None else health.last_error
    seen = replace(health, last_error=error, last_ms=found.ms, checked_at=at)
    turns_to: State = "down" if found.error is not None else "up"
    if turns_to == health.state:
        return replace(seen, in_row=0, turned_at=None)
    goes_on = health.turned_at is not None and (turns_to == "down" or health.state == "down")
    turned_at, in_row = (health.turned_at or at, health.in_row + 1) if goes_on else (at, 1)
    needed = failures if turns_to == "down" else recoveries if health.state == "down" else 1
    if in_row >= needed:
        return replace(seen, state=turns_to, since=turned_at, in_row=0, turned_at=None)
    return replace(seen, in_row=in_row, turned_at=turned_at)


def health_url(text: str) -> HealthUrl:
    """`name=url#status`, name and status may be missing. Raises ValueError without a word of the URL.

    Without a name it is called by host and path: a query may hold a token.
    """
    named = _NAMED.fullmatch(text.strip())
    name, rest = (named[1].strip(), named[2].strip()) if named else ("", text.strip())
    url, _, status = rest.partition("#")
    shape = "is not of the form name=https://host/path#200 (name and #status may be missing)"
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or (status and not _STATUS.fullmatch(status)) or not url.isprintable() or " " in url:
        raise ValueError(shape)
    host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    return HealthUrl(name or host + parts.path.rstrip("/"), url, int(status) if status else None)
