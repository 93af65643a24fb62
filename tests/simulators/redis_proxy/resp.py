"""Redis's wire format (RESP2 and RESP3), only as far as telling where one value ends and the next begins."""

from typing import NamedTuple

LINE_END = b"\r\n"
BULKS = frozenset(b"$=!")
#: Values that follow per counted element.
AGGREGATES = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}
ATTRIBUTE = ord("|")  # stands before the value it describes


class Value(NamedTuple):
    """A whole command or reply. `items` are the bulk strings in it, nested ones too: a command's name and arguments."""

    raw: bytes
    items: list[bytes]


class Values:
    """Cuts one direction of a connection into values, however its bytes are split; `keep` limits `items`."""

    def __init__(self, keep: int = 1 << 30) -> None:
        self._keep = keep
        self._buffer = b""
        self._later: list[bytes] = []  # behind the buffer, not joined to it while they cannot complete an element
        self._wanted = 0  # bytes behind the buffer before it is worth looking again
        self._at = 0  # in the buffer: the first element not read yet
        self._missing = 1  # elements until the value is whole
        self._items: list[bytes] = []
        self.unfinished = 0  # bytes of a value that is not whole yet

    def feed(self, data: bytes) -> list[Value]:
        """Return the values that are whole with these bytes."""
        self._later.append(data)
        self._wanted -= len(data)
        self.unfinished += len(data)
        if self._wanted > 0:
            return []
        buffer = self._buffer = b"".join((self._buffer, *self._later))
        self._later.clear()
        values: list[Value] = []
        start = 0
        while (end := buffer.find(LINE_END, self._at)) >= 0:
            following = self._element(buffer, end)
            if following > len(buffer):
                self._wanted = following - len(buffer)
                break
            self._at = following
            self._missing -= 1
            if not self._missing:
                values.append(Value(buffer[start:following], self._items))
                start, self._missing, self._items = following, 1, []
        self._buffer = buffer[start:]
        self._at -= start
        self.unfinished = len(self._buffer)
        return values

    def _element(self, buffer: bytes, end: int) -> int:
        """Return where the element after this one begins, beyond the buffer when this one is not whole."""
        at, following = self._at, end + 2
        kind = buffer[at]
        if kind in BULKS:
            size = int(buffer[at + 1 : end])
            if size >= 0:
                following += size + 2
                if following <= len(buffer) and len(self._items) < self._keep:
                    self._items.append(buffer[end + 2 : following - 2])
        elif kind in AGGREGATES:
            self._missing += AGGREGATES[kind] * max(0, int(buffer[at + 1 : end])) + (kind == ATTRIBUTE)
        return following
