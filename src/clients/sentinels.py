"""Connections to the master that the sentinels name, whichever it is by now."""

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff

from .quick_pool import QuickPool

_ONCE = Retry(NoBackoff(), 0)


class MasterConnection(SentinelManagedConnection):
    """Asks the sentinels again for each attempt to connect; redis-py alone would try the address of a dead master as
    often as its retry allows, and with a patient one for ever.
    """

    async def connect_to(self, address: tuple[str, int]) -> None:
        """One attempt; `connect` makes the others."""
        retry, self.retry = self.retry, _ONCE
        try:
            await super().connect_to(address)  # type: ignore[no-untyped-call]
        finally:
            self.retry = retry


class MasterPool(SentinelConnectionPool, QuickPool):
    """As quick and as bounded as the pool for one address. `disconnect` ends the connections to the sentinels too."""

    async def get_master_address(self) -> tuple[str, int]:
        """As the sentinels name it. Where it is another than before, connections in use leave the old one too: what
        waits for an answer there, or for a message, might wait for ever.
        """
        before = self.master_address
        address: tuple[str, int] = await super().get_master_address()  # type: ignore[no-untyped-call]
        if address != before:
            for connection in filter(self._strays, list(self._in_use_connections)):
                await connection.disconnect(nowait=True)
        return address

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect it where it is not, or not to the master the sentinels named last: a replica's answers are old."""
        if self._strays(connection):
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Without `inuse_connections`, which is how a change of the master is met, the sentinels are still needed."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.connection_pool.disconnect()

    def _strays(self, connection: AbstractConnection) -> bool:
        address = self.master_address
        return isinstance(connection, MasterConnection) and (connection.host, connection.port) != address
