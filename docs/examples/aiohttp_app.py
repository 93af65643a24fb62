"""aiohttp: one queue for the whole app, opened and closed with it.

REDIS_URL=redis://localhost:6379/0 PORT=8080 python aiohttp_app.py
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict

from aiohttp import web
from folkform_worker.enqueue import JobQueue, Misuse, Transient

QUEUE = web.AppKey("queue", JobQueue)
routes = web.RouteTableDef()


async def queue_of_the_app(app: web.Application) -> AsyncIterator[None]:
    """Connects at the first call, so the app starts whether or not Redis is up."""
    async with JobQueue.connect(os.environ.get("REDIS_URL", "redis://localhost:6379/0")) as queue:
        app[QUEUE] = queue
        yield


@web.middleware
async def errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Misuse is the caller's mistake, with nothing enqueued; Transient may be sent again."""
    try:
        return await handler(request)
    except Misuse as e:
        return web.json_response({"error": str(e)}, status=422)
    except Transient as e:
        return web.json_response({"error": str(e)}, status=503, headers={"Retry-After": "5"})


@routes.post("/payments")
async def payment_completed(request: web.Request) -> web.Response:
    """Tell the merchant. When this answers 202 the event is stored; sent twice, it is the same job."""
    payment = await request.json()
    job_id = await request.app[QUEUE].enqueue_webhook(
        payment["merchant_id"], "payment.completed", payment, idempotency_key=payment["payment_id"]
    )
    return web.json_response({"job_id": job_id}, status=202)


@routes.post("/pages/{page_id}/sync")
async def sync_page(request: web.Request) -> web.Response:
    """Read a page now. While a pass of it waits or runs, the answer is that pass."""
    job_id = await request.app[QUEUE].enqueue(
        "sync_page_customers",
        page_id=request.match_info["page_id"],
        mode=request.query.get("mode", "incremental"),
        priority=1,
    )
    return web.json_response({"job_id": job_id}, status=202)


@routes.get("/jobs/{job_id}")
async def job(request: web.Request) -> web.Response:
    """Where a job is: pending, scheduled, retry, active, done or dead."""
    info = await request.app[QUEUE].job(request.match_info["job_id"])
    if info is None:
        return web.json_response({"error": "no such job, or it ended more than a minute ago"}, status=404)
    return web.json_response(asdict(info))


def make_app() -> web.Application:
    """The app, for a server of your own choice."""
    app = web.Application(middlewares=[errors])
    app.cleanup_ctx.append(queue_of_the_app)
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
