"""MongoDB through motor: the only module that imports it.

motor's maintainers deprecated it in May 2026 in favour of PyMongo's own async client. The stores use nothing of it but
what both offer, so the change is this module's alone.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from bson.errors import InvalidDocument
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import WriteConcern
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)

from .. import tracing
from ..errors import Permanent, Transient
from ..settings import MongoSettings
from .mongo_spans import MongoSpans

Document = dict[str, Any]

Collection: TypeAlias = "AsyncIOMotorCollection[Document]"
Database: TypeAlias = "AsyncIOMotorDatabase[Document]"

ANSWER_S = 5.0  # for a server to be found
CALL_S = 30.0  # for one operation, waiting included
_UNAUTHORIZED = (13, 18)  # MongoDB's error codes Unauthorized and AuthenticationFailed

#: What a lost or refused connection looks like here; the job boundary treats it as Transient.
OUTAGES = (AutoReconnect,)
#: What a server that is there and says no looks like; `code` is MongoDB's number for why.
REFUSALS = (OperationFailure,)
DUPLICATE = 11000  # the fault of a key that is taken
#: Everything the driver raises on purpose.
FAILURES = (PyMongoError,)
#: What the driver raises while it encodes a document that BSON cannot hold.
UNENCODABLE = (InvalidDocument, DocumentTooLarge, OverflowError, UnicodeEncodeError, TypeError, ValueError)


@asynccontextmanager
async def open_database(settings: MongoSettings) -> AsyncIterator[Database]:
    """The database of the settings, seen to answer. Closed on leaving.

    Raises Transient when nobody answers within `ANSWER_S`, Permanent when the server refuses us; both say what to do.
    """
    try:
        client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
            settings.uri.get_secret_value(),
            serverSelectionTimeoutMS=int(ANSWER_S * 1000),
            connectTimeoutMS=int(ANSWER_S * 1000),
            socketTimeoutMS=int(CALL_S * 1000),
            waitQueueTimeoutMS=int(CALL_S * 1000),
            appname="folkform-worker",
            tz_aware=True,
            event_listeners=[MongoSpans()] if tracing.is_on() else [],
        )
    except (ConfigurationError, ValueError) as e:
        raise Permanent(f"MONGODB_URI cannot be used: {type(e).__name__}; write mongodb://host:27017") from e
    try:
        await ping(client[settings.database], settings.shown)
        yield client[settings.database]
    finally:
        client.close()


def journaled(collection: Collection) -> Collection:
    """The same collection, whose writes are on the disk on return, with all that was written before them."""
    concern: dict[str, Any] = {**collection.write_concern.document, "j": True}
    return collection.with_options(write_concern=WriteConcern(**concern))


def quick(collection: Collection) -> Collection:
    """The same collection, whose writes are in the server's memory on return.

    For what a later `journaled` write confirms, while somebody else still has it.
    """
    return collection.with_options(write_concern=WriteConcern(w=1))


async def insert(collection: Collection, documents: Sequence[Document]) -> dict[int, Document]:
    """Insert what can be; returns why the others could not be: place -> fault, with MongoDB's number as `code`.

    One document is not sent as a bulk, which costs the driver as much time as the server takes.
    """
    try:
        if len(documents) == 1:
            await collection.insert_one(documents[0])
        else:
            await collection.insert_many(documents, ordered=False)
    except DuplicateKeyError as e:
        return {0: {"code": e.code}}
    except BulkWriteError as e:
        if e.details["writeConcernErrors"]:
            raise Transient("MongoDB could not confirm that what was written is safe") from None
        return {fault["index"]: fault for fault in e.details["writeErrors"]}
    return {}


async def insert_new(collection: Collection, documents: Sequence[Document]) -> list[int]:
    """Insert what is not there yet; returns the places of taken keys. Raises Transient on another fault."""
    faults = await insert(collection, documents) if documents else {}
    others = sorted({fault["code"] for fault in faults.values()} - {DUPLICATE})
    if others:
        raise Transient(f"MongoDB refused what was to be stored in {collection.name} (error {others[0]})")
    return list(faults)


async def ping(database: Database, shown: str) -> None:
    """One round trip. Raises Transient or Permanent with a line that says what to do."""
    try:
        await database.command("ping")
    except OperationFailure as e:
        if e.code in _UNAUTHORIZED:
            raise Permanent(f"MongoDB at {shown} refuses user or password: check MONGODB_URI") from e
        raise
    except PyMongoError as e:
        raise Transient(f"MongoDB does not answer at {shown}: start it, or set MONGODB_URI") from e
