"""Plots for webhooks: a Redis and a MongoDB database each, workers that are told when to die, and the final account."""

import asyncio
import json
import queue
import signal
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.database import Database
from redis import Redis

from src.deps import Deps, open_deps
from src.enqueue import JobQueue, WebhookEvent
from src.settings import MongoSettings, RedisSettings, load_settings
from src.webhooks import endpoints
from tests.acceptance.processes import UNSCHEDULED, environment, until
from tests.conftest import Servers
from tests.harness.merchants import EVENT, with_webhooks
from tests.harness.nursery import START_S, Life, Nursery
from tests.harness.webhook_worker import Order
from tests.simulators.merchant import Behaviour, Cycle, InThread, Received, running_in_thread

AT_ONCE = 12  # walks: Redis has 16 databases
LIMITS = {
    "WORKER_LEASE_SECONDS": "1",
    "WORKER_MAX_CONCURRENT_JOBS": "20",
    "WEBHOOK_ALLOW_HTTP": "true",
    "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "WEBHOOK_TIMEOUT_SECONDS": "2",
    "WEBHOOK_BACKOFF_BASE_SECONDS": "0.1",
    **UNSCHEDULED,
}
#: What a job leaves in Redis as long as it is not over: how the keys begin.
OF_JOBS = (
    *("arq:job:", "arq:in-progress:", "arq:queue", "webhooks"),
    *(f"folkform:{kind}" for kind in ("running:", "tries:", "attempts:", "group", "retry:", "promote:", "unique:")),
)
DIED = "the worker died"
FIND = {"SCHEDULE_RECONCILE_WEBHOOKS": "@every 1s"}
T = TypeVar("T")
Document = dict[str, Any]
Fate = tuple[str, ...]  # where a process is killed, and which steps come to nothing before


@dataclass
class Plot:
    """One Redis, one database, and workers on them."""

    nursery: Nursery
    merchants: InThread
    redis: Redis
    redis_url: str
    database: Database[Document]
    env: dict[str, str]
    folder: Path
    lives: list[Life] = field(default_factory=list)
    #: Merchants of the simulator by the id of the endpoint that stands for them.
    names: dict[str, str] = field(default_factory=dict)

    @property
    def merchant_id(self) -> str:
        return f"{self.database.name}-{self.folder.name}"

    def of_service(self, ask: Callable[[Deps], Awaitable[T]]) -> T:
        """What a process of ours would answer."""
        mongo = MongoSettings(uri=SecretStr(self.env["MONGODB_URI"]), database=self.database.name)
        redis = RedisSettings(url=SecretStr(self.redis_url))
        settings = with_webhooks(load_settings(None)).replace(redis=redis, mongo=mongo)

        async def answer() -> T:
            async with open_deps(settings) as deps:
                return await ask(deps)

        return asyncio.run(answer())

    def endpoint(self, *script: Behaviour | Cycle, of: str = "") -> str:
        """A new endpoint (of merchant `of`), at a simulated merchant of its own who behaves so; returns its id."""
        name = f"{self.merchant_id}-{len(self.names)}"
        self.merchants.behave(name, *script)
        url = self.merchants.url(name)
        added = self.of_service(lambda deps: endpoints.add(deps, merchant_id=self.merchant_id + of, url=url))
        self.names[added.endpoint.endpoint_id] = name
        return added.endpoint.endpoint_id

    def send(self, number: int = 1, *, of: str = "", **keys: str) -> list[str]:
        """So many events (of merchant `of`), as an app enqueues them; returns their ids."""
        events = [WebhookEvent(self.merchant_id + of, EVENT, {"number": at}, **keys) for at in range(number)]

        async def put() -> list[str]:
            async with JobQueue.connect(self.redis_url) as jobs:
                return await jobs.enqueue_webhooks(events)

        return asyncio.run(put())

    def begin(self, kill_at: str = "", held: Sequence[str] = (), command: Sequence[str] = (), **env: str) -> Life:
        """Start a worker, or a command, with its fate."""
        log = self.folder / f"log{len(self.lives)}"
        life = self.nursery.begin(Order({**self.env, **env}, str(log), list(command), kill_at, list(held)))
        self.lives.append(life)
        return life

    def ready(self, kill_at: str = "", held: Sequence[str] = (), **env: str) -> Life:
        """Start a worker and wait until it serves."""
        life = self.begin(kill_at, held, **env)
        until(lambda: life.is_ready or life.code is not None, "a worker started", START_S)
        assert life.code is None, life.said
        return life

    def killed(self, life: Life, limit_s: float = START_S) -> None:
        """Wait until its fate has come."""
        assert life.ended(limit_s=limit_s) == -signal.SIGKILL, life.said[-3000:]

    def left(self) -> list[str]:
        """What a job leaves in Redis as long as it is not over."""
        keys = [key.decode() for key in self.redis.scan_iter(count=1_000)]
        return sorted(key for key in keys if key.startswith(OF_JOBS) and "health-check" not in key)

    def deliveries(self, **query: Any) -> list[Document]:
        return list(self.database["webhook_deliveries"].find(query))

    def came(self, endpoint_id: str) -> list[Received]:
        """What the endpoint was sent, in its order."""
        return self.merchants.received(self.names[endpoint_id])

    # --- the final account

    def all_well(self, told: Mapping[str, Sequence[str]], limit_s: float = 30.0) -> None:
        """Wait until each endpoint of `told` has its events, and see that nothing else is stored, missing or left."""
        pairs = {f"{event_id}:{endpoint_id}" for endpoint_id, events in told.items() for event_id in events}
        self.all_are("delivered", pairs, limit_s)
        event_ids = {event_id for events in told.values() for event_id in events}
        assert sorted(each["eventId"] for each in self.database["webhook_events"].find()) == sorted(event_ids)
        assert {each["_id"] for each in self.deliveries()} == pairs
        assert self.deliveries(**{"$or": [{"sending": {"$exists": 1}}, {"nextTryAt": {"$exists": 1}}]}) == []
        assert list(self.database["dead_letters"].find()) == []
        for endpoint_id, events in told.items():
            self.explained(endpoint_id, events)

    def all_are(self, status: str, delivery_ids: Collection[str], limit_s: float = 30.0) -> None:
        """Wait until all of them have that status, and no job is left in Redis."""
        query = {"_id": {"$in": list(delivery_ids)}, "status": status}
        stored = self.database["webhook_deliveries"]
        try:
            until(
                lambda: stored.count_documents(query) == len(delivery_ids) and not self.left(),
                f"all is {status}",
                limit_s,
            )
        except AssertionError as e:
            others = self.deliveries(status={"$ne": status})
            said = self.lives[-1].said[-1500:] if self.lives else ""
            raise AssertionError(f"{e}; not so {others[:3]} of {len(others)}, left {self.left()[:9]}\n{said}") from e

    def explained(self, endpoint_id: str, event_ids: Sequence[str]) -> None:
        """Every request has its attempt, every attempt its request or the word that the worker died, and all requests
        of an event are the same.
        """
        requests = defaultdict[str, list[Received]](list)
        for request in self.came(endpoint_id):
            requests[request.headers["webhook-id"]].append(request)
        assert set(requests) == set(event_ids)
        for delivery in self.deliveries(endpointId=endpoint_id):
            sent = requests[delivery["eventId"]]
            assert {json.loads(each.body)["id"] for each in sent} == {delivery["eventId"]}
            assert len({each.body for each in sent}) == 1
            made = Counter(int(each.headers["x-webhook-attempt"]) for each in sent)
            rows = {row["number"]: row for row in delivery["attempts"]}
            assert [row["number"] for row in delivery["attempts"]] == list(range(1, len(rows) + 1)), delivery
            assert set(made) <= set(rows), delivery
            assert max(made.values()) == 1, (made, delivery)
            assert all(number in made or not is_answered(row) for number, row in rows.items()), (made, delivery)


def is_answered(row: Document) -> bool:
    """Whether an attempt must have reached the merchant."""
    return row["status"] is not None


def died(deliveries: Sequence[Document]) -> int:
    """How many attempts were made by workers that did not live to write them down."""
    return sum(DIED in (row["error"] or "") for each in deliveries for row in each["attempts"])


class Plots:
    """As many plots as walks may go on at a time."""

    def __init__(self, plots: Sequence[Plot]) -> None:
        self._free: queue.Queue[Plot] = queue.Queue()
        for plot in plots:
            self._free.put(plot)
        self.size = len(plots)
        self._numbers = count()

    @contextmanager
    def one(self) -> Iterator[Plot]:
        """An empty plot, whose processes are killed at the end."""
        plot = self._free.get(timeout=120)
        folder = plot.folder / f"walk{next(self._numbers)}"
        folder.mkdir()
        plot.redis.flushdb()
        for name in plot.database.list_collection_names():
            plot.database[name].delete_many({})
        fresh = replace(plot, folder=folder, lives=[], names={})
        try:
            yield fresh
        finally:
            for life in fresh.lives:
                life.ended(signal.SIGKILL)
            self._free.put(plot)


@contextmanager
def open_plots(servers: Servers, folder: Path, size: int = AT_ONCE) -> Iterator[Plots]:
    """Each with a Redis database of its own, and none with the first, which other tests use."""
    base = servers.redis_url.rpartition("/")[0]
    with ExitStack() as stack:
        nursery = stack.enter_context(Nursery())
        merchants = stack.enter_context(running_in_thread())
        client = stack.enter_context(MongoClient[Document](servers.mongodb_uri))
        made = []
        for number in range(1, size + 1):
            url, name = f"{base}/{number}", f"crashes_{uuid.uuid4().hex[:8]}"
            stack.callback(client.drop_database, name)
            redis = stack.enter_context(Redis.from_url(url))
            env = {**environment(servers, name), **LIMITS, "REDIS_URL": url}
            made.append(Plot(nursery, merchants, redis, url, client[name], env, folder))
        yield Plots(made)


def walk(plots: Plots, scene: Callable[[Plot, Fate], None], fates: Sequence[Fate]) -> None:
    """Play the scene once for each fate, many at a time, and say of all that went wrong."""

    def play(fate: Fate) -> str:
        with plots.one() as plot:
            try:
                scene(plot, fate)
            except Exception as e:  # noqa: BLE001 - of whatever kind
                return f"{' '.join(fate)}: {type(e).__name__}: {e}"
            return ""

    with ThreadPoolExecutor(plots.size) as pool:
        wrong = [each for each in pool.map(play, fates) if each]
    assert not wrong, f"{len(wrong)} of {len(fates)} steps:\n" + "\n".join(wrong)


def around(*steps: str, calls: Sequence[int] = (1,)) -> list[Fate]:
    """Before and after each, at each of these calls."""
    return [(f"{step}:{when}:{call}",) for step in steps for call in calls for when in ("before", "after")]
