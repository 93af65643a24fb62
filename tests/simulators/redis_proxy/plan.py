"""What a proxy is to do to the traffic, and what it has seen of it. No sockets here."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Literal, get_args

Where = Literal["before", "after", "inside"]
#: A command's name as the client wrote it, then its arguments.
Command = list[bytes]
Match = str | Callable[[Command], bool]
GREETING = frozenset({b"HELLO", b"CLIENT"})
WHERE: tuple[Where, ...] = get_args(Where)


class Cut:
    """Planned cuts. `happened` counts the connections reset so far; `left` the commands still to be picked."""

    def __init__(self, choose: Callable[[Command], Where | None], left: float) -> None:
        self._choose = choose
        self.left = left
        self.happened = 0
        self._first = threading.Event()

    def pick(self, command: Command) -> Where | None:
        """Say where to cut this command, if at all; a command picked is one fewer `left`."""
        where = self._choose(command) if self.left > 0 else None
        self.left -= where is not None
        return where

    def note(self) -> None:
        """Count one more reset."""
        self.happened += 1
        self._first.set()

    def wait(self, timeout_s: float) -> bool:
        """Block until it has happened once; False when the time is over. On an event loop: `asyncio.to_thread`."""
        return self._first.wait(timeout_s)


class Plan:
    """The controls that touch no connection; all may be used from any thread.

    `seen` counts commands by upper-case name as they arrive, cut or not, the client's greeting (HELLO, CLIENT, SELECT)
    included; an EVALSHA also as "EVALSHA <sha>". `latency_s` is added on the way to Redis, once to what is
    sent together; messages of a subscription are not delayed.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.latency_s = 0.0
        self.frozen = False
        self._cuts: list[Cut] = []

    def cut_next(self, match: Match, where: Where, *, times: int = 1) -> Cut:
        """Reset the connection at the next command (or `times` commands) that `match` picks.

        A text picks by being part of the upper-case name or of an argument ("SET" also picks HSET; a predicate is
        exact). "before": Redis never gets the command.
        "after": Redis has executed it, its reply is lost. "inside": half of the reply's bytes arrive. What the client
        sent ahead of the command is executed and answered, what it sent behind it never reaches Redis. A command
        queued in MULTI is executed at EXEC: match that.
        """
        wanted = _named(match) if isinstance(match, str) else match
        return self._planned(Cut(lambda command: where if wanted(command) else None, times))

    def cut_randomly(self, probability: float, seed: int, where: Where | None = None) -> Cut:
        """Cut any command with this probability until `clear`; without `where` each place is as likely.

        The same seed and order of commands give the same cuts.
        """
        rng = random.Random(f"redis_proxy/{seed}")

        def choose(_: Command) -> Where | None:
            place = rng.choice(WHERE)
            return (where or place) if rng.random() < probability else None

        return self._planned(Cut(choose, float("inf")))

    def clear(self) -> None:
        """Forget the cuts whose command has not come yet."""
        for cut in self._cuts:
            cut.left = 0

    def meet(self, command: Command) -> tuple[Cut, Where] | None:
        """Count a command and say which cut it falls to."""
        name = command[0].upper().decode("latin-1")
        self.seen[name] += 1
        if name == "EVALSHA" and len(command) > 1:
            self.seen[f"EVALSHA {command[1].decode('latin-1')}"] += 1
        for cut in self._cuts:
            where = cut.pick(command)
            if where:
                return cut, where
        return None

    def _planned(self, cut: Cut) -> Cut:
        self._cuts.append(cut)
        return cut


def _named(text: str) -> Callable[[Command], bool]:
    name, part = text.upper().encode(), text.encode()

    def matches(command: Command) -> bool:
        called = command[0].upper()
        # redis-py greets with CLIENT SETINFO: no "SET" that anybody means
        return name in called or (called not in GREETING and any(part in argument for argument in command[1:]))

    return matches
