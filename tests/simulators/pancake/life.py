"""What happens to one page: births, changes, deletes, bursts, messages. Each thing at a given moment."""

import random
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Final

from tests.simulators.pancake import customers, faults, invent, threads
from tests.simulators.pancake.clock import SECOND_US, whole_second
from tests.simulators.pancake.page import Page
from tests.simulators.pancake.switches import Switches
from tests.simulators.pancake.upkeep import Upkeep

#: Told of every new message: page, conversation, message, and whether the page wrote it.
Listener = Callable[[Page, threads.Conversation, threads.Message], None]
DAY_US: Final = 86_400 * SECOND_US


@dataclass(slots=True)
class Rates:
    """How often things happen on one page, per second; all zero is a world at rest."""

    changes: float = 0.0
    births: float = 0.0
    deletes: float = 0.0
    #: A row changed twice within one second: other content under the same stamp.
    twice: float = 0.0
    #: `burst_rows` rows touched in one and the same second, as a bulk action does.
    bursts: float = 0.0
    burst_rows: int = 450
    #: Changes that do not move updated_at: no cursor can see them.
    silent: float = 0.0
    messages: float = 0.0
    posts: float = 0.0
    #: Named as in `Upkeep.acts`; ties take `burst_rows`.
    touch_threads: float = 0.0
    tie_threads: float = 0.0
    silent_threads: float = 0.0
    delete_threads: float = 0.0
    remove_messages: float = 0.0
    tie_posts: float = 0.0
    silent_posts: float = 0.0
    delete_posts: float = 0.0

    @classmethod
    def live(cls, changes: float) -> "Rates":
        """Return the mix of a busy shop around a number of changes per second."""
        return cls(
            changes=changes,
            births=0.4 * changes,
            deletes=0.02 * changes,
            twice=0.05 * changes,
            bursts=0.0005 * changes,
            messages=0.6 * changes,
            posts=0.001 * changes,
        )

    def weights(self) -> dict[str, float]:
        """Return what can happen and how often."""
        return {one.name: float(getattr(self, one.name)) for one in fields(self) if one.name != "burst_rows"}


class Life:
    """The events of one page. `at_us` is when a thing happens, `now_us` (not earlier) when it is worked out."""

    def __init__(self, page: Page, rng: random.Random, switches: Switches) -> None:
        self.page, self.rng, self.switches = page, rng, switches
        self.listeners: list[Listener] = []
        self.upkeep = Upkeep(page, rng, self._visible_at)

    def fill(self, count: int, days: float, now_us: int, tie_rows: int = 0) -> None:
        """Give the page its history: customers of the last `days`, conversations of some, a few posts."""
        span_us = int(days * DAY_US)
        rows = [self._past_customer(now_us, span_us) for _ in range(count)]
        tie_us = whole_second(now_us - span_us // 3)
        for row in rows[:tie_rows]:
            row.updated_us, row.inserted_us = tie_us, min(row.inserted_us, tie_us)
        self.page.customers.load(rows)
        talkers = rows[: min(count, 2000, max(10, count // 5))]
        self.page.threads.load(self._past_thread(row, now_us) for row in talkers)
        posts = min(200, 5 + int(days / 2)) if count else 0
        births = [now_us - self.rng.randrange(span_us + 1) for _ in range(posts)]
        self.page.posts.load(self.page.new_post(self.rng, at_us) for at_us in births)

    def birth(self, at_us: int, now_us: int) -> str:
        """Bring a customer into the world, in half of the cases by a first message; return the psid."""
        row = self._customer(whole_second(at_us))
        self._put_customer(row, at_us, now_us)
        if self.rng.random() < 0.5:
            self._first_message(row, at_us, now_us)
        return row.psid

    def change(self, rid: str, at_us: int, now_us: int) -> str:
        """Change a customer's name or phone; return the psid."""
        row = customers.changed(self.page.customers.latest[rid], self.rng, whole_second(at_us))
        self._put_customer(row, at_us, now_us)
        return row.psid

    def silent(self, rid: str, at_us: int, now_us: int) -> str:
        """Change a customer without moving its stamp; return the psid."""
        old = self.page.customers.latest[rid]
        row = customers.changed(old, self.rng, old.updated_us)
        self._put_customer(row, at_us, now_us)
        return row.psid

    def tie(self, rows: int, at_us: int, now_us: int) -> list[str]:
        """Touch many customers in one and the same second; return their psids."""
        shelf, out = self.page.customers, []
        for rid in shelf.pick(self.rng, rows):
            row = customers.touched(shelf.latest[rid], whole_second(at_us))
            self._put_customer(row, at_us, now_us)
            out.append(row.psid)
        return out

    def delete(self, rid: str) -> str:
        """Take a customer out of the world at once; return the psid."""
        psid = self.page.customers.latest[rid].psid
        self.page.customers.delete(rid)
        self.page.deleted.append(psid)
        return psid

    def message(self, rid: str, at_us: int, now_us: int) -> None:
        """Write one more message into a conversation."""
        thread = self.page.threads.latest[rid]
        message = threads.next_message(self.page.messages(rid), thread, self.rng, at_us, self.switches)
        self._written(thread, message, at_us, now_us)

    def _written(self, thread: threads.Conversation, message: threads.Message, at_us: int, now_us: int) -> None:
        changed = replace(
            thread,
            updated_us=message.inserted_us,
            message_count=thread.message_count + 1,
            snippet=message.text,
            last_sender=message.sender,
            seen=message.sender != "customer" or self.rng.random() < 0.8,
            version=thread.version + 1,
            body=None,
        )
        self.page.threads.put(changed, self._visible_at(at_us), now_us)
        self._tell(changed, message)

    def open(self, kind: str, at_us: int) -> str:
        """Bring a customer and an empty conversation into the world; return the conversation's id."""
        row = self._customer(whole_second(at_us))
        self._put_customer(row, at_us, at_us)
        thread = replace(self._thread(row, at_us), kind=kind, message_count=0, snippet="")
        self.page.set_messages(thread.rid, [])
        self.page.threads.put(thread, at_us, at_us)
        return thread.rid

    def say(self, rid: str, sender: str, text: str, at_us: int, now_us: int) -> str:
        """Write a given message into a conversation; return its id."""
        messages = self.page.messages(rid)
        message = threads.Message(f"m_{rid}_{len(messages)}", at_us, sender, text)
        messages.append(message)
        self._written(self.page.threads.latest[rid], message, at_us, now_us)
        return message.mid

    def post(self, at_us: int, now_us: int) -> None:
        """Publish a post."""
        self.upkeep.publish(at_us, now_us)

    def happen(self, kind: str, rates: Rates, at_us: int, now_us: int) -> str | None:
        """Let one thing of a kind happen to rows picked at random; return the id of a row to change once more."""
        if kind == "births":
            self.birth(at_us, now_us)
        elif kind == "bursts":
            self.tie(rates.burst_rows, at_us, now_us)
        elif kind == "posts":
            self.post(at_us, now_us)
        elif kind in self.upkeep.acts:
            if self.switches.deletes or not kind.startswith("delete"):
                self.upkeep.acts[kind](rates.burst_rows if kind.startswith("tie") else 1, at_us, now_us)
        elif kind == "messages":
            for rid in self.page.threads.pick(self.rng, 1):
                self.message(rid, at_us, now_us)
        else:
            return self._happen_to_row(kind, at_us, now_us)
        return None

    def _happen_to_row(self, kind: str, at_us: int, now_us: int) -> str | None:
        picked = self.page.customers.pick(self.rng, 1)
        if not picked or (kind == "deletes" and not self.switches.deletes):
            return None
        rid = picked[0]
        if kind == "deletes":
            self.delete(rid)
        elif kind == "silent":
            self.silent(rid, at_us, now_us)
        else:
            self.change(rid, at_us, now_us)
        return rid if kind == "twice" else None

    def _put_customer(self, row: customers.Customer, at_us: int, now_us: int) -> None:
        self.page.customers.put(row, self._visible_at(at_us), now_us)

    def _visible_at(self, at_us: int) -> int:
        lag_s = self.switches.visibility_lag_s
        return at_us + int(self.rng.uniform(0, lag_s) * SECOND_US) if lag_s > 0 else at_us

    def _tell(self, thread: threads.Conversation, message: threads.Message) -> None:
        for listener in self.listeners:
            listener(self.page, thread, message)

    def _customer(self, inserted_us: int) -> customers.Customer:
        rng, page = self.rng, self.page
        page.births += 1
        malformed = rng.random() * 100 < self.switches.malformed_pct
        return customers.Customer(
            rid=invent.random_uuid(rng),
            psid=str(7_000_000_000_000_000 + page.number * 10_000_000_000 + page.births),
            name=invent.person(rng),
            phone=invent.phone(rng.randrange(100_000)),
            inserted_us=inserted_us,
            updated_us=inserted_us,
            kind=rng.choice(list(customers.KINDS)) if malformed else "",
        )

    def _past_customer(self, now_us: int, span_us: int) -> customers.Customer:
        row = self._customer(whole_second(now_us - self.rng.randrange(span_us + 1)))
        if self.rng.random() < 0.6:
            row.updated_us = whole_second(self.rng.randint(row.inserted_us, now_us))
        return row

    def _past_thread(self, row: customers.Customer, now_us: int) -> threads.Conversation:
        rng = self.rng
        inserted_us = row.inserted_us + rng.randrange(SECOND_US)
        return replace(
            self._thread(row, inserted_us),
            updated_us=max(inserted_us, rng.randint(row.inserted_us, now_us)),
            message_count=rng.randint(1, 80),
            snippet=rng.choice(invent.LINES),
            last_sender=rng.choice(threads.SENDERS),
            tags=tuple(sorted(rng.sample(range(len(self.page.facts.tags)), rng.randrange(3)))),
        )

    def _thread(self, row: customers.Customer, at_us: int) -> threads.Conversation:
        comment = self.rng.random() < 0.2
        return threads.Conversation(
            rid=f"{self.page.page_id}_{'9' if comment else ''}{row.psid}",
            kind="COMMENT" if comment else "INBOX",
            psid=row.psid,
            customer_rid=row.rid,
            name=row.name,
            inserted_us=at_us,
            updated_us=at_us,
            message_count=1,
            snippet=self.rng.choice(invent.LINES),
            last_sender="customer",
            seen=self.rng.random() < 0.9,
            tags=(),
            fault=faults.drawn(faults.OF_THREADS, self.rng, self.switches.malformed_threads_pct),
        )

    def _first_message(self, row: customers.Customer, at_us: int, now_us: int) -> None:
        thread = self._thread(row, at_us)
        self.page.threads.put(thread, self._visible_at(at_us), now_us)
        self._tell(thread, self.page.messages(thread.rid)[-1])
