"""A page of millions of customers that costs no memory per row: for benchmarks only.

Row `i` (0 = newest) is computed when it is asked for. Its stamp is `newest_s - i * step_s`, cut to the second; its
psid, id and phone come from `i`; name and filling come from a small pool of texts rendered once. Nothing changes.
"""

import bisect
import random

import orjson

from tests.simulators.pancake import customers, invent
from tests.simulators.pancake.clock import SECOND_US, iso
from tests.simulators.pancake.switches import Switches

POOL = 256


class HugeCustomers:
    """`count` customers ending at `newest_s`, `step_s` seconds apart; a step below 1 makes ties."""

    def __init__(self, count: int, newest_s: int, step_s: float, page_number: int = 0, seed: int = 1) -> None:
        self.count, self.newest_s, self.step_s = count, newest_s, step_s
        self._page = page_number
        self._pool = _pool(page_number, random.Random(seed))

    def __len__(self) -> int:
        return self.count

    def stamp_s(self, index: int) -> int:
        """Return updated_at (= inserted_at) of a row, unix seconds."""
        return self.newest_s - int(index * self.step_s)

    def psid(self, index: int) -> str:
        """Return the psid of a row, its own for ever."""
        return f"8{self._page:03d}{index:012d}"

    def page(self, since_s: int, until_s: int, *, exclusive: bool, number: int, size: int) -> tuple[int, range]:
        """Return how many rows lie in the window, and the indices of its page `number`, newest first."""
        if exclusive:
            since_s, until_s = since_s + 1, until_s - 1
        rows = range(self.count)
        first = bisect.bisect_left(rows, -until_s, key=lambda index: -self.stamp_s(index))
        end = bisect.bisect_right(rows, -since_s, key=lambda index: -self.stamp_s(index))
        total = max(0, end - first)
        start = first + (number - 1) * size
        return total, range(min(start, end), min(start + size, end)) if total else range(0)

    def bodies(self, indices: range) -> list[bytes]:
        """Return the JSON of rows."""
        pool = self._pool
        out: list[bytes] = []
        last_minute, prefix = -1, b""
        for index in indices:
            minute, second = divmod(self.stamp_s(index), 60)
            if minute != last_minute:
                last_minute, prefix = minute, iso(minute * 60 * SECOND_US, fraction=False)[:-2].encode()
            number = index % 100_000
            values = (index, index, index, number, prefix, second, prefix, second, number, number, index)
            out.append(pool[index % POOL] % values)
        return out


def _pool(page_number: int, rng: random.Random) -> list[bytes]:
    """Render rows whose own values are holes: index three times, phone, two stamps, phone twice, index."""
    rid = b"%08x-0000-4000-8000-%%012x" % page_number
    holes = {
        "@RID@": rid,
        "@PSID@": b"8%03d%%012d" % page_number,
        "@PHONE@": b"09000%05d",
        "@AT@": b"%b%02d",
    }
    out: list[bytes] = []
    for _ in range(POOL):
        row = customers.Customer("@RID@", "0000", invent.person(rng), "@PHONE@", 0, 0)
        values = customers.fields_of(row, Switches())
        values |= {"customer_id": "@RID@", "psid": "@PSID@", "inserted_at": "@AT@", "updated_at": "@AT@"}
        values["recent_phone_numbers"][0]["length"] = 10
        text = orjson.dumps(values).replace(b"%", b"%%")
        for mark, hole in holes.items():
            text = text.replace(mark.encode(), hole)
        out.append(text)
    return out
