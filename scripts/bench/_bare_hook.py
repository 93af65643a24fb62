"""The peer of `hooks`: an ASGI app that puts each body into a Redis list and answers 200, and does nothing else.

uvicorn scripts.bench._bare_hook:app, with REDIS_URL
"""

import os
from typing import Any

from redis.asyncio import Redis

redis: Redis = Redis.from_url(os.environ["REDIS_URL"])


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Whatever the address."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"].removeprefix("lifespan.")
            await send({"type": f"lifespan.{kind}.complete"})
            if kind == "shutdown":
                return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await redis.execute_command("RPUSH", "bare", body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})
