"""`channel_tokens`: tokens of alert channels that renew themselves, so that all workers use the same ones."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from pymongo import WriteConcern
from pymongo.errors import PyMongoError

from ..clients.mongo import Database
from ..errors import Transient


class ChannelTokens:
    """One document a channel's account, by name. What is saved comes sealed, where there is a key."""

    def __init__(self, database: Database, lock: Callable[[str], AbstractAsyncContextManager[object]]) -> None:
        # a refresh token that a failover takes back is a grant that is gone
        self._collection = database["channel_tokens"].with_options(write_concern=WriteConcern("majority", j=True))
        self._lock = lock

    async def ensure_indexes(self) -> None:
        """There are none but the name's own."""

    async def load(self, name: str) -> Mapping[str, Any] | None:
        """What was saved last under `name`. Raises Transient while MongoDB is away."""
        try:
            return await self._collection.find_one({"_id": name})
        except PyMongoError as e:
            raise Transient(f"channel tokens: {type(e).__name__}; is MongoDB reachable?") from e

    async def save(self, name: str, fields: Mapping[str, Any]) -> None:
        """Keep `fields`; on disk when this returns. Safe to repeat. Raises Transient while MongoDB is away."""
        try:
            await self._collection.replace_one({"_id": name}, dict(fields), upsert=True)
        except PyMongoError as e:
            raise Transient(f"channel tokens: {type(e).__name__}; is MongoDB reachable?") from e

    def lock(self, name: str) -> AbstractAsyncContextManager[object]:
        """Held by one worker at a time; raises Transient where another one takes too long."""
        return self._lock(name)
