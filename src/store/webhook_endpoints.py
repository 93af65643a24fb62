"""`webhook_endpoints`: where merchants want to be told, of what, and how we sign to them."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from ..batcher import Batcher
from ..clients.mongo import Database, Document

MOST_RECENT = 5_000  # merchants whose endpoints are remembered
RECENT_S = 2.0  # for so long, where nobody has said that they changed: somebody may have written to MongoDB by hand


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret as it is stored (`rules.vault`). `expires_at`: until when it still signs; None for ever."""

    sealed: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint. `secrets` newest first; `events` empty for all; None for the settings' own limits.

    `failing_since`: when the first of the failures came that no success has followed; `warned_at`: when that was said.
    """

    endpoint_id: str
    merchant_id: str
    url: str
    secrets: tuple[Secret, ...]
    events: tuple[str, ...] = ()
    is_enabled: bool = True
    disabled_reason: str | None = None
    rate_per_second: float | None = None
    max_in_flight: int | None = None
    failing_since: datetime | None = None
    warned_at: datetime | None = None
    created_at: datetime | None = None
    disabled_at: datetime | None = None

    def signing(self, now: datetime) -> list[str]:
        """The sealed secrets that sign at `now`, newest first."""
        return [secret.sealed for secret in self.secrets if secret.expires_at is None or secret.expires_at > now]


class WebhookEndpoints:
    """Raises what the driver raises; writes are safe to repeat."""

    def __init__(self, database: Database) -> None:
        self._collection = database["webhook_endpoints"]
        self._of_merchant = Batcher(self._of_merchants)
        self._recent: OrderedDict[str, tuple[list[Endpoint], bytes, float]] = OrderedDict()

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        await self._collection.create_indexes(
            [
                IndexModel([("endpointId", ASCENDING)], unique=True),
                IndexModel([("merchantId", ASCENDING), ("createdAt", ASCENDING)]),
            ]
        )

    async def add(self, endpoint: Endpoint) -> bool:
        """Store a new endpoint; False where its id is taken."""
        try:
            await self._collection.insert_one(
                {
                    "endpointId": endpoint.endpoint_id,
                    "merchantId": endpoint.merchant_id,
                    "url": endpoint.url,
                    "secrets": _written(endpoint.secrets),
                    "events": list(endpoint.events),
                    "isEnabled": endpoint.is_enabled,
                    "disabledReason": endpoint.disabled_reason,
                    "ratePerSecond": endpoint.rate_per_second,
                    "maxInFlight": endpoint.max_in_flight,
                    "createdAt": endpoint.created_at,
                }
            )
        except DuplicateKeyError:
            return False
        return True

    async def of_merchant(self, merchant_id: str) -> list[Endpoint]:
        """All endpoints of a merchant, disabled ones too, oldest first. Asked for many at once, in one round trip."""
        return await self._of_merchant(merchant_id)

    def remember(self, merchant_id: str, endpoints: list[Endpoint], version: bytes) -> None:
        """Keep what `of_merchant` gave for a moment; `version` is from before it was asked."""
        self._recent[merchant_id] = endpoints, version, monotonic()
        self._recent.move_to_end(merchant_id)
        if len(self._recent) > MOST_RECENT:
            self._recent.popitem(last=False)

    def recent(self, merchant_id: str) -> tuple[list[Endpoint], bytes] | None:
        """What was remembered a moment ago, with its version."""
        endpoints, version, at = self._recent.get(merchant_id, ([], b"", -RECENT_S))
        return (endpoints, version) if endpoints and monotonic() < at + RECENT_S else None

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint of that id."""
        found = await self._collection.find_one({"endpointId": endpoint_id})
        return _endpoint(found) if found else None

    async def all(self, merchant_id: str | None = None) -> list[Endpoint]:
        """All, or a merchant's, by merchant and age."""
        query = {"merchantId": merchant_id} if merchant_id else {}
        order = [("merchantId", ASCENDING), ("createdAt", ASCENDING)]
        return [_endpoint(found) async for found in self._collection.find(query).sort(order)]

    async def standing(self, most: int) -> tuple[int, int, list[str]]:
        """How many are enabled, how many disabled, and the ids of enabled ones that fail, `most` of them."""
        disabled = await self._collection.count_documents({"isEnabled": False})
        failing = {"isEnabled": {"$ne": False}, "failingSince": {"$ne": None}}
        found = self._collection.find(failing, {"endpointId": 1}).limit(most)
        ids = [each["endpointId"] async for each in found]
        return await self._collection.estimated_document_count() - disabled, disabled, ids

    async def enable(self, endpoint_id: str) -> None:
        """Let it be called again, with a clean record."""
        await self._collection.update_one(
            {"endpointId": endpoint_id},
            {
                "$set": {"isEnabled": True, "disabledReason": None},
                "$unset": {"failingSince": 1, "warnedAt": 1, "disabledAt": 1},
            },
        )

    async def disable(self, endpoint_id: str, reason: str) -> bool:
        """Call it no more; False where that was so already."""
        change = {"$set": {"isEnabled": False, "disabledReason": reason, "disabledAt": datetime.now(UTC)}}
        done = await self._collection.update_one({"endpointId": endpoint_id, "isEnabled": True}, change)
        return done.modified_count > 0

    async def set_secrets(self, endpoint: Endpoint, secrets: Sequence[Secret]) -> bool:
        """Take `secrets` in place of the endpoint's; False where somebody has changed them since it was read."""
        done = await self._collection.update_one(
            {"endpointId": endpoint.endpoint_id, "secrets": _written(endpoint.secrets)},
            {"$set": {"secrets": _written(secrets)}},
        )
        return done.matched_count > 0

    async def failed(self, endpoint_id: str, at: datetime) -> None:
        """Note the first failure after a success."""
        await self._collection.update_one(
            {"endpointId": endpoint_id, "failingSince": None}, {"$set": {"failingSince": at}}
        )

    async def recovered(self, endpoint_id: str) -> None:
        """Note that it works again."""
        await self._collection.update_one({"endpointId": endpoint_id}, {"$unset": {"failingSince": 1, "warnedAt": 1}})

    async def warned(self, endpoint_id: str, at: datetime) -> bool:
        """Note that its merchant was warned; False where that was done already."""
        done = await self._collection.update_one(
            {"endpointId": endpoint_id, "warnedAt": None}, {"$set": {"warnedAt": at}}
        )
        return done.modified_count > 0

    async def _of_merchants(self, merchant_ids: list[str]) -> list[list[Endpoint]]:
        found: dict[str, list[Endpoint]] = {merchant_id: [] for merchant_id in merchant_ids}
        query = {"merchantId": {"$in": list(found)}}
        async for document in self._collection.find(query).sort("createdAt", ASCENDING):
            found[document["merchantId"]].append(_endpoint(document))
        return [found[merchant_id] for merchant_id in merchant_ids]


def _written(secrets: Sequence[Secret]) -> list[Document]:
    return [{"secret": secret.sealed, "expiresAt": secret.expires_at} for secret in secrets]


def _endpoint(found: dict[str, Any]) -> Endpoint:
    secrets = [each if isinstance(each, dict) else {"secret": each} for each in found.get("secrets") or ()]
    return Endpoint(
        endpoint_id=found["endpointId"],
        merchant_id=found["merchantId"],
        url=found["url"],
        secrets=tuple(Secret(str(each["secret"]), each.get("expiresAt")) for each in secrets),
        events=tuple(found.get("events") or ()),
        is_enabled=bool(found.get("isEnabled", True)),
        disabled_reason=found.get("disabledReason"),
        rate_per_second=found.get("ratePerSecond"),
        max_in_flight=found.get("maxInFlight"),
        failing_since=found.get("failingSince"),
        warned_at=found.get("warnedAt"),
        created_at=found.get("createdAt"),
        disabled_at=found.get("disabledAt"),
    )
