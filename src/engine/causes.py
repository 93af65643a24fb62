"""What was at fault where a try is made again: few words, for a label."""

from ..clients import mongo, redis
from ..errors import RateLimited, Transient

CAUSES = ("timeout", "rate_limited", "redis", "mongodb", "transient", "other")


def cause_of(error: BaseException) -> str:
    """One of `CAUSES`. What one of our errors was raised from is looked at too: its words are for people."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RateLimited):
            return "rate_limited"
        if isinstance(seen, mongo.OUTAGES):
            return "mongodb"
        if isinstance(seen, redis.OUTAGES):
            return "redis"
        if isinstance(seen, TimeoutError):
            return "timeout"
        seen = seen.__cause__
    return "transient" if isinstance(error, Transient) else "other"
