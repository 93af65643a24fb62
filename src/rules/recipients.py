"""Where an alert goes, as people write it: `telegram:-1001234`, `slack:sales`, `email:boss@shop.vn` ..."""

import re
from dataclasses import dataclass
from typing import Final

#: channel -> (what a target must look like, how to write it)
CHANNELS: Final = {
    "telegram": (re.compile(r"-?\d{1,20}(?:/\d{1,15})?|@\w{4,32}", re.ASCII), "telegram:<chat id>[/<topic>]"),
    "slack": (re.compile(r"[\w.-]{1,64}"), "slack:<a name of ALERT_SLACK_WEBHOOKS>"),
    "email": (re.compile(r"[^@\s,;<>\"\x00-\x1f\x7f]{1,64}@[^@\s,;<>\"\x00-\x1f\x7f]{1,190}"), "email:<address>"),
    "webhook": (
        re.compile(r"[^\s,\x00-\x1f\x7f]{1,128}"),
        "webhook:<merchant id, whose endpoints get an event alert.*>",
    ),
    "zalo": (re.compile(r"[0-9]{5,25}"), "zalo:<user id of a follower of the OA>"),
    "apprise": (re.compile(r"[\w.-]{1,64}"), "apprise:<a name of ALERT_APPRISE_URLS>; SMS goes this way"),
    "app": (re.compile(r"[\w.:-]{1,128}"), "app:<user id>, or app:all"),
}


@dataclass(frozen=True, slots=True)
class Recipient:
    """One address. `target` is what the channel understands."""

    channel: str
    target: str

    def __str__(self) -> str:
        return f"{self.channel}:{self.target}"


def recipient_of(text: str) -> Recipient:
    """An address as it was written. Raises ValueError with a sentence that says how to write one."""
    channel, _, target = (part.strip() for part in text.partition(":"))
    channel = channel.lower()
    if channel not in CHANNELS:
        raise ValueError(f"{text!r} is no address: write {'; '.join(shape for _, shape in CHANNELS.values())}")
    pattern, shape = CHANNELS[channel]
    if not pattern.fullmatch(target):
        raise ValueError(f"{text!r} is no address of {channel}: write {shape}")
    return Recipient(channel, target)
