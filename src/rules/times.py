"""Times as others write them.

Pancake: ISO 8601 without an offset, with or without six fractional digits, in UTC. The documents say so for messages,
every measurement says so for the rest. An offset or `Z`, seen in older documents, is honoured where present.

A person: ISO 8601 in a zone of their own, or how long ago.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPAN = re.compile(r"(?:\d+\s*[smhdw]\s*)+(?:ago)?")
_PART = re.compile(r"(\d+)\s*([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def in_utc(moment: datetime) -> datetime:
    """A time without a zone is a time in UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def unix_seconds(moment: datetime) -> int:
    """Whole Unix seconds, rounded down. Raises ValueError before 1970: nothing on Pancake is that old."""
    since = moment - EPOCH  # exact, where a float of seconds is not far in the future
    seconds = since.days * 86_400 + since.seconds
    if seconds < 0:
        raise ValueError(f"{moment:%Y-%m-%d} lies before 1970")
    return seconds


def unix_micros(moment: datetime) -> int:
    """Whole Unix microseconds. Raises ValueError before 1970."""
    return unix_seconds(moment) * 1_000_000 + moment.microsecond


def moment_of(text: str, now: datetime, zone: tzinfo) -> datetime:
    """The moment a person means, in UTC: `2h`, `1d 12h ago` (s, m, h, d, w before `now`), or ISO 8601.

    Without an offset it stands in `zone`; a date alone is its midnight. Raises ValueError with a sentence on the rest.
    """
    text = text.strip()
    try:
        if _SPAN.fullmatch(text.lower()):
            seconds = sum(int(number) * _UNIT_S[unit] for number, unit in _PART.findall(text.lower()))
            return (now - timedelta(seconds=seconds)).astimezone(UTC)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as e:
        raise ValueError(f"{text!r} is no time: write 2026-05-14T14:00, 2026-05-14, or a span such as 2h or 1d") from e


def in_short(seconds: float) -> str:
    """A span as a person reads it, its two largest units: `4s`, `3m 20s`, `2h 5m`, `12d 3h`."""
    left, parts = max(0, int(seconds)), list[str]()
    for unit in ("d", "h", "m", "s"):
        number, left = divmod(left, _UNIT_S[unit])
        if number or (unit == "s" and not parts):
            parts.append(f"{number}{unit}")
        elif parts:
            break
    return " ".join(parts[:2])
