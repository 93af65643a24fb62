"""One HTTP call, taken apart."""

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote_to_bytes

from tests.simulators.pancake.clock import SECOND_US

#: 9999-12-31 in seconds: no stamp lies outside.
END_OF_TIME_S = 253_402_300_799


class BadParameterError(Exception):
    """A parameter the vendor would not take; the message is what it says."""


@dataclass(slots=True)
class Call:
    """Method, path segments (decoded) and query of a call."""

    method: str
    path: list[str]
    query: dict[str, list[str]]
    body: bytes = b""

    @classmethod
    def parse(cls, method: str, raw_path: bytes, query: bytes) -> "Call":
        """Take apart what the server hands over; an id in the path may hold an escaped slash."""
        path = [_decoded(part) for part in raw_path.strip(b"/").split(b"/")]
        return cls(method, path, parse_qs(query.decode("latin-1"), keep_blank_values=True) if query else {})

    def text(self, name: str, default: str = "") -> str:
        """Return the first value of a parameter."""
        values = self.query.get(name)
        return values[0] if values else default

    def number(self, name: str, default: int) -> int:
        """Return a whole number; BadParameterError when it is not one."""
        text = self.text(name)
        if not text:
            return default
        try:
            return int(text)
        except ValueError:
            raise BadParameterError(f"{name} is invalid") from None

    def window(self, *, required: bool) -> tuple[int, int]:
        """Return since and until in unix seconds; all of time where they may be left out."""
        if required and not (self.text("since") and self.text("until")):
            raise BadParameterError("since and until are required")
        return self.number("since", 0), self.number("until", END_OF_TIME_S)

    def window_us(self, *, required: bool) -> tuple[int, int]:
        """Return since and until in microseconds."""
        since_s, until_s = self.window(required=required)
        return since_s * SECOND_US, until_s * SECOND_US


def _decoded(part: bytes) -> str:
    return (unquote_to_bytes(part) if b"%" in part else part).decode("utf-8", "replace")
