"""What is sent, what each channel offers, and the failure that leaves open whether it arrived."""

from dataclasses import dataclass
from typing import Protocol

from ...errors import Transient


class Unsure(Transient):
    """It may have arrived: the connection was cut, or time ran out, after it was sent. Sending again may double it."""


@dataclass(frozen=True, slots=True)
class Note:
    """One message, in words every channel can show. `title` and `text` are plain text; `text` may hold several lines.

    `note_id` stays the same in every try of the same message, so that a channel that can tell doubles apart does.
    `link` is where to act; `links` are further ones as (label, URL). `is_repeat`: it was sent before, and may be known.
    """

    note_id: str
    title: str
    text: str
    link: str | None = None
    severity: str = "info"
    is_repeat: bool = False
    links: tuple[tuple[str, str], ...] = ()


class Channel(Protocol):
    """One way out of the house. A method raises as `Channels.send` says."""

    def missing(self, target: str) -> str | None:
        """The sentence that says which setting `target` lacks; None where it can be reached."""

    async def send(self, target: str, note: Note) -> str | None:
        """Send it once, and return the provider's id of the message where there is one."""

    async def check(self) -> tuple[bool, str] | None:
        """Whether the channel works, and a sentence about it, without sending anything; None where it is not set up."""
