"""Serving a simulator on a loopback port, within the caller's event loop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from tests.simulators.pancake.app import Simulator
from tests.simulators.pancake.clock import RealClock
from tests.simulators.pancake.switches import Switches
from tests.simulators.pancake.webhooks import WebhookSender
from tests.simulators.pancake.world import World

#: How often a live world moves on while nobody reads it: webhooks go out, nothing piles up.
TICK_S = 0.1


@dataclass(slots=True)
class Running:
    """A simulator that is being served. `base_url` is what PANCAKE_BASE_URL wants."""

    base_url: str
    control_url: str
    simulator: Simulator
    webhooks: WebhookSender

    @property
    def world(self) -> World:
        """Return the world served."""
        return self.simulator.world

    @property
    def switches(self) -> Switches:
        """Return the switches obeyed; set their fields at any time."""
        return self.simulator.switches


class _Server(uvicorn.Server):
    """uvicorn without its hands on the process's signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def running(
    world: World, *, switches: dict[str, Any] | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Running]:
    """Serve a world until the block ends; port 0 takes a free one. Calls still waiting then are cut off.

    `switches` are set by name before the first call, as `Switches.update` does.
    """
    world.switches.update(switches or {})
    simulator = Simulator(world)
    with socket.create_server((host, port), backlog=2048) as listener:
        server = _Server(_config(simulator))
        webhooks = WebhookSender(world)
        simulator.control.webhooks, simulator.control.resume_webhooks = webhooks.report, webhooks.resume
        root = f"http://{host}:{listener.getsockname()[1]}"
        tasks = [asyncio.create_task(webhooks.run())]
        if isinstance(world.clock, RealClock):
            tasks.append(asyncio.create_task(_live(world)))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                if serving.done():
                    await serving
                await asyncio.sleep(0.001)
            yield Running(f"{root}/api", f"{root}/_sim", simulator, webhooks)
        finally:
            server.should_exit = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await serving
            await asyncio.gather(*server.server_state.tasks, return_exceptions=True)


def _config(simulator: Simulator) -> uvicorn.Config:
    return uvicorn.Config(
        simulator,
        http="httptools",
        loop="none",
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="critical",
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=0,
    )


async def _live(world: World) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        world.catch_up()
