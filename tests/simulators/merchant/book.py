"""What each merchant is to do next and what it has received. No sockets here; all of it may be used from any thread."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter

from tests.simulators.merchant.behaviours import Behaviour, Cycle, Script, ok, played
from tests.simulators.merchant.requests import Head, headers_of


@dataclass(frozen=True)
class Received:
    """One request. `path` is its target, `arrived_at` the `time.time()` at which it was whole."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    name: str
    method: str
    path: str
    arrived_at: float
    #: The request line and headers as they came.
    head: bytes
    body: bytes
    #: Which accepted connection it came by, from 1.
    connection: int

    @cached_property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name."""
        return headers_of(self.head)


RECEIVED: TypeAdapter[list[Received]] = TypeAdapter(list[Received])


class Merchant:
    """One path. Only the serving loop adds to it; other threads read, set `script` and clear."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.script = played((ok(),))
        self.in_flight = 0
        self.waiters: list[tuple[int, Callable[[], None]]] = []
        self.clear()

    def clear(self) -> None:
        """Forget what has been received; what is in flight still is."""
        self.requests: list[Received] = []
        #: (webhook-id or "", arrived_at); plain tuples, which the garbage collector does not go through again
        self.arrivals: list[tuple[str, float]] = []
        self.connections: set[int] = set()
        self.peak = self.in_flight

    def arrived(self, head: Head, body: bytes, connection: int, *, light: bool) -> None:
        """Record a request that is whole now, and in flight from now on."""
        now = time.time()
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        self.connections.add(connection)
        if not light:
            self.requests.append(Received(self.name, head.method, head.target, now, head.raw, body, connection))
        self.arrivals.append((head.value(b"webhook-id"), now))
        for count, wake in self.waiters:
            if len(self.arrivals) >= count:
                wake()

    @contextlib.contextmanager
    def waiting(self, count: int, wake: Callable[[], None]) -> Iterator[None]:
        """Have `wake` called, once or more often, when this many have arrived."""
        waiter = (count, wake)
        self.waiters = [*self.waiters, waiter]  # before the look: an arrival in between wakes too
        try:
            if len(self.arrivals) >= count:
                wake()
            yield
        finally:
            self.waiters = [other for other in self.waiters if other is not waiter]


class Book:
    """The merchants by name; one that nobody has set accepts everything.

    With `light` only ids, times and counts are kept. `connections` counts what was accepted, of all merchants, but for
    those who only ask the control routes.
    """

    def __init__(self, *, light: bool = False) -> None:
        self.light = light
        self.connections = 0
        self._merchants: dict[str, Merchant] = {}

    def merchant(self, name: str) -> Merchant:
        """Return the merchant of this name, a new one if need be."""
        known = self._merchants.get(name)
        return known if known is not None else self._merchants.setdefault(name, Merchant(name))

    def behave(self, name: str, *script: Behaviour | Cycle) -> None:
        """From the next request on do these in turn, the last one for ever; what is under way goes on as it began."""
        if not script:
            raise ValueError("a merchant has to behave somehow")
        self.perform(name, script)

    def perform(self, name: str, script: Script) -> None:
        """Behave as one tuple says."""
        self.merchant(name).script = played(script)

    def received(self, name: str) -> list[Received]:
        """Return the requests in the order they were whole, also those not answered."""
        if self.light:
            raise RuntimeError("only ids and times are recorded: read `arrivals`, or start without `light`")
        return list(self.merchant(name).requests)

    def arrivals(self, name: str) -> list[tuple[str, float]]:
        """Return (webhook-id or "", `time.time()` of the arrival) of every request, in order."""
        return list(self.merchant(name).arrivals)

    def ids(self, name: str) -> Counter[str]:
        """Count the requests per `webhook-id`; those without one are left out."""
        return Counter(identity for identity, _ in self.arrivals(name) if identity)

    def count(self, name: str) -> int:
        """Return how many requests have arrived whole."""
        return len(self.merchant(name).arrivals)

    def in_flight(self, name: str) -> int:
        """Return how many requests are not answered yet by a merchant whose client is still there."""
        return self.merchant(name).in_flight

    def peak(self, name: str) -> int:
        """Return how many requests were in flight at the same time, at most."""
        return self.merchant(name).peak

    def connections_of(self, name: str) -> int:
        """Return over how many connections this merchant's requests came."""
        return len(self.merchant(name).connections)

    def clear(self) -> None:
        """Forget what was received and measured, of all merchants; how they behave stays."""
        self.connections = 0
        for merchant in list(self._merchants.values()):
            merchant.clear()

    def names(self) -> list[str]:
        """Return the merchants that somebody has set or sent to."""
        return sorted(self._merchants)
