"""Reads the messages of conversations that changed: the last changed first, a few side by side.

A conversation's mark (`messagesStamp`) is set after its messages are stored, so a crash between leaves it to be read.
Of a long one, how far its reading came is kept now and then: it goes on there, after what is new was read.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from ..clients.pancake.client import MESSAGES_PER_CALL, Listing, PancakeClient
from ..errors import PageUnavailable, Permanent, RateLimited, ServiceError, TokenRejected, Transient
from ..store.conversations import Conversations, Rest, Unread
from ..store.dead_letters import DeadLetters
from ..store.messages import Messages
from .standing import Learned, keep, settle
from .stream import RAW_KEPT, UNNAMED, row_id

NAME = "messages"
AT_ONCE = 4
BATCH = 50
MOST_CALLS = 2_000  # for one conversation
KEEP_EVERY = 20  # calls
AGAIN = 3  # rows of the answer before that are asked for once more: one that was deleted meanwhile moves the others up
AGAIN_LATER = 15  # the same where another reading goes on; less than an answer, or it would get nowhere
LATE_S = 60  # after which messages that the list knew of already are looked for once more
LATE_US = 60_000_000  # a message may show so much later than its stamp
OLD_SIZES = (20, 25)  # answers of older versions of the API: not a sign of the end
FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 86_400.0
IN_A_ROW = 3  # conversations that cannot be read: is it the page?

#: Told what was read so far.
OnDrained = Callable[["Drained"], None]


@dataclass(slots=True)
class Drained:
    """What was read. `is_complete`: no conversation is left that could be read now."""

    conversations: int = 0
    calls: int = 0
    rows: int = 0
    set_aside: int = 0
    failed: int = 0
    is_complete: bool = True


async def drain_messages(
    client: PancakeClient,
    conversations: Conversations,
    messages: Messages,
    dead_letters: DeadLetters,
    page_id: str,
    *,
    newer_than: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_progress: OnDrained | None = None,
) -> Drained:
    """Read what is due on the page, changed since `newer_than` where given, until done or told to stop.

    Safe to repeat, to kill and to run twice at once. A conversation that cannot be read is left for a while and stops
    no other; raises what says that the whole page cannot be read.
    """
    drain = _Drain(client, conversations, messages, dead_letters, page_id, stop, on_progress)
    most = BATCH
    while True:
        due = await conversations.unread(page_id, client.server_now(), most, newer_than=newer_than)
        waiting = [unread for unread in due if unread.conversation_id not in drain.met]
        if not waiting and len(due) < most:
            return drain.drained
        if not waiting:
            most *= 2  # all of these changed again while they were read
        elif not await drain.read(waiting):
            drain.drained.is_complete = False
            return drain.drained


@dataclass(slots=True)
class _Reading:
    """How far the reading of one conversation is. `rest`: what an earlier one left, until this one reaches it."""

    rest: Rest | None
    newest: int | None = None
    skip: int = 0

    def reach(self, newest: int) -> None:
        """Everything before `newest` that the earlier reading had is stored: go on where it ended."""
        if self.rest and newest < self.rest.newest - LATE_US:
            self.skip, self.rest = max(self.skip, self.rest.skip), None

    def left(self) -> Rest | None:
        """What to go on with should it end here."""
        if self.rest or self.newest is None:
            return self.rest
        return Rest(self.newest, max(self.skip - AGAIN_LATER, 0))


class _Drain:
    def __init__(
        self,
        client: PancakeClient,
        conversations: Conversations,
        messages: Messages,
        dead_letters: DeadLetters,
        page_id: str,
        stop: Callable[[], bool],
        on_progress: OnDrained | None,
    ) -> None:
        self._client, self._conversations, self._messages = client, conversations, messages
        self._dead_letters, self._page_id = dead_letters, page_id
        self._stop, self._on_progress = stop, on_progress
        self._failed_in_a_row = 0
        self.drained = Drained()
        #: changed again while they were read: theirs is the next drain
        self.met: set[str] = set()

    async def read(self, waiting: list[Unread]) -> bool:
        """Read these; returns False when told to stop. Raises the first error that concerns the page."""
        left = iter(waiting)

        async def reader() -> bool:
            for unread in left:
                if self._stop() or not await self._one(unread):
                    return False
            return True

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(reader()) for _ in range(AT_ONCE)]
        except BaseExceptionGroup as e:
            raise e.exceptions[0] from None
        return all(task.result() for task in tasks)

    async def _one(self, unread: Unread) -> bool:
        """Read one; returns False when told to stop on the way."""
        self.met.add(unread.conversation_id)
        reading = _Reading(unread.rest)
        try:
            is_read = await self._all(unread, reading)
        except (TokenRejected, PageUnavailable, RateLimited):
            raise
        except (Transient, Permanent) as e:
            await self._leave(unread, e)
            await self._check_page()
            return True
        self._failed_in_a_row = 0
        await settle(self._conversations, self._messages, unread.conversation_id)
        if not is_read:
            await self._keep(unread, reading)
            return False
        await self._conversations.have_read(unread, reading.newest, self._client.server_now() + LATE_S)
        self.drained.conversations += 1
        return True

    async def _all(self, unread: Unread, reading: _Reading) -> bool:
        """Store every message that is not certainly stored; returns False when told to stop on the way."""
        seen: set[str] = set()
        for call in range(1, MOST_CALLS + 1):
            answer = await self._client.messages(self._page_id, unread.conversation_id, skip_newest=reading.skip)
            learned = await self._store(unread, answer)
            reading.newest = max(
                (stamp for stamp in (reading.newest, *learned.stamps) if stamp is not None), default=None
            )
            if unread.through is not None and learned.stamps and max(learned.stamps) < unread.through - LATE_US:
                break  # all before the last complete read
            if len(answer.rows) < MESSAGES_PER_CALL and len(answer.rows) not in OLD_SIZES:
                break
            if not set(learned.ids) - seen and len(learned.bad) < len(answer.rows):
                break  # nothing new, however far we skip
            seen.update(learned.ids)
            reading.skip += max(len(answer.rows) - AGAIN, 1)
            if learned.stamps:
                reading.reach(max(learned.stamps))
            if self._stop():
                return False
            if call % KEEP_EVERY == 0:
                await self._keep(unread, reading)
        return True

    async def _store(self, unread: Unread, answer: Listing) -> Learned:
        learned = await keep(self._messages, self._page_id, unread.conversation_id, answer.rows, answer.asked_at)
        for raw, error in learned.bad:
            await self._set_aside(unread.conversation_id, raw, error)
        self.drained.calls += 1
        self.drained.rows += len(answer.rows)
        if self._on_progress:
            self._on_progress(self.drained)
        return learned

    async def _keep(self, unread: Unread, reading: _Reading) -> None:
        if rest := reading.left():
            await self._conversations.have_begun(unread, rest)

    async def _check_page(self) -> None:
        """Raises where it is the page that cannot be read: conversations that were deleted fail one after the other."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= IN_A_ROW:
            await self._client.tags(self._page_id)
            self._failed_in_a_row = 0

    async def _set_aside(self, conversation_id: str, raw: object, error: str) -> None:
        self.drained.set_aside += 1
        name = row_id(raw)
        await self._dead_letters.add_row(
            stream=NAME,
            page_id=self._page_id,
            row_id=f"{name} of {conversation_id}" if name.startswith(UNNAMED) else name,
            error=error,
            raw=json.dumps(raw)[:RAW_KEPT],
        )

    async def _leave(self, unread: Unread, error: ServiceError) -> None:
        """Try it again later, the later the more often it failed; a Permanent fault is set aside by name."""
        self.drained.failed += 1
        times = await self._conversations.could_not_read(unread)
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(times - 1, 20), LONGEST_WAIT_S)
        await self._conversations.put_off(unread, self._client.server_now() + wait_s)
        if isinstance(error, Permanent):
            await self._dead_letters.add_row(
                stream=NAME,
                page_id=self._page_id,
                row_id=f"all of {unread.conversation_id}",
                error=str(error),
                raw="",
            )
