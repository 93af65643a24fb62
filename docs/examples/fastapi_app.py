"""FastAPI: one queue for the whole app, opened and closed with it.

REDIS_URL=redis://localhost:6379/0 uvicorn fastapi_app:app
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from folkform_worker.enqueue import JobInfo, JobQueue, Misuse, Transient
from pydantic import BaseModel


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connects at the first call, so the app starts whether or not Redis is up."""
    async with JobQueue.connect(os.environ.get("REDIS_URL", "redis://localhost:6379/0")) as queue:
        app.state.queue = queue
        yield


def the_queue(request: Request) -> JobQueue:
    """The app's queue, for every handler that asks for it."""
    queue: JobQueue = request.app.state.queue
    return queue


Jobs = Annotated[JobQueue, Depends(the_queue)]
app = FastAPI(lifespan=lifespan)


@app.exception_handler(Misuse)
async def wrong_call(_: Request, error: Misuse) -> JSONResponse:
    """Unknown job, wrong argument, payload too large: nothing was enqueued."""
    return JSONResponse({"error": str(error)}, 422)


@app.exception_handler(Transient)
async def away(_: Request, error: Transient) -> JSONResponse:
    """Redis did not confirm in time; the caller may send the same again."""
    return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "5"})


class Payment(BaseModel):
    """A payment that came in."""

    payment_id: str
    merchant_id: str
    amount_vnd: int


@app.post("/payments", status_code=202)
async def payment_completed(payment: Payment, queue: Jobs) -> dict[str, str]:
    """Tell the merchant. When this answers 202 the event is stored; sent twice, it is the same job."""
    job_id = await queue.enqueue_webhook(
        payment.merchant_id, "payment.completed", payment.model_dump(), idempotency_key=payment.payment_id
    )
    return {"job_id": job_id}


@app.post("/pages/{page_id}/sync", status_code=202)
async def sync_page(page_id: str, queue: Jobs, mode: str = "incremental") -> dict[str, str]:
    """Read a page now. While a pass of it waits or runs, the answer is that pass."""
    return {"job_id": await queue.enqueue("sync_page_customers", page_id=page_id, mode=mode, priority=1)}


@app.get("/jobs/{job_id}")
async def job(job_id: str, queue: Jobs) -> JobInfo:
    """Where a job is: pending, scheduled, retry, active, done or dead."""
    info = await queue.job(job_id)
    if info is None:
        raise HTTPException(404, "no such job, or it ended more than a minute ago")
    return info
