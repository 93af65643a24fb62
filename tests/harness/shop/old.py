"""What the rules of earlier systems would have told, on the same script, at every tick."""

from collections.abc import Iterator

from tests.harness.shop.judge import TICK, Told
from tests.harness.shop.script import MINUTE, Script


def last_is_customers(script: Script, minutes: int) -> Iterator[Told]:
    """The document's: the last message is the customer's and older than the threshold; nothing is remembered."""
    for tick, last in _ticks(script):
        for thread, (at, who) in last.items():
            if who == "customer" and tick - at > minutes * MINUTE:
                yield Told(thread, "breach", tick)


def updated_window(script: Script) -> Iterator[Told]:
    """The agent's: changed 5 to 300 minutes ago, and of those none that changed more than 5 minutes ago."""
    for tick, last in _ticks(script):
        for thread, (at, who) in last.items():
            in_query = 5 * MINUTE <= tick - at <= 300 * MINUTE
            if in_query and tick - at <= 5 * MINUTE and who in ("customer", "bot"):
                yield Told(thread, "breach", tick)


def _ticks(script: Script) -> Iterator[tuple[int, dict[int, tuple[int, str]]]]:
    last: dict[int, tuple[int, str]] = {}
    events = iter(script.events)
    event = next(events, None)
    for tick in range(-(-script.start // TICK) * TICK, script.end, TICK):
        while event is not None and event.at <= tick:
            last[event.thread] = (event.at, event.who)
            event = next(events, None)
        yield tick, last
