"""Who waits for an answer, and since when: by the messages of a conversation, never by its time of change.

An episode begins with the oldest customer message after the last answer of a human, and ends with the next one. More
messages of the customer neither restart it nor make it another one; bots, auto-replies and notes of the system do not
end it (Zendesk's "next reply time" counts so; reference: webhooks-sync-alerts-files, C2).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .senders import SenderKind


@dataclass(frozen=True, slots=True)
class Said:
    """One message, as far as waiting goes. `at_us`: Unix microseconds. Removed messages are left out before."""

    message_id: str
    at_us: int
    sender: SenderKind
    staff_id: str | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """A customer waited from `since_us` until `replied_us` (None: waits still). `message_id` is the first message's."""

    message_id: str
    since_us: int
    replied_us: int | None = None
    replied_by: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a conversation stands. `waiting` is its open episode; `replied_us` when a human last answered."""

    last: Said | None = None
    waiting: Episode | None = None
    replied_us: int | None = None
    replied_by: str | None = None


def episodes(messages: Iterable[Said]) -> list[Episode]:
    """Every episode of a conversation, oldest first; the messages may come in any order."""
    found: list[Episode] = []
    waiting: Episode | None = None
    for said in in_order(messages):
        if said.sender == "customer" and waiting is None:
            waiting = Episode(said.message_id, said.at_us)
        elif said.sender == "agent" and waiting is not None:
            found.append(Episode(waiting.message_id, waiting.since_us, said.at_us, said.staff_id))
            waiting = None
    return [*found, waiting] if waiting else found


def standing(messages: Iterable[Said]) -> Standing:
    """How things stand after these messages, which may come in any order.

    Messages before the last human answer change nothing but `last`, so a caller need not read them.
    """
    said = in_order(messages)
    replies = [each for each in said if each.sender == "agent"]
    reply = replies[-1] if replies else None
    found = episodes(said)
    return Standing(
        last=said[-1] if said else None,
        waiting=found[-1] if found and found[-1].replied_us is None else None,
        replied_us=reply.at_us if reply else None,
        replied_by=reply.staff_id if reply else None,
    )


def in_order(messages: Iterable[Said]) -> list[Said]:
    """By time, then by id: the order of an answer of Pancake means nothing."""
    return sorted(messages, key=lambda said: (said.at_us, said.message_id))
