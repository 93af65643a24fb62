"""MongoDB is away, and with it the outbox and all that is known of who was told: Redis counts meanwhile, and who looks
after the service is told straight through the channels, once.

Where Redis is away as well nothing runs, and nothing can be told from here: let something outside watch `arq --check`
or the port of the metrics.
"""

import asyncio
from math import ceil

from loguru import logger
from redis.exceptions import RedisError

from ..alerts.notices import tell
from ..clients import mongo
from ..clients.channels import Note
from ..deps import Deps
from ..engine.boundary import in_words
from ..errors import ServiceError
from ..rules.alert_text import Line, Text, compose
from ..rules.recipients import recipient_of
from .health import Looked, MongoAway, look_around

AWAY = "folkform:health:mongodb:away"  # how many looks in a row found MongoDB away
TOLD = "folkform:health:mongodb:told"  # since when, Unix seconds: it was told
BACK = "folkform:health:mongodb:back"  # there for as long as agents have to check in again
COUNTED_S, TOLD_S = 600, 7 * 86_400
SEND_S = 30.0  # to all addresses


async def look_or_tell(deps: Deps) -> Looked:
    """Look around; where MongoDB is away count that, and from MONITOR_HEALTH_FAILURES on have it told. Raises nothing
    for it: the next minute looks again, and tries that are used up would only end in a dead letter.
    """
    try:
        looked = await look_around(deps)
    except MongoAway as e:
        logger.error("MongoDB is away", error=str(e))
        return Looked(0, 1, int(await _away(deps, str(e))), 0)
    since = await deps.redis.get(TOLD)
    if since is not None:
        await _back(deps, float(since))
    if await deps.redis.exists(AWAY, TOLD):
        await deps.redis.set(BACK, "1", ex=ceil(deps.settings.monitor.agent_offline_seconds))
        await deps.redis.delete(AWAY, TOLD)
    return looked


async def was_away(deps: Deps) -> bool:
    """Whether MongoDB is away, or was until a moment ago: who was not heard of had nowhere to be heard."""
    return bool(await deps.redis.exists(AWAY, BACK))


async def _away(deps: Deps, error: str) -> bool:
    """Count it; returns whether it was told now. Of several workers one tells."""
    try:
        times = int(await deps.redis.incr(AWAY))
        await deps.redis.expire(AWAY, COUNTED_S)
        if times < deps.settings.monitor.health_failures:
            return False
        since = deps.now() - (times - 1) * 60.0
        if not await deps.redis.set(TOLD, f"{since:.0f}", nx=True, ex=TOLD_S):
            return False
        if await _send(deps, _text(deps, since, error, is_over=False), f"mongodb_{since:.0f}"):
            return True
        await deps.redis.delete(TOLD)  # nobody heard: again with the next look
    except RedisError as e:
        logger.error("that MongoDB is away was not told", error=type(e).__name__)
    return False


async def _back(deps: Deps, since: float) -> None:
    text = _text(deps, since, "", is_over=True)
    title = text.title.partition(" ")[2]  # a plain message gets its own sign
    for to in deps.settings.alerts.operations_to:
        await tell(deps, to, note_id=f"mongodb_{since:.0f}", title=title, text=text.body)


async def _send(deps: Deps, text: Text, note_id: str) -> bool:
    """Returns whether anybody was reached, or nobody is to be."""
    note = Note(note_id, text.title, text.body, severity=text.severity)

    async def to_one(to: str) -> bool:
        try:
            async with asyncio.timeout(SEND_S):
                await deps.channels.send(recipient_of(to), note)
        except (ServiceError, TimeoutError, *mongo.FAILURES) as e:
            logger.error("that MongoDB is away was not told", channel=to.partition(":")[0], error=in_words(e, deps))
            return False
        return True

    addresses = deps.settings.alerts.operations_to
    return not addresses or any(await asyncio.gather(*map(to_one, addresses)))


def _text(deps: Deps, since: float, error: str, *, is_over: bool) -> Text:
    minutes = (deps.now() - since) / 60
    line = Line("unhealthy", "critical", is_over, minutes, {"name": "MongoDB", "error": error})
    return compose([line], deps.settings.alerts.language)
