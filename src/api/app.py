"""The HTTP side as an ASGI app, for `uvicorn src.api.app:app`; more processes (`--workers`) need no agreement.

- `POST /hooks/pancake/{secret}`: see `hooks.py`
- `GET /health/live`: 200 while the process serves
- `GET /health/ready`: 200 while Redis answers, else 503

Settings are read when it starts. Redis and MongoDB may be away then: it starts, and answers 503 until events can be
stored. uvicorn's access log would show the address with the secret, so it is switched off here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

from loguru import logger
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..catalog import CATALOG
from ..clients.redis import connect, ping
from ..engine.queue import Queue
from ..errors import ServiceError
from ..log import configure_logging
from ..settings import Settings, load_settings
from ..sync.known_pages import KnownPages
from ..traced import traced
from .answers import as_json, problem
from .hooks import Hooks, Strangers, pancake_hook
from .intake import Intake
from .pages import page_list

FIRST_LIST_S = 2.0  # nothing is answered before
SHORT_SECRET = 16  # characters; fewer can be guessed

State = Mapping[str, Any]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[State]]


def create_app(settings: Settings | None = None) -> Starlette:
    """The app. Without `settings` it is the process's own: it reads the environment and takes over the log."""
    app = Starlette(
        routes=[
            Route("/hooks/pancake/{secret}", _Asgi(), methods=None),
            Route("/health/live", _live, methods=["GET"]),
            Route("/health/ready", _ready, methods=["GET"]),
        ],
        lifespan=_lifespan(settings),
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    app.router.redirect_slashes = False  # it would send the secret back in a header
    return app


class _Asgi:
    """A class, because a plain function would be called with a request."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await pancake_hook(scope, receive, send)


def _lifespan(given: Settings | None) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[State]:
        settings = given or _own_settings()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(traced(settings, f"{settings.service.service_name_worker}-api"))
            redis = connect(settings.redis, Redis)
            stack.push_async_callback(redis.aclose, close_connection_pool=True)
            pages = KnownPages(page_list(settings, stack))
            stack.push_async_callback(pages.close)
            await _first_list(pages)
            hooks = Hooks(_secret(settings), pages, Intake(Queue(redis, CATALOG)), Strangers())
            logger.info("taking events", redis=settings.redis.shown)
            yield {"hooks": hooks, "redis": redis, "settings": settings}

    return lifespan


def _own_settings() -> Settings:
    settings = load_settings()
    service = settings.service
    fields = {"service": f"{service.service_name_worker}-api", "environment": service.environment}
    configure_logging(
        service.log_level, service.log_format, directory=service.log_dir, name="api", fields=fields, zone=service.zone
    )
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"
    return settings


def _secret(settings: Settings) -> bytes | None:
    secret = settings.pancake.webhook_secret
    if secret is None:
        logger.warning("PANCAKE_WEBHOOK_SECRET is not set: no event of Pancake is taken")
        return None
    if len(secret.get_secret_value()) < SHORT_SECRET:
        logger.warning(f"PANCAKE_WEBHOOK_SECRET is shorter than {SHORT_SECRET} characters and can be guessed")
    return secret.get_secret_value().encode()


async def _first_list(pages: KnownPages) -> None:
    try:
        async with asyncio.timeout(FIRST_LIST_S):
            await pages.refresh()
    except Exception as e:  # noqa: BLE001 - until it can be read, events of every page are taken and the job decides
        logger.warning("pages not read, events of all are taken", error=type(e).__name__)


async def _live(_: Request) -> Response:
    return as_json({"status": "live"})


async def _ready(request: Request) -> Response:
    try:
        await ping(request.state.redis, request.state.settings.redis)
    except ServiceError:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "Redis does not answer", headers={"Retry-After": "2"})
    return as_json({"status": "ready"})


async def _refused(_: Request, error: Exception) -> Response:
    status = HTTPStatus(error.status_code if isinstance(error, HTTPException) else 500)
    headers = error.headers if isinstance(error, HTTPException) else None
    return problem(
        status, "there is nothing here" if status == HTTPStatus.NOT_FOUND else status.phrase, headers=headers
    )


async def _failed(_: Request, __: Exception) -> Response:
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of ours; it is in the log")


app = create_app()
