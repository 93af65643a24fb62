"""What stands before the answers: rate limit, failures made on purpose, tokens."""

import asyncio
import random
import time
from collections import deque

from tests.simulators.pancake import replies
from tests.simulators.pancake.page import Page
from tests.simulators.pancake.replies import Reply
from tests.simulators.pancake.switches import Switches
from tests.simulators.pancake.world import World

WINDOW_S = 1.0


class Limiter:
    """A sliding window of one second of the machine's clock per page, whatever clock the world has."""

    def __init__(self) -> None:
        self._calls: dict[str, deque[float]] = {}

    def admit(self, page_id: str, limit: int, *, rejected_calls_count: bool) -> bool:
        """Take a call if fewer than `limit` were taken within the last second; 0 takes all."""
        if limit <= 0:
            return True
        now = time.monotonic()
        calls = self._calls.setdefault(page_id, deque())
        while calls and calls[0] <= now - WINDOW_S:
            calls.popleft()
        admitted = len(calls) < limit
        if admitted or rejected_calls_count:
            calls.append(now)
        return admitted


class Faults:
    """Failures at random, from a source of their own so that they leave the world's life as it is."""

    def __init__(self, switches: Switches, seed: int) -> None:
        self._switches = switches
        self._rng = random.Random(f"faults/{seed}")

    async def delay(self) -> None:
        """Wait as the switches say."""
        switches = self._switches
        wait_s = switches.latency_ms / 1000
        if switches.hang_seconds > 0 and self._hit(switches.hang_pct):
            wait_s += switches.hang_seconds
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def instead(self) -> Reply | None:
        """Return the failure that takes the place of this call's answer, if it is one's turn."""
        if self._hit(self._switches.random_transient_pct):
            return replies.transient(self._rng.random())
        return replies.shell() if self._hit(self._switches.html_error_pct) else None

    def maim(self, reply: Reply) -> Reply:
        """Cut the connection of this reply, if it is its turn."""
        if reply.body and self._hit(self._switches.cut_connection_pct):
            reply.cut, reply.outcome = True, "cut"
        return reply

    def _hit(self, percent: float) -> bool:
        return percent > 0 and self._rng.random() * 100 < percent


def check_user(world: World, token: str) -> Reply | None:
    """Refuse a call without the user's token; a page token here is the wrong kind and so 102 too."""
    if token == world.user_token and not world.switches.expire_user_token:
        return None
    return replies.coded(102, 401 if world.switches.auth_as_401 else 200)


def check_page(world: World, page: Page | None, token: str) -> Reply | None:
    """Refuse a page-level call whose token is not the page's present one, or whose page may not be read."""
    switches = world.switches
    status = 401 if switches.auth_as_401 else 200
    if page is None:
        return replies.coded(102, status)
    if token != page.token:
        return replies.coded(105 if token in page.superseded else 102, status)
    if switches.names_page(switches.expire_page_subscription, page.page_id):
        return replies.coded(122)
    return None


def apply_rotation(world: World) -> None:
    """Carry out `rotate_token_now` once."""
    if world.switches.rotate_token_now:
        world.switches.rotate_token_now = False
        world.rotate()
