"""The ways a message leaves the house for a person: Telegram, Slack, e-mail, Zalo, and what Apprise knows.

`channels` is the door: by an address it picks the channel; `note` says what is sent. Each channel is a module of its
own, with its provider's rules about length, markup and pace. `calls` maps every way an HTTP call can fail.
"""

from .channels import Channels, open_channels
from .note import Note, Unsure
from .zalo_tokens import TokenShelf

__all__ = ["Channels", "Note", "TokenShelf", "Unsure", "open_channels"]
