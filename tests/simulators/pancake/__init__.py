"""A simulated Pancake (pages.fm): an HTTP server whose shops live on while a client copies them.

clock -> switches -> shelf, customers, threads, huge -> page -> life -> world: the shops, no HTTP.
replies, call, gate -> page_routes, user_routes, control -> app: the answers.
webhooks, server, process, state, __main__: serving them.
"""

from tests.simulators.pancake.app import Simulator
from tests.simulators.pancake.clock import RealClock, VirtualClock
from tests.simulators.pancake.life import Rates
from tests.simulators.pancake.process import SimulatorProcess
from tests.simulators.pancake.server import Running, running
from tests.simulators.pancake.switches import Switches
from tests.simulators.pancake.world import World

__all__ = [
    "Rates",
    "RealClock",
    "Running",
    "Simulator",
    "SimulatorProcess",
    "Switches",
    "VirtualClock",
    "World",
    "running",
]
