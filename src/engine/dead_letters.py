"""What a person does with dead letters: look, replay, drop. Command line and HTTP call the same functions."""

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from redis.exceptions import RedisError

from ..clients.mongo import Document
from ..clients.redis import in_time
from ..deps import Deps
from ..errors import Misuse
from ..store.dead_letters import REPLAYED, Wanted
from . import keys
from .letters import REPLAY, traced_as
from .queue import NewJob, Queue

AT_ONCE = 200  # letters read, enqueued and noted together
PER_S = 20.0  # replayed jobs that fall due in a second, so that what was down is not knocked down again


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many letters fit, how many were enqueued again, and why others were not (letter id -> reason)."""

    matching: int
    enqueued: int
    refused: dict[str, str]


def possible_rate(per_s: float) -> float:
    """`per_s`. Raises Misuse on a rate that is none."""
    if not (0 < per_s < math.inf):
        raise Misuse("--per-second must be above 0")
    return per_s


async def replay(deps: Deps, queue: Queue, wanted: Wanted, *, per_s: float = PER_S, dry_run: bool = False) -> Replayed:
    """Enqueue the jobs of all letters that fit, `per_s` of them falling due each second.

    Safe to repeat and to kill: a letter is replayed under an id made of it, so its job is enqueued once; letters whose
    job fails again open again. With `dry_run` only counts. A letter that cannot be replayed stays as it is.
    """
    possible_rate(per_s)
    matching = await deps.dead_letters.matching(wanted)
    if dry_run:
        return Replayed(matching, 0, {})
    enqueued, refused, batch = 0, dict[str, str](), list[tuple[Document, NewJob]]()
    async for letter in deps.dead_letters.jobs(_until_now(wanted)):
        try:
            batch.append((letter, _again(queue, letter, delay_s=(enqueued + len(batch)) / per_s)))
        except Misuse as e:
            refused[str(letter["_id"])] = str(e)
        if len(batch) == AT_ONCE:
            enqueued += len(await _put(deps, queue, batch))
            batch = []
    enqueued += len(await _put(deps, queue, batch))
    await recount(deps)
    return Replayed(matching, enqueued, refused)


async def replay_one(deps: Deps, queue: Queue, letter_id: str) -> str:
    """Enqueue one letter's job now and return its id. Safe to repeat. Raises Misuse where there is no such letter."""
    letter = await _letter(deps, letter_id)
    if letter.get("status") == REPLAYED:
        return str(letter["replayedAs"])
    (job_id,) = await _put(deps, queue, [(letter, _again(queue, letter, delay_s=0.0))])
    await recount(deps)
    return job_id


async def drop(deps: Deps, wanted: Wanted, *, dry_run: bool = False) -> int:
    """Delete all letters that fit and return how many. With `dry_run` only counts."""
    if dry_run:
        return await deps.dead_letters.matching(wanted)
    dropped = 0
    async for letter in deps.dead_letters.jobs(_until_now(wanted)):
        dropped += await deps.dead_letters.drop(str(letter["_id"]))
    await recount(deps)
    return dropped


async def drop_one(deps: Deps, letter_id: str) -> int:
    """Delete one letter and return how many that were. Safe to repeat: one that is gone already is as it should be."""
    letter = await deps.dead_letters.get(letter_id)
    dropped = letter is not None and await deps.dead_letters.drop(str(letter["_id"]))
    await recount(deps)
    return int(dropped)


async def recount(deps: Deps) -> None:
    """Write the number of open letters per lane where `Queue.stats` finds it; stale where Redis is away."""
    counts = await deps.dead_letters.open_by_lane()
    try:
        async with in_time():
            lanes = {lane.decode() for lane in await deps.redis.execute_command("SMEMBERS", keys.LANES)} | set(counts)
            async with deps.redis.pipeline(transaction=False) as pipe:
                for lane in lanes:
                    pipe.hset(keys.COUNTS + lane, "dead", str(counts.get(lane, 0)))
                await pipe.execute()
    except (RedisError, OSError):
        return


def _until_now(wanted: Wanted) -> Wanted:
    """What fits at this moment: a job that fails again while we go through the letters is not met a second time."""
    now = datetime.now(UTC)
    return replace(wanted, until=min(wanted.until or now, now))


async def _letter(deps: Deps, letter_id: str) -> Document:
    letter = await deps.dead_letters.get(letter_id)
    if letter is None:
        raise Misuse(f"there is no dead letter {letter_id!r}; `dead-letters list` shows them")
    if letter["kind"] != "job":
        raise Misuse(f"{letter_id} is a row that was set aside, not a job: it is read again with its page")
    return letter


def _again(queue: Queue, letter: Document, *, delay_s: float) -> NewJob:
    """The letter's job, under an id of this letter and this failure of it."""
    job_id = f"{REPLAY}{letter['jobId']}:{letter['count']}"
    if raw := letter.get("raw"):
        try:
            bytes(raw).decode()
        except UnicodeDecodeError as e:
            raise Misuse("it is no JSON and can never be run: give its sender the serializer, and drop it") from e
        return NewJob(job_id, str(letter["lane"]), bytes(raw), int(delay_s * 1000), 0, "", 0)
    # a trace of its own, for whoever replays it, linked to the last attempt
    link = traced_as(letter)
    return queue.prepare(str(letter["job"]), letter["arguments"], delay_s=delay_s, job_id=job_id, link=link)


async def _put(deps: Deps, queue: Queue, batch: list[tuple[Document, NewJob]]) -> list[str]:
    ids = await queue.put([job for _, job in batch])
    for (letter, _), job_id in zip(batch, ids, strict=True):
        await deps.dead_letters.replayed(letter, job_id)
    return ids
