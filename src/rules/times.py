"""Pancake's times: ISO 8601 without an offset, with or without six fractional digits, in UTC (measured by several
clients; the documents say so for messages). An offset or `Z`, seen in older documents, is honoured where present."""

from datetime import UTC, datetime, tzinfo


def unix_seconds(stamp: object, naive_zone: tzinfo = UTC) -> int:
    """`stamp` as whole Unix seconds, rounded down. Naive times are read in `naive_zone`.

    Raises ValueError on anything that is not a time between 1970 and 9999 (None, "", a number, a year 0).
    """
    if not isinstance(stamp, str):
        raise ValueError(f"a time is text like 2026-05-14T14:09:25, not {type(stamp).__name__}")  # noqa: TRY004
    moment = datetime.fromisoformat(stamp)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=naive_zone)
    seconds = int(moment.timestamp() // 1)
    if seconds < 0:
        raise ValueError(f"{stamp} lies before 1970")
    return seconds
