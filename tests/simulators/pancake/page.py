"""One shop page: its rows, agents, tags and tokens."""

import random
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.simulators.pancake import customers, faults, invent, threads
from tests.simulators.pancake.clock import iso, whole_second
from tests.simulators.pancake.huge import HugeCustomers
from tests.simulators.pancake.shelf import Shelf
from tests.simulators.pancake.switches import Switches


@dataclass(slots=True)
class Post:
    """One state of a post of the page. Its only time is that of its birth."""

    rid: str
    message: str
    inserted_us: int
    updated_us: int
    #: A key of `faults.OF_POSTS` when the row is malformed, else empty.
    fault: str = ""
    version: int = 1
    body: bytes | None = None


@dataclass(slots=True)
class Traffic:
    """Times of page-level calls, unix seconds of the machine's clock whatever the world's clock is."""

    accepted: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    #: route -> outcome -> calls.
    routes: dict[str, dict[str, int]] = field(default_factory=dict)

    def count(self, route: str, outcome: str) -> None:
        """Count one answered call."""
        outcomes = self.routes.setdefault(route, {})
        outcomes[outcome] = outcomes.get(outcome, 0) + 1


class Page:
    """A page of the world. Its `number` counts from 0; ids and tokens follow from seed and number."""

    def __init__(self, number: int, seed: int, switches: Switches) -> None:
        rng = random.Random(f"page/{seed}/{number}")
        platform, prefix = invent.PLATFORMS[number % len(invent.PLATFORMS)]
        bare_id = str(100_000_000_000_000 + seed % 1000 * 10_000_000_000 + number * 1_000_003)
        self.number, self.seed, self.platform = number, seed, platform
        self.facts = threads.PageFacts(
            page_id=prefix + bare_id,
            name=f"{invent.SHOPS[number % len(invent.SHOPS)]} {number + 1}",
            bare_id=bare_id,
            agents=[(invent.random_uuid(rng), f"Agent {chr(65 + i)}", str(9001 + i)) for i in range(4)],
            tags=["VIP", "Chờ hàng", "Đã chốt", "Spam", "Khách sỉ"],
        )
        #: Below `switches.token_in_list_pct` the list of pages shows this page's token.
        self.token_lot = rng.random() * 100
        #: Which list of `categorized` shows the page: activated, hidden, inactivated, nopermission.
        self.category = "activated"
        self.generation = 1
        self.superseded: set[str] = set()
        self.token = invent.page_token(seed, self.page_id, 1)
        self.births = 0
        self.customers: Shelf[customers.Customer] = Shelf(lambda row: customers.render(row, switches))
        self.threads: Shelf[threads.Conversation] = Shelf(lambda row: threads.render(row, self.facts, switches))
        self.posts: Shelf[Post] = Shelf(lambda row: render_post(row, self.facts, switches))
        self.deleted: list[str] = []
        self.deleted_threads: list[str] = []
        self.deleted_posts: list[str] = []
        self._switches = switches
        self._messages: dict[str, list[threads.Message]] = {}
        #: Instead of `customers`, in benchmarks.
        self.huge: HugeCustomers | None = None
        self.traffic = Traffic()

    @property
    def page_id(self) -> str:
        """Return the id with its channel prefix."""
        return self.facts.page_id

    def rotate(self) -> str:
        """Mint a new page token; every older one is superseded from now on."""
        self.superseded.add(self.token)
        self.generation += 1
        self.token = invent.page_token(self.seed, self.page_id, self.generation)
        return self.token

    def new_post(self, rng: random.Random, at_us: int) -> Post:
        """Make up a post of a moment; it is not on the shelf yet."""
        at_us, rid = whole_second(at_us), f"{self.page_id}_{rng.getrandbits(48)}"
        fault = faults.drawn(faults.OF_POSTS, rng, self._switches.malformed_posts_pct)
        return Post(rid, rng.choice(invent.LINES), at_us, at_us, fault)

    def flush(self, now_us: int | None = None) -> None:
        """Show what is due, or everything when no time is given."""
        for shelf in (self.customers, self.threads, self.posts):
            shelf.flush(now_us)

    def messages(self, thread_id: str) -> list[threads.Message]:
        """Return the messages of a conversation, oldest first; invented at the first reading."""
        found = self._messages.get(thread_id)
        if found is None:
            found = self._messages[thread_id] = threads.first_messages(self.threads.latest[thread_id])
        return found

    def set_messages(self, thread_id: str, messages: list[threads.Message]) -> None:
        """Give a conversation its messages: none for a new one, stored ones for an old one."""
        self._messages[thread_id] = messages

    def known_messages(self) -> dict[str, list[threads.Message]]:
        """Return the messages of the conversations that were read or written to."""
        return self._messages


def render_post(post: Post, page: threads.PageFacts, switches: Switches) -> bytes:
    """Write one row of the list of posts."""
    row: dict[str, Any] = {
        "id": post.rid,
        "page_id": page.shown_id(switches),
        "from": {"id": page.shown_id(switches), "name": page.name},
        "message": post.message,
        "type": "photo",
        "inserted_at": iso(post.inserted_us, fraction=False, offset_h=switches.tz_offset_hours),
        "comment_count": 0,
        "reactions": {"like_count": 0, "love_count": 0, "haha_count": 0, "sad_count": 0},
        "phone_number_count": 0,
        "sim_id": post.rid,
        "sim_version": post.version,
    }
    return faults.OF_POSTS[post.fault](row) if post.fault else orjson.dumps(row)
