"""What a seed is about: the rows of one stream, as they truly are, as they are stored, and what befalls them."""

import random
from dataclasses import dataclass
from typing import Any, Final, Literal

from tests.simulators.pancake import World, faults, threads
from tests.simulators.pancake.clock import SECOND_US, whole_second
from tests.simulators.pancake.page import Page, Post

Document = dict[str, Any]
StreamName = Literal["customers", "posts", "conversations"]

POSTS = 400
LONG_THREADS = 0.06  # of the conversations, with more messages than an answer holds
DAY_US = 86_400 * SECOND_US


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it truly is. `name` is what it is stored by, `text` what its JSON says of it whatever its fault."""

    name: str
    second: int
    version: int
    text: str


class Subject:
    """The customers of a page; other streams differ in what they override."""

    name: StreamName = "customers"
    key = "psid"

    def alive(self, world: World, page_id: str) -> list[Row]:
        """Every row that is there and can be read."""
        rows = world.truth(page_id)["rows"]
        return [Row(row["psid"], row["updated_at"], row["version"], row["id"]) for row in rows]

    def malformed(self, world: World, page_id: str) -> list[Row]:
        """Every row that is there and has a fault."""
        rows = world.truth(page_id)["malformed"]
        return [
            Row(row["psid"], row["updated_at"], row["version"], "null" if row["kind"] == "null_row" else row["id"])
            for row in rows
        ]

    def deleted(self, world: World, page_id: str) -> list[str]:
        """The names of rows that are gone."""
        return list(world.truth(page_id)["deleted"])

    def befall(self, world: World, page_id: str, what: str, rows: int) -> None:
        """`change`, `tie`, `silent` or `delete` so many rows."""
        if what == "tie":
            world.tie(page_id, rows)
        elif what == "delete":
            world.delete(page_id, rows)
        else:
            world.change(page_id, rows, silent=what == "silent")

    def furnish(self, world: World, rng: random.Random, bad_run: int, below_newest: int, tie_rows: int) -> None:
        """Complete the pages' past; `bad_run` rows below the newest, one after the other, get a fault."""
        for page in world.pages.values():
            by_time = sorted(page.customers.latest.values(), key=lambda row: row.updated_us)
            for row in by_time[-bad_run - below_newest : -below_newest] if bad_run else ():
                row.kind = row.kind or "null_psid"


class Posts(Subject):
    """Posts: born, deleted, written anew without a word."""

    name: StreamName = "posts"
    key = "postId"

    def alive(self, world: World, page_id: str) -> list[Row]:
        """Every post that is there and can be read."""
        return [_post_row(post) for post in _page(world, page_id).posts.latest.values() if not post.fault]

    def malformed(self, world: World, page_id: str) -> list[Row]:
        """Every post that is there and has a fault."""
        return [_post_row(post) for post in _page(world, page_id).posts.latest.values() if post.fault]

    def deleted(self, world: World, page_id: str) -> list[str]:
        """The ids of posts that are gone."""
        return list(_page(world, page_id).deleted_posts)

    def befall(self, world: World, page_id: str, what: str, rows: int) -> None:
        """There is no change of a post that a list would tell of: new ones instead."""
        acts = {"tie": "tie_posts", "silent": "silent_posts", "delete": "delete_posts", "change": "tie_posts"}
        world.act(page_id, acts[what], rows if what != "change" else 1 + rows // 10)

    def furnish(self, world: World, rng: random.Random, bad_run: int, below_newest: int, tie_rows: int) -> None:
        """Publish posts of some days, `tie_rows` of them in one second."""
        now_us = world.now_us()
        for page in world.pages.values():
            tie_us = now_us - DAY_US - rng.randrange(DAY_US)
            moments = [now_us - rng.randrange(4 * DAY_US) for _ in range(POSTS)] + [tie_us] * tie_rows
            found = [page.new_post(rng, at_us) for at_us in moments]
            found.sort(key=lambda post: post.inserted_us)
            for post in found[-bad_run - below_newest : -below_newest] if bad_run else ():
                post.fault = post.fault or "bad_inserted_at"
            page.posts.load(found)


class Conversations(Subject):
    """Conversations and their messages."""

    name: StreamName = "conversations"
    key = "conversationId"

    def alive(self, world: World, page_id: str) -> list[Row]:
        """Every conversation that is there and can be read."""
        return [_thread_row(one) for one in _page(world, page_id).threads.latest.values() if not one.fault]

    def malformed(self, world: World, page_id: str) -> list[Row]:
        """Every conversation that is there and has a fault."""
        return [_thread_row(one) for one in _page(world, page_id).threads.latest.values() if one.fault]

    def deleted(self, world: World, page_id: str) -> list[str]:
        """The ids of conversations that are gone."""
        return list(_page(world, page_id).deleted_threads)

    def befall(self, world: World, page_id: str, what: str, rows: int) -> None:
        """A tag given is a change; and with each of some of them somebody writes, or takes back what he wrote."""
        if what == "change":
            world.act(page_id, "touch_threads", 1 + rows // 3)
            world.message(page_id, 1 + rows // 3)
            world.act(page_id, "remove_messages", 1 + rows // 6)
            return
        world.act(page_id, f"{what}_threads", rows)

    def furnish(self, world: World, rng: random.Random, bad_run: int, below_newest: int, tie_rows: int) -> None:
        """Give the conversations few messages, some many; some of them bad; `tie_rows` of them one second."""
        now_us = world.now_us()
        for page in world.pages.values():
            found = sorted(page.threads.latest.values(), key=lambda one: one.updated_us)
            tie_us = whole_second(now_us - DAY_US)
            for one in rng.sample(found, min(tie_rows, len(found))):
                one.updated_us = tie_us + rng.randrange(SECOND_US)
            for one in found[-bad_run - below_newest : -below_newest] if bad_run else ():
                one.fault = one.fault or "bad_updated_at"
            for one in found:
                # more than 60 that began in one second and an ignored cursor are too much for any reader
                one.inserted_us = one.updated_us - rng.randint(1, 3 * DAY_US)
                is_long = rng.random() < LONG_THREADS
                one.message_count = rng.randint(31, 130) if is_long else rng.randint(1, 6)
                one.snippet = one.snippet or "?"
            page.threads.resort()
            for one in found:
                for message in page.messages(one.rid):
                    message.fault = faults.drawn(faults.OF_MESSAGES, rng, world.switches.malformed_messages_pct)


SUBJECTS: Final[dict[StreamName, Subject]] = {one.name: one for one in (Subject(), Posts(), Conversations())}

ROLES: Final = {"customer": "customer", "agent": "agent", "native": "agent", "bot": "bot", "auto": "bot"}


@dataclass(slots=True)
class Stand:
    """How a conversation stands by what was truly said, told one message after the other."""

    last: str | None = None
    since: int | None = None
    waiting_for: str | None = None


def stand_of(said: list[threads.Message]) -> Stand:
    """Who spoke last, and what the customer said first that no human has answered."""
    stand = Stand()
    for message in sorted(said, key=lambda one: (one.inserted_us, one.mid)):
        if message.removed:
            continue
        stand.last = ROLES.get(message.sender, "system")
        if stand.last == "agent":
            stand.since = stand.waiting_for = None
        elif stand.last == "customer" and stand.waiting_for is None:
            stand.since, stand.waiting_for = message.inserted_us // SECOND_US, message.mid
    return stand


def _page(world: World, page_id: str) -> Page:
    world.catch_up()
    return world.page(page_id)


def _post_row(post: Post) -> Row:
    return Row(post.rid, post.inserted_us // SECOND_US, post.version, _text(post.rid, post.fault))


def _thread_row(one: threads.Conversation) -> Row:
    return Row(one.rid, one.updated_us // SECOND_US, one.version, _text(one.rid, one.fault))


def _text(rid: str, fault: str) -> str:
    return "null" if fault == "null_row" else f'{rid}"'
