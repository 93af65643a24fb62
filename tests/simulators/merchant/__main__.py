"""`python -m tests.simulators.merchant`: serve merchants until stdin closes, SIGTERM or SIGINT."""

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable

import uvloop

from tests.simulators.merchant.server import running


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulators.merchant", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--light", action="store_true", help="record ids, times and counts only")
    return parser


def call_when_closed(descriptor: int, call: Callable[[], object]) -> None:
    """Read in a thread, for a descriptor may be a file or /dev/null, which no event loop watches."""

    def read() -> None:
        while os.read(descriptor, 4096):
            pass
        call()

    threading.Thread(target=read, daemon=True).start()


async def serve(options: argparse.Namespace) -> None:
    """Say the port in a line of JSON, and serve until told to end."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with running(light=options.light, port=options.port) as merchants:
        print(json.dumps({"port": merchants.port, "pid": os.getpid(), "light": merchants.light}), flush=True)
        call_when_closed(sys.stdin.fileno(), lambda: loop.call_soon_threadsafe(ended.set))
        await ended.wait()


def main() -> None:
    """Run the command."""
    options = arguments().parse_args()
    gc.freeze()  # what is loaded stays: only what comes with the requests is worth looking through
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options))


if __name__ == "__main__":
    main()
