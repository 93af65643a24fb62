"""Makes a lone mongod a replica set of one, through pymongo."""

import socket
import time
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from scripts._process import HOST

POLL_S = 0.02


def mongod_pid(port: int) -> int | None:
    """The process id that the mongod at `port` gives as its own."""
    try:  # the driver would wait half a second after a refused connection
        socket.create_connection((HOST, port), timeout=1).close()
        with _client(port) as client:
            pid = client.admin.command("serverStatus", repl=0, metrics=0, wiredTiger=0)["pid"]
    except (OSError, PyMongoError):
        return None
    return int(pid)


def make_writable(port: int, replica_set: str | None, limit_s: float) -> None:
    """Make a new replica set of this one server, and wait until it takes writes. Safe to repeat."""
    deadline = time.monotonic() + limit_s
    with _client(port) as client:
        # Asked for its configuration while it still loads it, mongod says it has none: the collection knows better.
        if replica_set and not client["local"]["system.replset"].find_one():
            members = [{"_id": 0, "host": f"{HOST}:{port}"}]
            client.admin.command("replSetInitiate", {"_id": replica_set, "members": members})
        while not _takes_writes(client):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server at {HOST}:{port} did not become primary within {limit_s:.0f} s")
            time.sleep(POLL_S)


def move_member(port: int, future_port: int) -> None:
    """Write `future_port` into the replica set's configuration, on a mongod that runs at `port` without replication.

    A forced reconfiguration would do too, but mongod first asks the old port and waits half a minute for its holder.
    """
    with _client(port) as client:
        host = f"{HOST}:{future_port}"
        client["local"]["system.replset"].update_one({}, {"$set": {"members.0.host": host}, "$inc": {"version": 1}})


def _takes_writes(client: "MongoClient[dict[str, Any]]") -> bool:
    try:
        return bool(client.admin.command("hello")["isWritablePrimary"])
    except PyMongoError:
        return False


def _client(port: int) -> "MongoClient[dict[str, Any]]":
    return MongoClient(HOST, port, directConnection=True, serverSelectionTimeoutMS=2000, connectTimeoutMS=2000)
