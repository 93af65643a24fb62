"""A connection pool that does not ask a connection how it is before each command. Light: the enqueue helper uses it."""

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection


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
