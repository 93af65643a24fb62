"""The vendor's webhook sender: `messaging` events as JSON, at most once by itself, suspended when they fail.

Rules of the documentation: an answer other than 2xx, a timeout or a broken connection is a failure; more than 80 %
failures and at least 300 of them within 30 minutes suspend the hook until somebody switches it on by hand.
"""

import asyncio
import random
from collections import deque
from typing import Any, Final

import httpx
import orjson

from tests.simulators.pancake import threads
from tests.simulators.pancake.clock import SECOND_US
from tests.simulators.pancake.page import Page
from tests.simulators.pancake.switches import Switches
from tests.simulators.pancake.world import World

WINDOW_US: Final = 30 * 60 * SECOND_US
MAX_FAILED_SHARE: Final = 0.8
MIN_FAILED: Final = 300
SENDERS: Final = 8
QUEUE_MAX: Final = 100_000


class WebhookSender:
    """Posts an event for each new message of a world. `run` sends until it is cancelled."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.suspended = False
        self.sent = self.failed = self.dropped = 0
        self._rng = random.Random(f"webhooks/{world.seed}")
        self._queue: deque[tuple[str, bytes]] = deque(maxlen=QUEUE_MAX)
        self._wake = asyncio.Event()
        #: (at_us, delivered) of the last 30 minutes.
        self._recent: deque[tuple[int, bool]] = deque()
        self._recent_failed = 0
        for life in world.lives.values():
            life.listeners.append(self.notice)

    def notice(self, page: Page, thread: threads.Conversation, message: threads.Message) -> None:
        """Queue the event of one message, as often as the switches say."""
        switches = self.world.switches
        if not switches.webhook_url or self.suspended:
            return
        if message.sender != "customer" and not switches.webhook_echo:
            return
        if self._rng.random() * 100 < switches.webhook_drop_pct:
            self.dropped += 1
            return
        body = orjson.dumps(event_json(page, thread, message, switches))
        copies = 2 if self._rng.random() * 100 < switches.webhook_duplicate_pct else 1
        self._queue.extend([(switches.webhook_url, body)] * copies)
        self._wake.set()

    async def run(self) -> None:
        """Send what is queued, a few at a time, until cancelled."""
        async with httpx.AsyncClient() as client, asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._send_all(client))

    def report(self) -> dict[str, Any]:
        """Say how the hook is doing."""
        return {
            "sent": self.sent,
            "failed": self.failed,
            "dropped": self.dropped,
            "queued": len(self._queue),
            "suspended": self.suspended,
        }

    def resume(self) -> None:
        """Switch a suspended hook on again; only new events are sent."""
        self.suspended, self._recent_failed = False, 0
        self._recent.clear()
        self._queue.clear()

    async def _send_all(self, client: httpx.AsyncClient) -> None:
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            url, body = self._queue.popleft()
            delivered = await self._post(client, url, body)
            self.sent += delivered
            self.failed += not delivered
            self._judge(delivered)

    async def _post(self, client: httpx.AsyncClient, url: str, body: bytes) -> bool:
        try:
            reply = await client.post(
                url,
                content=body,
                headers={"content-type": "application/json"},
                timeout=self.world.switches.webhook_timeout_s,
            )
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return reply.is_success

    def _judge(self, delivered: bool) -> None:
        now_us, recent = self.world.now_us(), self._recent
        recent.append((now_us, delivered))
        self._recent_failed += not delivered
        while recent[0][0] < now_us - WINDOW_US:
            self._recent_failed -= not recent.popleft()[1]
        if self._recent_failed >= MIN_FAILED and self._recent_failed > MAX_FAILED_SHARE * len(recent):
            self.suspended = True
            self._queue.clear()


def event_json(
    page: Page, thread: threads.Conversation, message: threads.Message, switches: Switches
) -> dict[str, Any]:
    """Return the event of one message."""
    sent = threads.message_json(message, thread, page.facts, switches)
    if message.sender == "customer":
        sent["from"] = sent["from"] | {"page_customer_id": thread.customer_rid}
    shown_id = page.facts.shown_id(switches)
    post = {
        "id": f"{shown_id}_1",
        "type": "photo",
        "message": "",
        "from": {"id": shown_id, "name": page.facts.name},
    }
    conversation = {
        "id": thread.rid,
        "type": thread.kind,
        "assignee_ids": [],
        "from": {"id": thread.psid, "name": thread.name},
        "is_combined": False,
        "is_removed": False,
        "is_replied": message.sender != "customer",
        "read_watermarks": None,
        "seen": thread.seen,
        "snippet": thread.snippet,
        "tags": list(thread.tags),
    }
    with_post = thread.kind == "COMMENT" or switches.webhook_post_in_inbox
    data = {"conversation": conversation, "message": sent, "post": post if with_post else None}
    return {"page_id": shown_id, "event_type": "messaging", "data": data}
