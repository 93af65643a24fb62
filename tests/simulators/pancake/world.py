"""The simulated shops: pages whose rows live on by themselves while a client reads them.

What happens between two looks is worked out at the second look, each event with its own moment: nobody can tell
the difference, and a page that nobody reads costs nothing.
"""

import heapq
import random
from typing import Any

from tests.simulators.pancake import customers, invent
from tests.simulators.pancake.clock import SECOND_US, Clock, RealClock, VirtualClock
from tests.simulators.pancake.huge import HugeCustomers
from tests.simulators.pancake.life import Life, Rates
from tests.simulators.pancake.page import Page
from tests.simulators.pancake.switches import Switches


class World:
    """All pages of one user. The same seed, clock and order of calls give the same world.

    `customers` is per page, `days` how far their history goes back; `tie_rows` of them share one second of it.
    `huge` > 0 gives pages of that many computed customers instead, at rest.
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        pages: int = 3,
        customers: int = 1500,
        days: float = 90.0,
        clock: Clock | None = None,
        switches: Switches | None = None,
        rates: Rates | None = None,
        tie_rows: int = 0,
        huge: int = 0,
    ) -> None:
        self.seed = seed
        self.clock: Clock = clock or RealClock()
        self.switches = switches or Switches()
        self.rates = rates or Rates()
        self.rng = random.Random(f"world/{seed}")
        self.user_token = invent.user_token(seed)
        self.frozen = False
        now_us = self.clock.now_us()
        self.pages: dict[str, Page] = {}
        self.lives: dict[str, Life] = {}
        for number in range(pages):
            page = self._add_page(number)
            if huge:
                step_s = days * 86_400 / huge
                page.huge = HugeCustomers(huge, now_us // SECOND_US, step_s, number, seed)
            else:
                self.lives[page.page_id].fill(customers, days, now_us, tie_rows)
        #: Heap of (at_us, serial, page id, id of the row to change again or empty for the page's next event).
        self._due: list[tuple[int, int, str, str]] = []
        self._serial = 0
        self._plan(now_us)

    def find(self, page_id: str) -> Page | None:
        """Find a page by its id, with or without the channel prefix."""
        page = self.pages.get(page_id)
        if page is None:
            page = next((p for p in self.pages.values() if p.facts.bare_id == page_id), None)
        return page

    def page(self, page_id: str) -> Page:
        """Return a page that must be there; KeyError says which was asked for."""
        page = self.find(page_id)
        if page is None:
            raise KeyError(f"no page {page_id} in this world")
        return page

    # --- time

    def now_us(self) -> int:
        """Return the present moment of the world."""
        return self.clock.now_us()

    def before_call(self) -> None:
        """Let time pass as it does with each page-level call, and everything happen that is due by then."""
        mean_s = self.switches.advance_s_per_call
        if isinstance(self.clock, VirtualClock) and mean_s > 0:
            self.clock.advance(self.rng.expovariate(1 / mean_s))
        self.catch_up()

    def catch_up(self) -> None:
        """Work out all that has happened up to now."""
        now_us = self.clock.now_us()
        while self._due and self._due[0][0] <= now_us:
            at_us, _, page_id, rid = heapq.heappop(self._due)
            life = self.lives[page_id]
            if not rid:
                self._next_event(life, at_us, now_us)
            elif rid in life.page.customers.latest:
                life.change(rid, at_us, now_us)
        for page in self.pages.values():
            page.flush(now_us)

    def step(self, seconds: float) -> None:
        """Let `seconds` of life happen: over that time on a virtual clock, all at once on the real one."""
        if isinstance(self.clock, VirtualClock):
            self.clock.advance(seconds)
            self.catch_up()
        else:
            self.mutate(int(sum(self.rates.weights().values()) * seconds * len(self.pages)))

    def mutate(self, count: int = 1) -> None:
        """Let `count` things happen now, on pages picked at random."""
        self.catch_up()
        now_us, pages = self.clock.now_us(), list(self.lives.values())
        for _ in range(count):
            self._happen(self.rng.choice(pages), now_us, now_us)

    def freeze(self) -> None:
        """Stop the life of all pages and show everything that was still hidden; the clock goes on."""
        self.catch_up()
        self.frozen, self._due = True, []
        for page in self.pages.values():
            page.flush()

    def thaw(self) -> None:
        """Let life go on from now."""
        self.frozen = False
        self._plan(self.clock.now_us())

    def set_rates(self, rates: Rates) -> None:
        """Change how lively the pages are, from now on."""
        self.catch_up()
        self.rates = rates
        if not self.frozen:
            self._plan(self.clock.now_us())

    # --- things done on purpose; each returns the psids of the rows it was done to

    def birth(self, page_id: str, rows: int = 1) -> list[str]:
        """Bring customers into the world now."""
        life, now_us = self._life(page_id), self.clock.now_us()
        return [life.birth(now_us, now_us) for _ in range(rows)]

    def change(self, page_id: str, rows: int = 1, *, silent: bool = False) -> list[str]:
        """Change customers now; `silent` leaves their stamps alone."""
        life, now_us = self._life(page_id), self.clock.now_us()
        act = life.silent if silent else life.change
        return [act(rid, now_us, now_us) for rid in life.page.customers.pick(self.rng, rows)]

    def change_psid(self, page_id: str, psid: str) -> None:
        """Change one customer, named by psid, now."""
        life, now_us = self._life(page_id), self.clock.now_us()
        life.change(self._rid(life.page, psid), now_us, now_us)

    def delete(self, page_id: str, rows: int = 1) -> list[str]:
        """Take customers out of the world now, whatever `switches.deletes` says."""
        life = self._life(page_id)
        return [life.delete(rid) for rid in life.page.customers.pick(self.rng, rows)]

    def delete_psid(self, page_id: str, psid: str) -> None:
        """Take one customer, named by psid, out of the world now."""
        life = self._life(page_id)
        life.delete(self._rid(life.page, psid))

    def tie(self, page_id: str, rows: int) -> list[str]:
        """Touch customers in one and the same second: this one."""
        life, now_us = self._life(page_id), self.clock.now_us()
        return life.tie(rows, now_us, now_us)

    def message(self, page_id: str, rows: int = 1) -> list[str]:
        """Write a message into conversations now; return the conversations' ids."""
        life, now_us = self._life(page_id), self.clock.now_us()
        rids = life.page.threads.pick(self.rng, rows)
        for rid in rids:
            life.message(rid, now_us, now_us)
        return rids

    def open_conversation(self, page_id: str, kind: str = "INBOX", at: float | None = None) -> str:
        """Begin an empty conversation of a new customer at `at` (now); return its id."""
        return self._life(page_id).open(kind, self._us(at))

    def say(self, page_id: str, rid: str, sender: str, text: str = "?", at: float | None = None) -> str:
        """Write a message into a conversation, at `at` (now) or later than the last; return the message's id."""
        life, at_us = self._life(page_id), self._us(at)
        return life.say(rid, sender, text, at_us, max(at_us, self.clock.now_us()))

    def act(self, page_id: str, what: str, rows: int = 1) -> list[str]:
        """Do one of `Upkeep.acts` now, to rows picked at random; return their ids."""
        life, now_us = self._life(page_id), self.clock.now_us()
        return life.upkeep.acts[what](rows, now_us, now_us)

    def delete_conversation(self, page_id: str, rid: str) -> None:
        """Take one conversation out of the world now."""
        self._life(page_id).upkeep.delete_thread(rid)

    def remove_message(self, page_id: str, rid: str, mid: str) -> None:
        """Remove one message of a conversation now, which touches the conversation."""
        life, now_us = self._life(page_id), self.clock.now_us()
        message = next(m for m in life.page.messages(rid) if m.mid == mid)
        life.upkeep.remove(rid, message, now_us, now_us)

    def _us(self, at: float | None) -> int:
        return self.clock.now_us() if at is None else int(at * SECOND_US)

    def rotate(self, page_id: str | None = None) -> None:
        """Supersede the token of one page, or of all."""
        for page in [self.page(page_id)] if page_id else list(self.pages.values()):
            page.rotate()

    # --- truth

    def truth(self, page_id: str) -> dict[str, Any]:
        """Return what a perfect copy of a page's customers holds now, lag or not, malformed rows apart."""
        self.catch_up()
        page = self.page(page_id)
        rows: list[dict[str, Any]] = []
        malformed: list[dict[str, Any]] = []
        for row in page.customers.latest.values():
            entry = {"psid": row.psid, "id": row.rid, "updated_at": row.updated_us // SECOND_US, "version": row.version}
            if row.kind:
                malformed.append(entry | {"kind": row.kind})
            else:
                raw = customers.raw_stamp(row.updated_us, self.switches)
                rows.append(entry | {"updated_raw": raw, "name": row.name})
        threads = [
            {
                "id": t.rid,
                "updated_us": t.updated_us,
                "message_count": t.message_count,
                "version": t.version,
                "fault": t.fault,
            }
            for t in page.threads.latest.values()
        ]
        return {
            "rows": rows,
            "deleted": page.deleted,
            "malformed": malformed,
            "conversations": threads,
            "deleted_conversations": page.deleted_threads,
            "posts": list(page.posts.latest),
            "deleted_posts": page.deleted_posts,
            "huge": page.huge and {"count": page.huge.count, "newest_s": page.huge.newest_s},
        }

    # --- inner

    def _add_page(self, number: int) -> Page:
        page = Page(number, self.seed, self.switches)
        self.pages[page.page_id] = page
        self.lives[page.page_id] = Life(page, self.rng, self.switches)
        return page

    def _life(self, page_id: str) -> Life:
        self.catch_up()
        return self.lives[self.page(page_id).page_id]

    def _rid(self, page: Page, psid: str) -> str:
        for rid, row in page.customers.latest.items():
            if row.psid == psid:
                return rid
        raise KeyError(f"no customer {psid} on page {page.page_id}")

    def _plan(self, now_us: int) -> None:
        self._due = []
        for page in self.pages.values():
            if page.huge is None:
                self._plan_next(page.page_id, now_us)

    def _plan_next(self, page_id: str, from_us: int) -> None:
        per_s = sum(self.rates.weights().values())
        if per_s > 0:
            self._push(from_us + 1 + int(self.rng.expovariate(per_s) * SECOND_US), page_id)

    def _push(self, at_us: int, page_id: str, rid: str = "") -> None:
        self._serial += 1
        heapq.heappush(self._due, (at_us, self._serial, page_id, rid))

    def _next_event(self, life: Life, at_us: int, now_us: int) -> None:
        self._happen(life, at_us, now_us)
        self._plan_next(life.page.page_id, at_us)

    def _happen(self, life: Life, at_us: int, now_us: int) -> None:
        weights = self.rates.weights()
        if not any(weights.values()):
            weights = Rates.live(1.0).weights()
        kind = self.rng.choices(list(weights), list(weights.values()))[0]
        again = life.happen(kind, self.rates, at_us, now_us)
        if again and not self.frozen:
            rest_us = SECOND_US - at_us % SECOND_US
            self._push(at_us + self.rng.randrange(rest_us), life.page.page_id, again)
