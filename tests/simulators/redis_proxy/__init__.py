"""A stretch of network between Redis and its clients, to be cut, frozen or slowed down at an exact command.

resp: where commands and replies end. plan: what is to happen, and what was seen. link: one connection through.
server: listening, `running` in the caller's loop, `running_in_thread` in one of its own.
"""

from tests.simulators.redis_proxy.plan import Command, Cut, Where
from tests.simulators.redis_proxy.server import Proxy, running, running_in_thread

__all__ = ["Command", "Cut", "Proxy", "Where", "running", "running_in_thread"]
