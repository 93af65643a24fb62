"""Pancake's times: ISO 8601 without an offset, with or without six fractional digits, in UTC.

The documents say so for messages, every measurement says so for the rest. An offset or `Z`, seen in older documents,
is honoured where present.
"""

from datetime import UTC, datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
