"""What a merchant's answer means for the delivery and for the endpoint.

Standard Webhooks 1.0.0: 2xx alone is success, a redirect is a failure, 410 is the wish to get no more, `Retry-After` is
to be honoured. The header `webhook-delivery` is Svix' (docs.svix.com, delivery control).
"""

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

SHORTEST_HOLD_S, LONGEST_HOLD_S = 1.0, 86_400.0
HOLDING = (429, 503)  # statuses whose Retry-After is about the endpoint (RFC 6585, section 4; RFC 9110, 10.2.3)
OVERLOADED = (429, 502, 503, 504)
GONE = 410

#: `delivered`. `failed`: to be tried again. `given_up`: the merchant wants no more tries of it. `ours`: the fault was
#: on our side and costs no try.
Kind = Literal["delivered", "failed", "given_up", "ours"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an answer. `hold_s`: how long nobody calls the endpoint; `disables`: why it is to be disabled.

    `is_overloaded`: fewer calls at once are in order. `is_alive`: it refused, but it works: no failure for a breaker.
    """

    kind: Kind
    hold_s: float = 0.0
    disables: str = ""
    is_overloaded: bool = False
    is_alive: bool = False


def judge(status: int | None, *, retry_after: str, control: str, is_ours: bool, now: datetime) -> Verdict:
    """The verdict on an answer; `status` is None where none came."""
    if is_ours:
        return Verdict("ours")
    disables = ""
    if status == GONE:
        disables = "its server answered 410 Gone"
    elif control == "disable":
        disables = "its server answered webhook-delivery: disable"
    if status is not None and 200 <= status < 300:
        return Verdict("delivered", disables=disables)
    if disables or control == "abort-message":
        return Verdict("given_up", disables=disables, is_alive=True)
    hold_s = held_s(retry_after, now) if status in HOLDING else 0.0
    overloaded = status is None or status in OVERLOADED
    return Verdict("failed", hold_s, is_overloaded=overloaded, is_alive=status == HOLDING[0])


def held_s(retry_after: str, now: datetime) -> float:
    """Seconds a `Retry-After` asks for: a number, or an HTTP date (RFC 9110, 10.2.3); 1 s to 24 h; 0 for none."""
    text = retry_after.strip()
    if not text:
        return 0.0
    if text.isascii() and text.isdecimal():
        seconds = float(text[:12])
    else:
        try:
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
        except (TypeError, ValueError, OverflowError, IndexError):  # a stranger's text
            return 0.0
    return min(max(seconds, SHORTEST_HOLD_S), LONGEST_HOLD_S)
