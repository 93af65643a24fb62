"""Control routes below `/_sim`: for tests and checkers, no token asked, never rate limited."""

from collections.abc import Callable
from typing import Any

import orjson

from tests.simulators.pancake import replies
from tests.simulators.pancake.call import Call
from tests.simulators.pancake.clock import SECOND_US
from tests.simulators.pancake.life import Rates
from tests.simulators.pancake.page import Traffic
from tests.simulators.pancake.replies import Reply
from tests.simulators.pancake.world import World

Body = dict[str, Any]


class Control:
    """Answers of `/_sim/...`: a table of (method, path) -> what to do with the JSON body or query."""

    def __init__(self, world: World) -> None:
        self.world = world
        #: route -> outcome -> calls, of user-level calls.
        self.user_calls: dict[str, dict[str, int]] = {}
        #: What the webhook sender reports, when there is one.
        self.webhooks: Callable[[], Body] = dict
        self.resume_webhooks: Callable[[], None] = lambda: None
        self._routes: dict[str, Callable[[Body], Any]] = {
            "GET stats": lambda _: self._stats(),
            "POST stats/reset": lambda _: self._reset_stats(),
            "GET switches": lambda _: world.switches.as_json(),
            "POST switches": self._set_switches,
            "POST rates": self._set_rates,
            "POST step": self._step,
            "POST freeze": lambda _: world.freeze(),
            "POST thaw": lambda _: world.thaw(),
            "GET truth": lambda body: world.truth(body["page_id"]),
            "POST rotate": lambda body: world.rotate(body.get("page_id")),
            "POST tie": lambda body: world.tie(body["page_id"], _rows(body)),
            "POST birth": lambda body: world.birth(body["page_id"], _rows(body)),
            "POST change": lambda body: world.change(body["page_id"], _rows(body), silent=bool(body.get("silent"))),
            "POST delete": lambda body: world.delete(body["page_id"], _rows(body)),
            "POST message": lambda body: world.message(body["page_id"], _rows(body)),
            "POST act": lambda body: world.act(body["page_id"], body["what"], _rows(body)),
            "POST mutate": lambda body: world.mutate(_rows(body)),
            "GET tokens": lambda _: self._tokens(),
            "GET clock": lambda _: self._clock(),
            "GET webhooks": lambda _: self.webhooks(),
            "POST webhooks/resume": lambda _: self.resume_webhooks(),
        }

    def answer(self, call: Call) -> Reply:
        """Answer a control call: 200 with a JSON object, 400 with what was wrong, 404 for no such route."""
        act = self._routes.get(f"{call.method} {'/'.join(call.path[1:])}")
        if act is None:
            return Reply(orjson.dumps({"error": "no such route", "routes": sorted(self._routes)}), 404)
        try:
            body = orjson.loads(call.body) if call.body else {}
            body |= {name: values[0] for name, values in call.query.items()}
            result = act(body)
        except (KeyError, TypeError, ValueError) as e:
            return Reply(orjson.dumps({"error": f"{type(e).__name__}: {e}"}), 400)
        if isinstance(result, list):
            result = {"rows": result}
        return replies.ok(result if result is not None else {"ok": True})

    def _stats(self) -> Body:
        pages = {
            page.page_id: {
                "accepted": page.traffic.accepted,
                "rejected": page.traffic.rejected,
                "routes": page.traffic.routes,
            }
            for page in self.world.pages.values()
        }
        return {"pages": pages, "user": self.user_calls}

    def _reset_stats(self) -> None:
        self.user_calls.clear()
        for page in self.world.pages.values():
            page.traffic = Traffic()

    def _set_switches(self, body: Body) -> Body:
        self.world.switches.update(body)
        return self.world.switches.as_json()

    def _set_rates(self, body: Body) -> None:
        self.world.set_rates(Rates.live(float(body["live"])) if "live" in body else Rates(**body))

    def _step(self, body: Body) -> Body:
        self.world.step(float(body["seconds"]))
        return self._clock()

    def _tokens(self) -> Body:
        pages = {p.page_id: {"current": p.token, "superseded": len(p.superseded)} for p in self.world.pages.values()}
        return {"user_token": self.world.user_token, "pages": pages}

    def _clock(self) -> Body:
        now_us = self.world.now_us()
        return {"now": now_us / SECOND_US, "now_us": now_us, "frozen": self.world.frozen}


def _rows(body: Body) -> int:
    return int(body.get("rows", 1))
