"""What the pages of a played shop promise: in the judge's words, and in those of `reply_policies`."""

from datetime import date, timedelta
from typing import Any

from tests.harness.shop.judge import Rules

ALWAYS = (((0, 1_440),),) * 7
OFFICE = (((480, 720), (780, 1_050)),) * 5 + (((480, 720),), ())
LONG = (((480, 1_320),),) * 7
#: (shifts, hours as a person writes them)
KINDS = (
    (ALWAYS, ""),
    (OFFICE, "mon-fri 08:00-12:00 13:00-17:30; sat 08:00-12:00"),
    (LONG, "daily 08:00-22:00"),
)
EPOCH = date(1970, 1, 1)


def rules_of(number: int, *, closed: date | None = None) -> Rules:
    """The promise of page `number`; every fourth page is closed on `closed`."""
    minutes = 10 + 5 * (number % 4)
    days = {(closed - EPOCH).days} if closed is not None and number % 4 == 3 else set()
    steps = (("warn", minutes - 5), ("breach", minutes), ("escalate", minutes + 20))
    return Rules(steps, KINDS[number % 3][0], frozenset(days))


def policy_of(number: int, to: str, *, closed: date | None = None) -> dict[str, Any]:
    """The same, as it is stored for a page."""
    holidays = [f"{closed}..{closed + timedelta(days=0)} closed"] if closed is not None and number % 4 == 3 else []
    return {
        "thresholdMinutes": 10 + 5 * (number % 4),
        "hours": KINDS[number % 3][1],
        "holidays": holidays,
        "steps": [
            {"name": "warn", "minutes": -5, "severity": "warning", "to": [to]},
            {"name": "breach", "minutes": 0, "severity": "high", "to": [to]},
            {"name": "escalate", "minutes": 20, "severity": "critical", "to": [to]},
        ],
    }
