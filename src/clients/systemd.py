"""What systemd is told of this process (sd_notify(3)): datagrams to the socket it names. Without it all of this is
nothing.
"""

import os
import socket
from collections.abc import Mapping


def notify(*states: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell systemd, as `READY=1` or `STATUS=...`; returns whether it could be told. Never raises and never waits."""
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    if address.startswith("@"):  # an abstract one: its name begins with a zero byte
        address = "\0" + address[1:]
    message = "\n".join(state.replace("\n", " ") for state in states)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto(message.encode(), address)
    except OSError:  # at worst it takes us for dead, and starts us again
        return False
    return True


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often it is to be told `WATCHDOG=1`: half of what it waits; None where it does not watch this process."""
    pid, longest_us = environ.get("WATCHDOG_PID", ""), environ.get("WATCHDOG_USEC", "")
    if pid not in ("", str(os.getpid())) or not longest_us.isdecimal() or not int(longest_us):
        return None
    return int(longest_us) / 2e6
