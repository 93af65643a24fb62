"""The jobs of a lane, or of all, as a person wants to see them."""

from . import keys
from .facts import JobInfo, State, as_text
from .queue import Queue

ORDER: tuple[State, ...] = ("active", "pending", "retry", "scheduled")


async def listed(queue: Queue, lane: str | None, limit: int) -> list[tuple[str, JobInfo]]:
    """Jobs that run or wait, with their ids, at most `limit`: running ones first, then in the order of `ORDER`.

    Of one lane in the order they will run, of all lanes the oldest first. Raises Misuse on a lane there is not.
    """
    lanes = [await queue.known_lane(lane)] if lane is not None else list(await queue.stats())
    ids: dict[str, None] = {}  # a job runs and stands in its lane at once
    for name in lanes:
        running = await queue.redis.execute_command("HKEYS", keys.RUNNING + name)
        ids.update(dict.fromkeys(as_text(job_id) for job_id in running[:limit]))
        ids.update(dict.fromkeys(await queue.waiting(name, limit)))
    infos = await queue.jobs(list(ids))
    found = [(job_id, info) for job_id, info in zip(ids, infos, strict=True) if info and info.state in ORDER]
    found.sort(key=lambda job: (ORDER.index(job[1].state), 0.0 if lane is not None else job[1].enqueued_at))
    return found[:limit]
