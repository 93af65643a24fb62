"""A Redis master, its replica, and the Sentinel that watches both, each a process of our own on the loopback."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from scripts import _process
from scripts._binaries import find
from scripts._services import Service, start_redis
from src.settings import RedisSettings
from tests.acceptance.processes import until
from tests.conftest import CACHE

NAME = "shop"
CONF = """
bind {host}
port {port}
dir {folder}
sentinel monitor {name} {host} {master} 1
sentinel down-after-milliseconds {name} 1000
sentinel failover-timeout {name} 3000
"""


@dataclass(frozen=True)
class Watched:
    """`first` is the master to begin with, `second` its replica; `address` is the Sentinel's host:port."""

    first: Service
    second: Service
    address: str

    @property
    def settings(self) -> RedisSettings:
        return RedisSettings(sentinels=(self.address,), sentinel_master=NAME)

    @property
    def env(self) -> dict[str, str]:
        """The variables that point us at the Sentinel, and at no Redis by its own address."""
        return {"REDIS_URL": "", "REDIS_SENTINELS": self.address, "REDIS_SENTINEL_MASTER": NAME}

    @property
    def has_switched(self) -> bool:
        """Whether the Sentinel names the second one as the master, and that one is."""
        with _client(self.address) as sentinel:
            named = sentinel.sentinel_get_master_addr_by_name(NAME)
        with Redis.from_url(self.second.url) as redis:
            return bool(named == ("127.0.0.1", _port(self.second)) and _info(redis)["role"] == "master")

    def hit(self, number: signal.Signals) -> None:
        """SIGKILL: the first one dies. SIGSTOP: it is silent, and its connections stay open, as on a lost network."""
        assert self.first.pid is not None
        os.kill(self.first.pid, number)

    def fail_over(self) -> None:
        """Have the Sentinel make the second one the master, with the first alive."""
        with _client(self.address) as sentinel:
            sentinel.execute_command("SENTINEL FAILOVER", NAME)

    def demote(self) -> None:
        """Make the first one a replica of the second at once, connections to it left open.

        The Sentinel does so only after ten seconds, and closes them.
        """
        with Redis.from_url(self.first.url) as redis:
            redis.replicaof("127.0.0.1", str(_port(self.second)))


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """All three, until the Sentinel knows both others; killed and gone at the end."""
    with ExitStack() as stack:
        first = stack.enter_context(start_redis(folder / "first", CACHE, environ={}))
        second = stack.enter_context(start_redis(folder / "second", CACHE, environ={}))
        for server in (second, first):
            assert server.pid is not None
            stack.callback(_let_die, server.pid)
        with Redis.from_url(first.url) as master, Redis.from_url(second.url) as replica:
            master.config_set("repl-diskless-sync", "yes")
            master.config_set("repl-diskless-sync-delay", "0")
            master.config_set("min-replicas-to-write", "1")  # alone it would take writes that nobody hears of
            replica.replicaof("127.0.0.1", str(_port(first)))
            until(lambda: _info(replica)["master_link_status"] == "up", "the replica has what the master has", 10)
            until(lambda: _info(master)["min_slaves_good_slaves"] == 1, "the master counts on it", 10)
        address = f"127.0.0.1:{_start_sentinel(stack, folder / 'sentinel', _port(first))}"
        with _client(address) as sentinel:
            until(lambda: _knows_both(sentinel), "the Sentinel knows master and replica", 10)
        yield Watched(first, second, address)


def _start_sentinel(stack: ExitStack, folder: Path, master: int) -> int:
    folder.mkdir()
    port, conf = _process.free_port(), folder / "sentinel.conf"
    conf.write_text(CONF.format(host="127.0.0.1", port=port, folder=folder, name=NAME, master=master))
    command: list[str | Path] = [find("redis-server", CACHE).path, conf, "--sentinel"]
    process = _process.spawn(command, log=folder / "server.log")
    stack.callback(_process.stop, process, wait_s=10, first=signal.SIGKILL)
    return port


def _let_die(pid: int) -> None:
    """A stopped process would wait with its end until it is continued."""
    os.kill(pid, signal.SIGKILL)


def _knows_both(sentinel: "Redis") -> bool:
    try:
        replicas: Any = sentinel.sentinel_slaves(NAME)
    except RedisError:
        return False
    return [each["master-link-status"] for each in replicas] == ["ok"]


def _client(address: str) -> "Redis":
    host, _, port = address.rpartition(":")
    return Redis(host=host, port=int(port), decode_responses=True)


def _info(redis: "Redis") -> dict[str, Any]:
    info: Any = redis.info("replication")
    return dict(info)


def _port(service: Service) -> int:
    return int(service.url.rpartition(":")[2].partition("/")[0])
