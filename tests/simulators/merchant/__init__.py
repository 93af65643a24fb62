"""Many merchants behind one port, `/m/<name>` each, who take webhooks well, badly or not at all.

behaviours: what a merchant does with a request. requests: where one ends and the next begins. book: what was received.
connection: one client's connection, played byte by byte. server: listening, `running` in the caller's loop,
`running_in_thread` in one of its own. control, __main__, remote: the same as a process. verify: the official library.
"""

from tests.simulators.merchant.behaviours import (
    Behaviour,
    Cycle,
    capped,
    chunked,
    closing,
    dead,
    disable,
    drip,
    flapping,
    garbage,
    gone,
    gzip_bomb,
    huge,
    informed,
    ok,
    redirect,
    refuse,
    retry_after,
    slow,
    stale,
    status,
)
from tests.simulators.merchant.book import Received
from tests.simulators.merchant.remote import Remote
from tests.simulators.merchant.server import InLoop, InThread, Merchants, running, running_in_thread
from tests.simulators.merchant.verify import verified

__all__ = [
    "Behaviour",
    "Cycle",
    "InLoop",
    "InThread",
    "Merchants",
    "Received",
    "Remote",
    "capped",
    "chunked",
    "closing",
    "dead",
    "disable",
    "drip",
    "flapping",
    "garbage",
    "gone",
    "gzip_bomb",
    "huge",
    "informed",
    "ok",
    "redirect",
    "refuse",
    "retry_after",
    "running",
    "running_in_thread",
    "slow",
    "stale",
    "status",
    "verified",
]
