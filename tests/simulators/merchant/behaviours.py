"""What a merchant does with a request, as values; every one can be sent to another process as JSON. No sockets here."""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cached_property, lru_cache
from http import HTTPStatus
from itertools import chain, cycle
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

End = Literal["keep", "close", "stale", "stale_next"]
When = Literal["before", "after", "inside"]
MIB = 1 << 20
PIECE = bytes(64 * 1024)
BODILESS = frozenset({204, 304})


@dataclass(frozen=True)
class Behaviour:
    """Fields are independent: `dataclasses.replace(gone(), latency_s=2, end="close")` is 410 late and then a FIN.

    `at_most` is how many requests of this merchant may be in flight before one gets a 429 at once.
    `interim` codes are sent before the wait of `latency_s`, `raw` instead of anything HTTP.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    #: The body is sent this many times over, as one body.
    repeat: int = 1
    #: 0 = with a Content-Length, else in chunks of this size.
    chunk_bytes: int = 0
    latency_s: float = 0.0
    head_byte_s: float = 0.0
    body_byte_s: float = 0.0
    interim: tuple[int, ...] = ()
    raw: bytes | None = None
    #: "stale" and "stale_next" promise to keep the connection and close it at once, or when the next request begins.
    end: End = "keep"
    cut: When | None = None
    #: A cut is a RST instead of a FIN.
    reset: bool = False
    dead: bool = False
    at_most: int | None = None

    @cached_property
    def interims(self) -> bytes:
        """The informational answers, as they are sent."""
        return b"".join(b"HTTP/1.1 %d %s\r\n\r\n" % (code, _phrase(code)) for code in self.interim)

    @cached_property
    def head(self) -> bytes:
        """The status line and headers, as they are sent."""
        lines = [b"HTTP/1.1 %d %s" % (self.status, _phrase(self.status))]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in self.headers]
        if self.chunk_bytes:
            lines.append(b"transfer-encoding: chunked")
        elif self.status not in BODILESS:
            lines.append(b"content-length: %d" % (len(self.body) * self.repeat))
        if self.end == "close":
            lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    @cached_property
    def at_once(self) -> bytes | None:
        """The whole answer, when it is one write without a wait; else None."""
        waits = self.latency_s or self.head_byte_s or self.body_byte_s
        if waits or self.repeat > 1 or self.cut or self.dead:
            return None
        return self.interims + (b"".join((self.head, *self.pieces())) if self.raw is None else self.raw)

    def pieces(self) -> Iterator[bytes]:
        """Make the body as it is sent, piece by piece."""
        for _ in range(self.repeat):
            if self.chunk_bytes:
                for at in range(0, len(self.body), self.chunk_bytes):
                    chunk = self.body[at : at + self.chunk_bytes]
                    yield b"%x\r\n%s\r\n" % (len(chunk), chunk)
            else:
                yield self.body
        if self.chunk_bytes:
            yield b"0\r\n\r\n"


@dataclass(frozen=True)
class Cycle:
    """Behaviours for successive requests: over and over at the end of a script, once anywhere before."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    cycle: tuple[Behaviour, ...]

    def __post_init__(self) -> None:
        if not self.cycle:
            raise ValueError("a merchant has to behave somehow: the cycle is empty")


Script = tuple[Behaviour | Cycle, ...]
SCRIPT: TypeAdapter[Script] = TypeAdapter(Script)


def played(script: Script) -> Iterator[Behaviour]:
    """Say what comes for each request: the script in its order, its last behaviour (or cycle) for ever."""
    flat = [step.cycle if isinstance(step, Cycle) else (step,) for step in script]
    return chain(chain.from_iterable(flat[:-1]), cycle(flat[-1]))


def ok(code: int = 200, *, latency_s: float = 0.0, body: bytes = b"") -> Behaviour:
    """Accept, at once or later."""
    return Behaviour(code, body=body, latency_s=latency_s)


def status(
    code: int, headers: Mapping[str, str] | None = None, body: bytes = b"", *, latency_s: float = 0.0
) -> Behaviour:
    """Answer with this code."""
    return Behaviour(code, tuple((headers or {}).items()), body, latency_s=latency_s)


def slow(latency_s: float) -> Behaviour:
    """Accept, but send the head only after this time."""
    return ok(latency_s=latency_s)


def dead() -> Behaviour:
    """Read the request and never answer, until the client goes."""
    return Behaviour(dead=True)


def refuse(when: When = "after", *, reset: bool = False) -> Behaviour:
    """End the connection without an answer.

    "before": as soon as the head tells whose request it is, its body unread, and nothing is recorded. (The kernel makes
    that a RST if some of the body arrives later. For an end before any byte see `Merchants.door`.)
    "after": the request is recorded. "inside": with the first half of an answer.
    """
    return Behaviour(body=b"half of this text arrives", cut=when, reset=reset)


def flapping(good: int, bad: int, *, badly: Behaviour | None = None) -> Cycle:
    """Take this many requests well, then this many badly (503 if not told), over and over."""
    return Cycle((ok(),) * good + (badly or status(503),) * bad)


def redirect(to: str, code: int = 302) -> Behaviour:
    """Send the client elsewhere."""
    return status(code, {"location": to})


def retry_after(code: int, value: float | datetime | str) -> Behaviour:
    """Answer 429 or 503 with a Retry-After: seconds, a moment (sent as HTTP date), or any text."""
    if isinstance(value, datetime):
        text = format_datetime(value.astimezone(UTC), usegmt=True)
    else:
        text = value if isinstance(value, str) else f"{value:g}"
    return status(code, {"retry-after": text})


def gone() -> Behaviour:
    """Answer that this endpoint will not come back."""
    return status(410)


def disable(value: Literal["disable", "abort-message"] = "disable", code: int = 400) -> Behaviour:
    """Ask, by the header `webhook-delivery`, for no more of this endpoint's or this message's deliveries."""
    return status(code, {"webhook-delivery": value})


def huge(mib: int, *, chunk_bytes: int = 0) -> Behaviour:
    """Accept with a body of this size, made while it is sent."""
    return Behaviour(body=PIECE, repeat=mib * MIB // len(PIECE), chunk_bytes=chunk_bytes)


def gzip_bomb(mib: int = 1024) -> Behaviour:
    """Accept with about a thousandth of this size, which unpacks to it."""
    return status(200, {"content-encoding": "gzip", "content-type": "application/json"}, _bomb(mib))


def drip(*, head_byte_s: float = 0.0, body_byte_s: float = 0.0, body: bytes = b"drop by drop") -> Behaviour:
    """Accept, each byte of the head or the body this long after the last."""
    return Behaviour(body=body, head_byte_s=head_byte_s, body_byte_s=body_byte_s)


def chunked(body: bytes = b"in two chunks", chunk_bytes: int = 8) -> Behaviour:
    """Accept with a chunked body."""
    return Behaviour(body=body, chunk_bytes=chunk_bytes)


def closing(code: int = 200) -> Behaviour:
    """Answer with `Connection: close`, and close."""
    return Behaviour(code, end="close")


def stale(at: Literal["next", "once"] = "next") -> Behaviour:
    """Accept on a connection that looks kept, and close it at the next request's first byte, unread, or at once."""
    return Behaviour(end="stale_next" if at == "next" else "stale")


def garbage(raw: bytes = b"\x16\x03\x01SSH-2.0-\x00\xff nothing of HTTP\r\n\r\n") -> Behaviour:
    """Answer with these bytes and close."""
    return Behaviour(raw=raw, end="close")


def informed(*codes: int, latency_s: float = 0.0) -> Behaviour:
    """Send these 1xx answers at once, then accept."""
    return Behaviour(interim=codes or (103,), latency_s=latency_s)


def capped(at_most: int, *, latency_s: float = 0.0) -> Behaviour:
    """Accept, but only this many at a time: 429 for what comes on top."""
    return Behaviour(at_most=at_most, latency_s=latency_s)


def _phrase(code: int) -> bytes:
    try:
        return HTTPStatus(code).phrase.encode()
    except ValueError:
        return b"Unheard Of"


@lru_cache(maxsize=2)
def _bomb(mib: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros, crc = bytes(MIB), 0
    for _ in range(mib):
        crc = zlib.crc32(zeros, crc)
    # after a full flush a block refers to nothing before it: one packed, it can be repeated
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    trailer = crc.to_bytes(4, "little") + (mib * MIB % (1 << 32)).to_bytes(4, "little")
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * mib + packer.flush() + trailer
