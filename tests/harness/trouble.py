"""What goes wrong while the workers work. Everything happens at some page-level call, before it is answered."""

import asyncio
import random
import signal
from collections.abc import Callable

from tests.harness.another import Writer
from tests.harness.plan import LiveWorld, Plan, Sweeps
from tests.harness.workers import Worker

LONGEST_LIFE_CALLS = 45
STORM_S = 0.25
WRITER_LATE_S = 0.05
#: Sorts of trouble and how often one comes, per call.
RARE, SOMETIMES = 1 / 60, 1 / 20


class Trouble:
    """Call `start` and `stop`; in between the world is a bad one. `calls` are counted all the time."""

    def __init__(self, plan: Plan, world: LiveWorld, workers: list[Worker], writer: Writer) -> None:
        self._plan, self._world, self._workers, self._writer = plan, world, workers, writer
        self._rng = random.Random(f"trouble/{plan.seed}")
        self._writes: set[asyncio.Task[None]] = set()
        self._calls_left = 0
        self._is_on = False
        self.kills = 0
        self.calls = 0
        world.on_call = self._on_call

    def start(self) -> None:
        """Let trouble come."""
        self._is_on = True
        self._draw_life()

    async def stop(self) -> None:
        """No more trouble; what the second writer still holds is written."""
        self._is_on = False
        await asyncio.gather(*self._writes)
        self._calm()

    def kill(self) -> None:
        """End one of the living, at once, in a moment, or by asking."""
        self._draw_life()
        alive = [worker for worker in self._workers if worker.is_alive]
        if not (alive and self._is_on):
            return
        victim, lot = self._rng.choice(alive), self._rng.random()
        number = signal.SIGTERM if lot < 0.15 else signal.SIGKILL
        self.kills += 1
        if lot < 0.4:
            victim.end(number)
        else:  # after the answer: while it is read, stored, or noted
            pid, late_s = victim.pid, self._rng.uniform(0, 0.03)
            asyncio.get_running_loop().call_later(late_s, lambda: victim.end(number) if victim.pid == pid else None)

    def _draw_life(self) -> None:
        self._calls_left = self._rng.randint(1, LONGEST_LIFE_CALLS)

    def _on_call(self) -> None:
        self.calls += 1
        if not self._is_on:
            return
        self._now_and_then(SOMETIMES, lambda: self._world.step(self._rng.uniform(20, 300)))
        self._now_and_then(RARE, lambda: self._world.rotate(self._a_page()))
        self._now_and_then(RARE / 4, lambda: self._befall("tie", self._rng.randint(120, 300)))
        self._now_and_then(SOMETIMES, lambda: self._befall("change", self._rng.randint(1, 30)))
        self._now_and_then(SOMETIMES, self._write_as_another)
        if self._plan.has_storms:
            self._now_and_then(RARE / 2, self._storm)
        self._calls_left -= 1
        if self._calls_left <= 0:
            self.kill()

    def _now_and_then(self, share: float, act: Callable[[], object]) -> None:
        if self._rng.random() < share:
            act()

    def _befall(self, what: str, rows: int) -> None:
        self._plan.subject.befall(self._world, self._a_page(), what, rows)

    def _a_page(self) -> str:
        return self._rng.choice(list(self._world.pages))

    def _storm(self) -> None:
        """For a moment a page answers nothing, may not be read, or is refused for volume."""
        switches, page_id = self._world.switches, self._a_page()
        kind = self._rng.choice(("failures", "subscription", "volume"))
        if kind == "failures":
            switches.page_failures = [page_id]
        elif kind == "subscription":
            switches.expire_page_subscription = [page_id]
        else:
            switches.rate_limit = self._rng.randint(5, 30)
        asyncio.get_running_loop().call_later(self._rng.uniform(0, STORM_S), self._calm)

    def _calm(self) -> None:
        switches = self._world.switches
        switches.page_failures, switches.expire_page_subscription, switches.rate_limit = [], [], 0

    def _write_as_another(self) -> None:
        """Store rows as a receiver of webhooks would: as they are now, whether lists show that yet or not."""
        write = self._writer(self._world, self._a_page(), self._rng, self._rng.uniform(0, WRITER_LATE_S))
        task = asyncio.create_task(write)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)


def sweep_modes(sweeps: Sweeps) -> list[str]:
    """The modes that begin and finish a sweep."""
    return {"none": [], "by hand": ["sweep"], "when due": ["backfill"]}[sweeps]
