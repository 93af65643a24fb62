"""The simulated vendor as a plain ASGI application: no framework in the way, a page of 100 rows costs its bytes."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tests.simulators.pancake import gate, page_routes, replies, user_routes
from tests.simulators.pancake.call import Call
from tests.simulators.pancake.clock import http_date
from tests.simulators.pancake.control import Control
from tests.simulators.pancake.replies import Reply
from tests.simulators.pancake.world import World

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Simulator:
    """Serve a world. Works under uvicorn and under httpx.ASGITransport (which cannot show a cut connection)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.switches = world.switches
        self.control = Control(world)
        self._limiter = gate.Limiter()
        self._faults = gate.Faults(world.switches, world.seed)
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        raw_path = scope.get("raw_path") or scope["path"].encode()
        call = Call.parse(scope["method"], raw_path, scope["query_string"])
        if call.path[0] == "_sim":
            call.body = await _read(receive)
            reply = self.control.answer(call)
        elif call.path[:2] == ["api", "v1"]:
            reply = await self._user_call(call)
        elif call.path[:2] == ["api", "public_api"] and len(call.path) > 5 and call.path[3] == "pages":
            reply = await self._page_call(call)
        else:
            reply = replies.shell()
        await self._send(reply, send)

    async def _user_call(self, call: Call) -> Reply:
        name = user_routes.name_of(call)
        await self._faults.delay()
        self.world.catch_up()
        gate.apply_rotation(self.world)
        reply = self._faults.instead() if name else replies.shell()
        if reply is None:
            reply = self._faults.maim(user_routes.answer(name, call, self.world))
        outcomes = self.control.user_calls.setdefault(name or "unknown", {})
        outcomes[reply.outcome] = outcomes.get(reply.outcome, 0) + 1
        return reply

    async def _page_call(self, call: Call) -> Reply:
        switches = self.switches
        page = self.world.find(call.path[4])
        found = page_routes.route(call)
        if page is None:
            return gate.check_page(self.world, None, "") or replies.shell()
        name, handler = found or ("unknown", None)
        traffic = page.traffic
        if not self._limiter.admit(
            page.page_id, switches.rate_limit, rejected_calls_count=switches.rejected_calls_count
        ):
            traffic.rejected.append(time.time())
            reply = replies.too_many(switches.rate_limit_form, switches.retry_after)
            traffic.count(name, reply.outcome)
            return reply
        traffic.accepted.append(time.time())
        await self._faults.delay()
        self.world.before_call()
        gate.apply_rotation(self.world)
        if switches.names_page(switches.page_failures, page.page_id):
            reply = replies.server_error()
        else:
            token = call.text("page_access_token")
            failure = self._faults.instead() or gate.check_page(self.world, page, token)
            if failure is not None:
                reply = failure
            elif handler is None:
                reply = replies.shell()
            else:
                reply = self._faults.maim(page_routes.answer(handler, call, page, switches))
        page.traffic.count(name, reply.outcome)
        return reply

    async def _send(self, reply: Reply, send: Send) -> None:
        self._requests += 1
        length, body = len(reply.body), reply.body
        headers = [
            (b"content-type", reply.kind),
            (b"content-length", b"%d" % length),
            (b"date", http_date(self.world.now_us(), self.switches.clock_skew_s)),
            (b"x-request-id", b"F%019d" % self._requests),
            *reply.headers,
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if reply.cut:
            # Returning with the body unfinished makes the server close the connection.
            await send({"type": "http.response.body", "body": body[: length // 2], "more_body": True})
            return
        await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
