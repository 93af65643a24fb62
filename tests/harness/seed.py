"""One seed, from its beginning to its verdict."""

import asyncio
import contextlib
import random
import tempfile
import time
import uuid
from typing import IO, Protocol

from pydantic import SecretStr
from pymongo import MongoClient

from src.clients.mongo import open_database
from src.settings import MongoSettings
from tests.harness.another import another
from tests.harness.plan import Algorithm, LiveWorld, Plan, plan_of, world_of
from tests.harness.subjects import StreamName
from tests.harness.trouble import Trouble, sweep_modes
from tests.harness.verdict import Document, Judge, Verdict, judge_of
from tests.harness.workers import Order, Worker, crew
from tests.simulators.pancake import running

DEADLINE_S = 90.0
LIFE_S = 5.0  # a life without a call that would end it is ended all the same
LEFT_ALONE_S = 100_000.0
STEP_S = 2_000.0  # beyond settle, overlap, lag and skew, whichever way they add up
SWEEPS = 4  # one that may be under way, two that count, and one to spare for a backfill that finds none due yet
LOG_SHOWN = 2_000


class Servers(Protocol):
    """Where Redis and MongoDB are."""

    @property
    def redis_url(self) -> str:
        """Redis, for the lock around mints."""
        ...

    @property
    def mongodb_uri(self) -> str:
        """MongoDB; each seed makes a database of its own and drops it."""
        ...


def run_seed(
    seed: int,
    algorithm: Algorithm,
    servers: Servers,
    *,
    stream: StreamName = "customers",
    deadline_s: float = DEADLINE_S,
) -> Verdict:
    """Run one seed. The world is the same each time; when exactly the workers are killed is not.

    Raises TimeoutError at the deadline. No process is left behind.
    """
    plan, name, started = plan_of(seed, stream), f"seed_{uuid.uuid4().hex[:12]}", time.monotonic()
    with MongoClient[Document](servers.mongodb_uri, tz_aware=True) as client, tempfile.TemporaryFile() as log:
        world = world_of(plan)
        judge = judge_of(plan.subject, world, client[name])
        try:
            run = asyncio.run(_run(plan, algorithm, servers, name, world, judge, log, deadline_s))
            verdict = judge.verdict(seed, algorithm)
        finally:
            client.drop_database(name)
        log.seek(0)
        said = log.read()[-LOG_SHOWN:].decode(errors="replace")
    verdict.kills, verdict.calls, verdict.passes = run.trouble.kills, run.trouble.calls, run.passes
    verdict.bugs += [*run.bugs, *([said] if said else [])]
    verdict.seconds = time.monotonic() - started
    return verdict


async def _run(
    plan: Plan,
    algorithm: Algorithm,
    servers: Servers,
    name: str,
    world: LiveWorld,
    judge: Judge,
    log: IO[bytes],
    deadline_s: float,
) -> "Run":
    mongo = MongoSettings(uri=SecretStr(servers.mongodb_uri), database=name)
    async with (
        asyncio.timeout(deadline_s),
        running(world, switches=plan.switches) as simulator,
        open_database(mongo) as database,
        crew(plan.workers, log) as workers,
        contextlib.AsyncExitStack() as stack,
    ):
        writer = await another(plan.stream, database, servers.redis_url, stack, list(world.pages))
        environment = {
            **plan.environment,
            "REDIS_URL": servers.redis_url,
            "MONGODB_URI": servers.mongodb_uri,
            "MONGODB_DATABASE": name,
            "PANCAKE_BASE_URL": simulator.base_url,
            "PANCAKE_ACCESS_TOKEN": world.user_token,
        }
        run = Run(plan, algorithm, environment, world, workers, Trouble(plan, world, workers, writer), judge)
        await run.live()
        await run.finish()
        return run


class Run:
    """The two halves of a seed: a life full of trouble, and the quiet in which everything has to come right."""

    def __init__(
        self,
        plan: Plan,
        algorithm: Algorithm,
        environment: dict[str, str],
        world: LiveWorld,
        workers: list[Worker],
        trouble: Trouble,
        judge: Judge,
    ) -> None:
        self._plan, self._algorithm, self._environment = plan, algorithm, environment
        self._world, self._workers, self._judge = world, workers, judge
        self._rng = random.Random(f"run/{plan.seed}")
        self.trouble = trouble
        self.bugs: list[str] = []

    @property
    def passes(self) -> int:
        """How many passes came to their end."""
        return sum(worker.passes for worker in self._workers)

    async def live(self) -> None:
        """Work, be killed, be started again. After each death the books are looked at."""
        for worker in self._workers:
            await worker.begin(self._order())
        self.trouble.start()
        while self.trouble.kills < self._plan.kills:
            lives = [worker.ended for worker in self._workers if worker.ended]
            ended, _ = await asyncio.wait(lives, return_when=asyncio.FIRST_COMPLETED, timeout=LIFE_S)
            if not ended:
                self.trouble.kill()
            await self._replace_the_dead()
        await self.trouble.stop()
        for worker in self._workers:
            worker.end(self._rng.choice((worker.KILL, worker.TERM)))
            self._note_end(await worker.over())
        self._look()

    async def finish(self) -> None:
        """Freeze the world, let the work come to its end, and compare."""
        self._world.freeze()
        await self._quiet("incremental", "backfill")
        if self._plan.stream == "conversations":  # those whose messages could not be read are left alone for a while
            self._world.step(LEFT_ALONE_S)
            await self._quiet("incremental", "backfill")
        self._look()
        self._judge.compare()
        if self._algorithm == "ours":
            self._judge.compare_malformed()
            if self._plan.sweeps != "none":
                await self._sweep()
        self.bugs += ["a worker asked to end did not"] * sum(worker.overstayed for worker in self._workers)
        if lost := sum(worker.audit_lost for worker in self._workers):
            self.bugs.append(f"audits found {lost} rows that were not stored (and stored them)")

    async def _sweep(self) -> None:
        """Changes that no stamp tells of, and deletions: full sweeps have to find both."""
        for page_id in self._world.pages:
            self._plan.subject.befall(self._world, page_id, "silent", 5)
            self._plan.subject.befall(self._world, page_id, "delete", 5)
        for _ in range(SWEEPS):
            await self._quiet(*sweep_modes(self._plan.sweeps))
            await self._quiet("incremental")
        self._judge.compare()
        self._judge.compare_deleted()

    async def _quiet(self, *modes: str) -> None:
        self._world.step(STEP_S)
        code = await self._workers[0].finish(self._order(*modes))
        if code:
            self.bugs.append(f"passes of {', '.join(modes)} never came to their end (code {code})")

    async def _replace_the_dead(self) -> None:
        for worker in self._workers:
            if worker.is_alive:
                continue
            self._note_end(await worker.over())
            self._look()
            self._world.step(self._rng.uniform(20, 300))
            await worker.begin(self._order())

    def _note_end(self, code: int) -> None:
        if code not in (0, -Worker.KILL, -Worker.TERM):
            self.bugs.append(f"a worker ended by itself (code {code})")

    def _look(self) -> None:
        if self._algorithm == "ours":
            self._judge.look()

    def _order(self, *finish: str) -> Order:
        return Order(
            algorithm=self._algorithm,
            environment=self._environment,
            stream=self._plan.stream,
            page_ids=list(self._world.pages),
            finish=list(finish),
            by_hand=self._plan.sweeps == "by hand" and self._algorithm == "ours",
            save_every_s=self._rng.choice((0.0, 0.02, 1.0)),
        )
