"""HTTP/1.1 requests out of a connection's bytes, only as far as a receiver of webhooks needs it."""

from typing import NamedTuple

HEAD_END = b"\r\n\r\n"


class MalformedRequest(Exception):
    """Not a request this parser reads: bad request line, bad length, or a chunked body."""


class Head(NamedTuple):
    """A request's line and headers. `raw` and `lowered` are its bytes without the empty line at the end."""

    method: str
    target: str
    raw: bytes
    lowered: bytes
    body_bytes: int
    closes: bool

    def value(self, name: bytes) -> str:
        """Return the first header of this lower-case name, or ""."""
        start = self.lowered.find(b"\r\n" + name + b":")
        if start < 0:
            return ""
        start += len(name) + 3
        end = self.raw.find(b"\r\n", start)
        return self.raw[start : end if end >= 0 else None].strip().decode("latin-1")


class Requests:
    """Cuts what a client sends into requests, however its bytes are split."""

    def __init__(self) -> None:
        self._buffer = b""
        self._head: Head | None = None

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        self._buffer = self._buffer + data if self._buffer else data

    @property
    def begun(self) -> bool:
        """Say whether a byte of a request has come that is not yet taken."""
        return self._head is not None or bool(self._buffer)

    def head(self) -> Head | None:
        """Return the head of the request that is arriving, as soon as it is whole, until its body is taken."""
        if self._head is None and self._buffer:
            end = self._buffer.find(HEAD_END)
            if end >= 0:
                self._head = _parsed(self._buffer[:end])
                self._buffer = self._buffer[end + 4 :]
        return self._head

    def body(self) -> bytes | None:
        """Take the body, which ends the request; None while it is not whole."""
        if self._head is None or len(self._buffer) < self._head.body_bytes:
            return None
        size, self._head = self._head.body_bytes, None
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body


def _parsed(raw: bytes) -> Head:
    line = raw.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(line) != 3 or not line[2].startswith("HTTP/1."):
        raise MalformedRequest(f"the request line is {line}")
    head = Head(line[0], line[1], raw, raw.lower(), 0, False)
    if head.value(b"transfer-encoding"):
        raise MalformedRequest("the body is not sent with a Content-Length")
    length = head.value(b"content-length") or "0"
    if not length.isdecimal():
        raise MalformedRequest(f"the Content-Length is {length}")
    closes = head.value(b"connection").lower() == "close" or line[2] == "HTTP/1.0"
    return head._replace(body_bytes=int(length), closes=closes)


def headers_of(raw: bytes) -> dict[str, str]:
    """Return a head's headers by lower-case name; one that comes twice has both values, with a comma between."""
    headers: dict[str, str] = {}
    for line in raw.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
