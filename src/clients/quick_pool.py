"""A connection pool that does not ask a connection how it is before each command, and a parser that leaves a Redis
which is no longer the master. Light: the enqueue helper uses them.
"""

import re

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError, ResponseError

# out of a script Redis 6 sends `ERR Error running script (...): @user_script: 9: -READONLY You can't ...`
_OUT_OF_SCRIPT = r"(?:^|^ERR Error running script.*: -)"
_NOT_MASTER = re.compile(_OUT_OF_SCRIPT + "(READONLY|NOREPLICAS|MASTERDOWN) ", re.DOTALL)
_NOT_NOW = re.compile(_OUT_OF_SCRIPT + "(OOM|MISCONF|BUSY) ", re.DOTALL)


class NotMaster(ConnectionError):
    """This Redis takes no writes: it was made a replica, or lost its own. An outage, and the connection is closed."""


class NotNow(ResponseError):  # only what is one of these two is raised by redis-py, all else it would return
    """This Redis is full, or cannot write to its disk, or is held up by a script: an outage, on a sound connection."""


class Parser(DefaultParser):  # type: ignore[misc, valid-type]
    """Gives `NotMaster` for what redis-py takes for an error of the command, and its connection for sound."""

    @classmethod
    def parse_error(cls, response: str) -> Exception:
        """The exception for an error reply; a ConnectionError makes redis-py close the connection."""
        if _NOT_MASTER.match(response):
            return NotMaster(response)
        error: Exception = NotNow(response) if _NOT_NOW.match(response) else super().parse_error(response)
        return error


class QuickPool(BlockingConnectionPool):
    """redis-py looks for unread data before it hands a connection out, which costs a turn of the event loop, half of
    what a command takes on an idle machine. It drops a connection whose command was cut short by itself, and one that
    the server closed fails at its next command, which is then retried; so there is nothing to find.
    """

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect it where it is not."""
        writer = connection._writer
        if writer is not None and writer.is_closing():  # uvloop would raise RuntimeError, which nobody retries
            await connection.disconnect(nowait=True)
        await connection.connect()
