"""Every job there is, listed by hand so that grep finds it."""

from typing import Any

from ..engine.job import Job
from . import customers, pages, webhooks

ALL_JOBS: dict[str, Job[Any]] = {job.name: job for job in (*pages.JOBS, *customers.JOBS, *webhooks.JOBS)}
