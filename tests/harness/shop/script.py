"""Who writes what when: a shop's day, by a seed."""

import random
from dataclasses import dataclass, field
from typing import Literal

Who = Literal["customer", "agent", "native", "bot"]
MINUTE, HOUR, DAY = 60, 3_600, 86_400
ZONE_S = 7 * HOUR  # Asia/Ho_Chi_Minh has no daylight saving time
#: When customers write, by hour of the local day: little at night, most at noon and in the evening.
BUSY = (1, 1, 1, 1, 1, 2, 4, 8, 12, 12, 11, 14, 15, 10, 9, 9, 10, 11, 12, 16, 18, 14, 8, 3)


@dataclass(frozen=True, slots=True)
class Event:
    """Somebody writes; `at` is a Unix second."""

    at: int
    thread: int
    who: Who


@dataclass(frozen=True, slots=True)
class Outage:
    """Pancake answers for these pages with errors; `pages` are numbers, empty for all."""

    start: int
    end: int
    pages: tuple[int, ...]

    def holds(self, at: int, page: int) -> bool:
        """Whether `page` cannot be read at `at`."""
        return self.start <= at < self.end and (not self.pages or page in self.pages)


@dataclass(slots=True)
class Script:
    """`threads` maps a conversation's number to its page's; `events` are in order of time."""

    seed: int
    start: int
    end: int
    pages: int
    threads: dict[int, int]
    events: list[Event]
    outages: list[Outage]
    kills: list[int] = field(default_factory=list)


def write(seed: int, *, start: int, hours: float, pages: int, threads: int, outages: int, kills: int) -> Script:
    """A day (or less) from `start`. Same seed, same day."""
    rng = random.Random(f"shop/{seed}")
    end = start + int(hours * HOUR)
    script = Script(seed, start, end, pages, {}, [], [])
    for number in range(threads):
        script.threads[number] = rng.randrange(pages)
        script.events += _conversation(rng, number, _moment(rng, start, end), end)
    script.events += _burst(rng, script, threads)
    script.events = [event for event in script.events if start < event.at < end]
    script.events.sort(key=lambda event: (event.at, event.thread))
    for _ in range(outages):
        first = rng.randrange(start + 10 * MINUTE, end - 10 * MINUTE)
        broken = () if rng.random() < 0.4 else tuple(rng.sample(range(pages), rng.randint(1, max(1, pages // 3))))
        script.outages.append(Outage(first, first + rng.randrange(4 * MINUTE, 35 * MINUTE), broken))
    script.kills = sorted(rng.sample(range(start // MINUTE + 2, end // MINUTE), kills))
    return script


def _moment(rng: random.Random, start: int, end: int) -> int:
    """When a conversation begins: at a busy hour more likely than at night."""
    while True:
        at = rng.randrange(start, end)
        if rng.random() * max(BUSY) < BUSY[(at + ZONE_S) % DAY // HOUR]:
            return at


def _conversation(rng: random.Random, thread: int, at: int, end: int) -> list[Event]:
    """A few rounds: the customer writes; perhaps a bot answers, the customer asks again, staff answers."""
    events: list[Event] = []
    for _ in range(rng.randint(1, 4)):
        events.append(Event(at, thread, "customer"))
        answer_s = _patience(rng)
        if rng.random() < 0.4:
            events.append(Event(at + rng.randint(1, 4), thread, "bot"))
        nudge = at
        while rng.random() < 0.35:
            nudge += rng.randint(20, 25 * MINUTE)
            if answer_s is not None and nudge >= at + answer_s:
                break
            events.append(Event(nudge, thread, "customer"))
        if answer_s is None:
            break
        at += answer_s
        if at >= end:
            break
        events.append(Event(at, thread, "native" if rng.random() < 0.2 else "agent"))
        if rng.random() < 0.15:  # staff writes twice
            at += rng.randint(5, 90)
            events.append(Event(at, thread, "agent"))
        at += rng.randint(30, 3 * HOUR)
    return events


def _patience(rng: random.Random) -> int | None:
    """How long staff takes, in seconds: mostly minutes, sometimes hours, sometimes for ever."""
    lot = rng.random()
    if lot < 0.08:
        return None
    if lot < 0.65:
        return rng.randint(10, 9 * MINUTE)
    if lot < 0.9:
        return rng.randint(8 * MINUTE, 50 * MINUTE)
    return rng.randint(40 * MINUTE, 5 * HOUR)


def _burst(rng: random.Random, script: Script, threads: int) -> list[Event]:
    """An advertisement: a tenth of the conversations write to one page within two minutes."""
    at, page = rng.randrange(script.start, script.end), rng.randrange(script.pages)
    those = [number for number, home in script.threads.items() if home == page][: threads // 10]
    return [Event(at + rng.randrange(120), number, "customer") for number in those]
