"""Clocks of the simulated vendor, and how it writes times.

All moments inside the simulator are whole microseconds since 1970 UTC (`*_us`).
"""

import time
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Protocol

SECOND_US = 1_000_000


class Clock(Protocol):
    """What the world asks for the time."""

    def now_us(self) -> int:
        """Return the present moment in microseconds since 1970 UTC."""
        ...


class RealClock:
    """The machine's clock, never running backwards."""

    def __init__(self) -> None:
        self._last_us = 0

    def now_us(self) -> int:
        """Return the machine's time; a clock set back stands still until it has caught up."""
        self._last_us = max(self._last_us, time.time_ns() // 1000)
        return self._last_us


class VirtualClock:
    """A clock that moves only when told to: days of a shop's life pass in a second of test."""

    def __init__(self, start_s: float = 1_780_000_000.0) -> None:
        self._now_us = int(start_s * SECOND_US)

    def now_us(self) -> int:
        """Return the virtual moment."""
        return self._now_us

    def advance(self, seconds: float) -> None:
        """Move forward; a negative amount is a fault of the caller."""
        if seconds < 0:
            raise ValueError("a virtual clock only moves forward: give seconds >= 0")
        self._now_us += int(seconds * SECOND_US)


def whole_second(at_us: int) -> int:
    """Cut a moment to its second, as the vendor does for customers and posts."""
    return at_us - at_us % SECOND_US


def iso(at_us: int, *, fraction: bool, offset_h: float = 0.0) -> str:
    """Write a moment as the vendor does: ISO-8601 without a zone, UTC unless `offset_h` shifts it."""
    shifted_us = at_us + int(offset_h * 3600) * SECOND_US
    seconds, rest_us = divmod(shifted_us, SECOND_US)
    text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    return f"{text}.{rest_us:06d}" if fraction else text


def http_date(at_us: int, skew_s: float = 0.0) -> bytes:
    """Write a moment as an HTTP `Date` header; `skew_s` is how far the vendor's clock is ahead."""
    return formatdate(at_us // SECOND_US + skew_s, usegmt=True).encode()
