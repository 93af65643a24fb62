"""Pancake's times: ISO 8601 without an offset, with or without six fractional digits, in UTC.

The documents say so for messages, every measurement says so for the rest. An offset or `Z`, seen in older documents,
is honoured where present.
"""

from datetime import UTC, datetime


def in_utc(moment: datetime) -> datetime:
    """A time without a zone is a time in UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def unix_seconds(moment: datetime) -> int:
    """Whole Unix seconds, rounded down. Raises ValueError before 1970: nothing on Pancake is that old."""
    seconds = int(moment.replace(microsecond=0).timestamp())
    if seconds < 0:
        raise ValueError(f"{moment:%Y-%m-%d} lies before 1970")
    return seconds
