"""The first bytes of an answer's body as text, whatever they are."""

import codecs
import zlib
from collections.abc import Iterable

SHOWN = 1_024  # bytes, decompressed
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


def shown_body(raw: Iterable[bytes], encoding: str) -> str:
    """The first `SHOWN` bytes of a body as text, with replacement characters where it is not UTF-8.

    `encoding` is its Content-Encoding. gzip and deflate are undone, never further than what is shown; where that
    fails, and for other encodings, the bytes are shown as they came.
    """
    data = b"".join(raw)
    if encoding.strip().lower() in ("gzip", "x-gzip", "deflate"):
        data = _inflated(data, _GZIP_OR_ZLIB) or _inflated(data, _RAW) or data
    # a character cut in two at the end is left out
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data[:SHOWN])


def _inflated(data: bytes, window: int) -> bytes:
    try:
        return zlib.decompressobj(window).decompress(data, SHOWN)
    except zlib.error:
        return b""
