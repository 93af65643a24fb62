"""What runs in a worker's process: `python -m tests.harness.child <pid of the parent>`, orders as JSON lines on stdin.

Three things differ from a worker in a shop, none of which is under test here. Waits between tries are short. CLOCKS_S
is 0: it allows for machines whose clocks differ, and here there is one clock. The lock around a mint ends soon after
its owner was killed.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import random
import signal
import sys
from unittest.mock import patch

from src import deps as deps_module
from src.clients.pancake import client
from src.deps import Deps, open_deps
from src.engine.inline import run_to_end
from src.errors import ServiceError
from src.jobs import ALL_JOBS
from src.log import configure_logging
from src.runtime import prepare_process
from src.settings import load_settings
from src.sync import passes
from tests.harness import naive
from tests.harness.workers import Order

RETRY_S = 0.01
MINT_LOCK_S = 3.0
FINISH_TRIES = 30
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Fork a life for each order, one at a time, and say when it begins and how it ended."""
    die_with(int(sys.argv[1]))
    for line in sys.stdin.buffer:
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                die_with(me)
                code = live(Order(**json.loads(line)))
            finally:
                os._exit(code)
        say(f"pid {pid}")
        _, status = os.waitpid(pid, 0)
        say(f"end {os.waitstatus_to_exitcode(status)}")


def die_with(parent: int) -> None:
    """End with the parent, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        raise SystemExit("the parent is gone")


def say(line: str) -> None:
    """Tell the parent; in one write, so that no line of a killed process is half."""
    os.write(1, line.encode() + b"\n")


def live(order: Order) -> int:
    """One life; returns its exit code."""
    os.environ.update(order.environment)
    configure_logging("CRITICAL", "text", stream=sys.stderr)
    prepare_process()
    with (
        patch.object(client, "wait_s", lambda *_, **__: random.random() * RETRY_S),
        patch.object(passes, "CLOCKS_S", 0),
        patch.object(passes, "SAVE_EVERY_S", order.save_every_s),
        patch.object(deps_module, "MINT_LOCK_S", MINT_LOCK_S),
    ):
        return asyncio.run(_live(order))


async def _live(order: Order) -> int:
    async with open_deps(load_settings(None)) as deps:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, deps.stopping.set)
        await _job(deps, "sync_pages")  # also tells us Pancake's time
        if order.finish:
            done = await asyncio.gather(*(_finish(deps, order, page_id) for page_id in order.page_ids))
            return 0 if all(done) else 1
        while not deps.stopping.is_set():
            work = [(page_id, mode) for page_id in order.page_ids for mode in _modes(order)]
            await asyncio.gather(*(_pass(deps, order, page_id, mode) for page_id, mode in work))
    return 0


def _modes(order: Order) -> list[str]:
    """What a round does on a page, all of it at once."""
    modes = ["incremental"]
    if random.random() < 0.4:
        modes.append("backfill")
    if random.random() < 0.1:
        modes.append("incremental")
    if order.by_hand and random.random() < 0.2:
        modes.append("sweep")
    return modes


async def _finish(deps: Deps, order: Order, page_id: str) -> bool:
    for mode in order.finish:
        for _ in range(FINISH_TRIES):
            if await _pass(deps, order, page_id, mode):
                break
        else:
            return False
    return True


async def _pass(deps: Deps, order: Order, page_id: str, mode: str) -> bool:
    if order.algorithm == "ours":
        is_ok = await _job(deps, f"sync_page_{order.stream}", page_id=page_id, mode=mode)
    else:
        is_ok = False
        with contextlib.suppress(ServiceError):
            await naive.PASSES[mode](deps, page_id)
            is_ok = True
    if is_ok:
        say("pass 1")
    return is_ok


async def _job(deps: Deps, name: str, **arguments: str) -> bool:
    ran = await run_to_end(ALL_JOBS, deps, name, dict(arguments), sleep=lambda _: asyncio.sleep(RETRY_S))
    if lost := getattr(ran.end.outcome, "details", {}).get("lost"):
        say(f"audit {lost}")
    return ran.is_ok


if __name__ == "__main__":
    main()
