"""The routes under `/_control/`, by which another process sets behaviours and reads what was received."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlsplit

import orjson
from pydantic import ValidationError

from tests.simulators.merchant.behaviours import SCRIPT, Behaviour, status
from tests.simulators.merchant.book import RECEIVED, Book

Query = dict[str, str]
Route = Callable[[Query, bytes], Awaitable[bytes]]


class Routes:
    """Answers in JSON.

    POST behave?name= (a script), POST clear, GET state, GET arrivals?name=&since=, GET received?name=&since=,
    GET wait?name=&count=&within_s= (which answers when as many have arrived or the time is over).
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._routes: dict[tuple[str, str], Route] = {
            ("POST", "behave"): self._behave,
            ("POST", "clear"): self._clear,
            ("GET", "state"): self._state,
            ("GET", "arrivals"): self._arrivals,
            ("GET", "received"): self._received,
            ("GET", "wait"): self._wait,
        }

    async def answer(self, method: str, target: str, body: bytes) -> Behaviour:
        """Do as asked; 400 says what was wrong with it."""
        parts = urlsplit(target)
        route = self._routes.get((method, parts.path.removeprefix("/_control/")))
        if route is None:
            return status(404)
        try:
            said = await route(dict(parse_qsl(parts.query)), body)
        except (ValidationError, ValueError, KeyError, RuntimeError) as error:
            return status(400, {"content-type": "text/plain"}, f"{type(error).__name__}: {error}".encode())
        return status(200, {"content-type": "application/json"}, said)

    async def _behave(self, query: Query, body: bytes) -> bytes:
        self._book.behave(query["name"], *SCRIPT.validate_json(body))
        return b"{}"

    async def _clear(self, _: Query, __: bytes) -> bytes:
        self._book.clear()
        return b"{}"

    async def _state(self, _: Query, __: bytes) -> bytes:
        book = self._book
        merchants = {
            name: {
                "count": book.count(name),
                "in_flight": book.in_flight(name),
                "peak": book.peak(name),
                "connections": book.connections_of(name),
            }
            for name in book.names()
        }
        return orjson.dumps({"connections": book.connections, "merchants": merchants})

    async def _arrivals(self, query: Query, _: bytes) -> bytes:
        return orjson.dumps(self._book.arrivals(query["name"])[int(query.get("since", 0)) :])

    async def _received(self, query: Query, _: bytes) -> bytes:
        return RECEIVED.dump_json(self._book.received(query["name"])[int(query.get("since", 0)) :])

    async def _wait(self, query: Query, _: bytes) -> bytes:
        name, count, reached = query["name"], int(query["count"]), asyncio.Event()
        with self._book.merchant(name).waiting(count, reached.set):
            try:
                async with asyncio.timeout(float(query["within_s"])):
                    await reached.wait()
            except TimeoutError:
                pass
        return orjson.dumps({"count": self._book.count(name)})
