"""Events as Pancake sends them, and the HTTP side on a real port of this process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr

from src.api.app import create_app
from src.settings import Settings

SECRET = "an-invented-secret-of-a-test"
PAGE, CUSTOMER = "100200300400500", "7770001"


def messaging(
    message_id: str = "m_1",
    *,
    page_id: str = PAGE,
    customer: str = CUSTOMER,
    text: str = "còn hàng không ạ?",
    at: str = "2026-05-14T15:00:00.250000",
    sender: dict[str, Any] | None = None,
    conversation: dict[str, Any] | None = None,
    **message: Any,
) -> dict[str, Any]:
    """A message of the customer, or of `sender`; `conversation` and `message` are fields to be other than usual."""
    conversation_id = f"{page_id}_{customer}"
    return {
        "page_id": page_id,
        "event_type": "messaging",
        "data": {
            "conversation": {
                "id": conversation_id,
                "type": "INBOX",
                "assignee_ids": [],
                "from": {"id": customer, "name": "Customer One"},
                "is_combined": False,
                "is_removed": False,
                "is_replied": False,
                "read_watermarks": None,
                "seen": False,
                "snippet": text,
                "tags": [57],
                **(conversation or {}),
            },
            "message": {
                "id": message_id,
                "conversation_id": conversation_id,
                "page_id": page_id,
                "type": "INBOX",
                "message": text,
                "original_message": text,
                "inserted_at": at,
                "from": sender or {"id": customer, "name": "Customer One", "page_customer_id": f"pc_{customer}"},
                "attachments": [],
                "is_removed": False,
                "edit_history": None,
                **message,
            },
            "post": None,
        },
    }


def staff(page_id: str = PAGE) -> dict[str, Any]:
    """The sender of an answer of the page's staff."""
    return {"id": page_id, "name": "Demo Shop", "uid": "u1", "admin_id": "9001", "admin_name": "Agent A"}


def posted(post_id: str = f"{PAGE}_1", *, page_id: str = PAGE, **post: Any) -> dict[str, Any]:
    """A post of the page."""
    whole = {"id": post_id, "type": "photo", "message": "hàng mới về", "inserted_at": "2026-05-14T04:02:01", **post}
    return {"page_id": page_id, "event_type": "post", "data": {"post": whole}}


def with_hooks(settings: Settings, *page_ids: str, secret: str | None = SECRET) -> Settings:
    """`settings` that take events of `page_ids`; of the stored pages where none is given."""
    changed = {"webhook_secret": SecretStr(secret) if secret else None, "page_ids": page_ids}
    return settings.replace(pancake=settings.pancake.model_copy(update=changed))


@dataclass(frozen=True)
class Door:
    """The HTTP side while it serves. `client` is a connection of the test's own."""

    port: int
    client: httpx.AsyncClient

    @property
    def url(self) -> str:
        """Where Pancake posts to."""
        return f"http://127.0.0.1:{self.port}/hooks/pancake/{SECRET}"

    async def post(self, event: object, **options: Any) -> httpx.Response:
        """One event with the right secret."""
        return await self.client.post(self.url, json=event, **options)


class _Server(uvicorn.Server):
    """uvicorn without its hands on the process's signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def open_door(settings: Settings) -> AsyncIterator[Door]:
    """The app of `settings` behind a real uvicorn."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(create_app(settings), log_config=None, lifespan="on", access_log=False)
        server = _Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        try:
            while not server.started:
                assert not serving.done(), "the app did not start"
                await asyncio.sleep(0.005)
            port = listening.getsockname()[1]
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                yield Door(port, client)
        finally:
            server.should_exit = True
            await serving
