"""What happens to conversations, messages and posts besides being written. Each thing at a given moment."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.simulators.pancake.clock import whole_second
from tests.simulators.pancake.page import Page, Post
from tests.simulators.pancake.threads import Conversation, Message

#: Of the newest messages of a conversation one may be removed.
REMOVABLE: Final = 15


class Upkeep:
    """Acts on rows picked at random; every method returns the ids of the rows it was done to.

    `visible_at` says when a change of a moment shows. `at_us` is when a thing happens, `now_us` (not earlier) when it
    is worked out.
    """

    def __init__(self, page: Page, rng: random.Random, visible_at: Callable[[int], int]) -> None:
        self._page, self._rng, self._visible_at = page, rng, visible_at
        #: What can be done by name.
        self.acts: dict[str, Callable[[int, int, int], list[str]]] = {
            "touch_threads": self.touch_threads,
            "tie_threads": self.tie_threads,
            "silent_threads": self.silent_threads,
            "delete_threads": self.delete_threads,
            "remove_messages": self.remove_messages,
            "tie_posts": self.tie_posts,
            "silent_posts": self.silent_posts,
            "delete_posts": self.delete_posts,
        }

    def touch_threads(self, rows: int, at_us: int, now_us: int) -> list[str]:
        """Give conversations another tag or mark them as seen, each at a microsecond of its own."""
        return [self._touch(rid, at_us + place, now_us) for place, rid in enumerate(self._threads(rows))]

    def tie_threads(self, rows: int, at_us: int, now_us: int) -> list[str]:
        """Tag many conversations in one and the same second: this one."""
        second_us = whole_second(at_us)
        return [
            self._touch(rid, second_us + self._rng.randrange(at_us - second_us + 1), now_us)
            for rid in self._threads(rows)
        ]

    def silent_threads(self, rows: int, at_us: int, now_us: int) -> list[str]:
        """Change conversations without moving their stamps."""
        rids = self._threads(rows)
        for rid in rids:
            old = self._page.threads.latest[rid]
            self._put(replace(old, seen=not old.seen), at_us, now_us)
        return rids

    def delete_threads(self, rows: int, at_us: int = 0, now_us: int = 0) -> list[str]:
        """Take conversations out of the world at once."""
        rids = self._threads(rows)
        for rid in rids:
            self.delete_thread(rid)
        return rids

    def delete_thread(self, rid: str) -> None:
        """Take one conversation out of the world at once."""
        self._page.threads.delete(rid)
        self._page.deleted_threads.append(rid)

    def remove_messages(self, rows: int, at_us: int, now_us: int) -> list[str]:
        """Remove a late message of conversations, which touches them; return the messages' ids."""
        removed: list[str] = []
        for rid in self._threads(rows):
            left = [m for m in self._page.messages(rid)[-REMOVABLE:] if not m.removed]
            if left:
                removed.append(self.remove(rid, self._rng.choice(left), at_us, now_us))
        return removed

    def remove(self, rid: str, message: Message, at_us: int, now_us: int) -> str:
        """Remove one message, as its writer does."""
        message.removed = True
        self._touch(rid, at_us, now_us)
        return message.mid

    def tie_posts(self, rows: int, at_us: int, now_us: int) -> list[str]:
        """Publish posts in one and the same second, as an import does."""
        return [self.publish(at_us, now_us).rid for _ in range(rows)]

    def silent_posts(self, rows: int, at_us: int, now_us: int) -> list[str]:
        """Write posts anew. Their only time is that of their birth, so no list tells of it."""
        rids = self._page.posts.pick(self._rng, rows)
        for rid in rids:
            old = self._page.posts.latest[rid]
            new = replace(old, message=f"{old.message} *", version=old.version + 1, body=None)
            self._page.posts.put(new, self._visible_at(at_us), now_us)
        return rids

    def delete_posts(self, rows: int, at_us: int = 0, now_us: int = 0) -> list[str]:
        """Take posts out of the world at once."""
        rids = self._page.posts.pick(self._rng, rows)
        for rid in rids:
            self._page.posts.delete(rid)
            self._page.deleted_posts.append(rid)
        return rids

    def publish(self, at_us: int, now_us: int) -> Post:
        """Publish a post."""
        post = self._page.new_post(self._rng, at_us)
        self._page.posts.put(post, self._visible_at(at_us), now_us)
        return post

    def _threads(self, rows: int) -> list[str]:
        return self._page.threads.pick(self._rng, rows)

    def _touch(self, rid: str, at_us: int, now_us: int) -> str:
        old = self._page.threads.latest[rid]
        tag = self._rng.randrange(len(self._page.facts.tags))
        tags = tuple(sorted(set(old.tags) ^ {tag}))
        self._put(replace(old, tags=tags, updated_us=max(at_us, old.updated_us + 1)), at_us, now_us)
        return rid

    def _put(self, thread: Conversation, at_us: int, now_us: int) -> None:
        thread.version, thread.body = thread.version + 1, None
        self._page.threads.put(thread, self._visible_at(at_us), now_us)
