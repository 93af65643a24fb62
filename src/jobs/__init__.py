"""Every job there is, listed by hand so that grep finds it."""

from itertools import chain
from typing import Any

from ..engine.job import Job
from . import (
    agents,
    conversations,
    customers,
    events,
    health,
    machine,
    monitoring,
    pages,
    posts,
    reports,
    staff,
    webhooks,
)

FAMILIES = (
    pages,
    customers,
    posts,
    conversations,
    staff,
    events,
    monitoring,
    agents,
    health,
    machine,
    reports,
    webhooks,
)
ALL_JOBS: dict[str, Job[Any]] = {job.name: job for job in chain.from_iterable(family.JOBS for family in FAMILIES)}
