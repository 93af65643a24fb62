"""`python -m tests.simulators.pancake`: serve invented shops until SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
from pathlib import Path

import orjson
import uvloop

from tests.simulators.pancake import state
from tests.simulators.pancake.clock import RealClock, VirtualClock
from tests.simulators.pancake.life import Rates
from tests.simulators.pancake.server import running
from tests.simulators.pancake.switches import Switches
from tests.simulators.pancake.world import World


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulators.pancake", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=1, help="ids, tokens and all random choices follow from it")
    parser.add_argument("--pages", type=int, default=3)
    parser.add_argument("--customers", type=int, default=1500, help="of each page at the start")
    parser.add_argument("--days", type=float, default=90.0, help="how far back the customers go")
    parser.add_argument("--tie", type=int, default=0, metavar="ROWS", help="customers sharing one past second")
    parser.add_argument("--live", type=float, default=2.0, metavar="RATE", help="changes per second and page; 0 = rest")
    parser.add_argument("--virtual", action="store_true", help="a clock that moves with each call, not by itself")
    parser.add_argument("--huge", type=int, default=0, metavar="N", help="pages of N computed customers at rest")
    parser.add_argument("--switches", default="{}", metavar="JSON", help="first values of the switches")
    parser.add_argument("--rates", default="", metavar="JSON", help="exact rates per second and page, over --live")
    parser.add_argument("--state", type=Path, metavar="FILE", help="take the world up from here, save it on exit")
    return parser


def make_world(options: argparse.Namespace) -> World:
    """Build the world the command line asks for, or take it up from its file."""
    switches = Switches()
    switches.update(orjson.loads(options.switches))
    rates = Rates.live(options.live)
    if options.rates:
        rates = Rates(**orjson.loads(options.rates))
    kept = options.state is not None and options.state.exists()
    world = World(
        options.seed,
        pages=options.pages,
        customers=0 if kept else options.customers,
        days=options.days,
        clock=VirtualClock() if options.virtual else RealClock(),
        switches=switches,
        rates=rates,
        tie_rows=options.tie,
        huge=options.huge,
    )
    if kept:
        state.load(world, options.state)
    return world


async def serve(options: argparse.Namespace) -> None:
    """Serve until told to end, then save."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    world = make_world(options)
    async with running(world, host=options.host, port=options.port) as sim:
        print(f"listening {sim.base_url} user_token={world.user_token}", flush=True)
        await ended.wait()
    if options.state is not None:
        state.save(world, options.state)


def main() -> None:
    """Run the command."""
    options = arguments().parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options))


if __name__ == "__main__":
    main()
