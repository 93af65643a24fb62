"""`doctor`: looks at everything the way a job would, and says what to do where something is wrong.

findings   a line, and what becomes of a check that fails
here       this machine: the metrics' port, LOG_DIR, traces
servers    Redis, MongoDB, and whether their clocks agree
running    workers, lanes, schedules
shop       Pancake, its pages, webhooks, alerts
"""

from contextlib import AsyncExitStack
from functools import partial

from ..deps import Deps, open_deps
from ..errors import ServiceError
from ..settings import Settings
from . import here, running, servers, shop
from .findings import Say, line, tried

__all__ = ["examine"]


async def examine(settings: Settings, say: Say) -> bool:
    """Check everything, one line a finding; returns whether all is well. Makes no token; creates missing indexes."""
    say("ok    settings")
    checks = [
        await tried(say, "metrics", partial(here.metrics_port, settings)),
        await tried(say, "logs", partial(here.log_dir, settings)),
        await tried(say, "traces", partial(here.traces, settings)),
    ]
    answering = [
        await tried(say, "Redis", partial(servers.redis, settings)),
        await tried(say, "MongoDB", partial(servers.mongodb, settings)),
    ]
    if not all(answering):
        say(
            line(
                "note", "workers, lanes, schedules, pages, webhooks, channels", "not looked at, that takes both servers"
            )
        )
        return False
    async with AsyncExitStack() as stack:
        try:
            deps = await stack.enter_async_context(open_deps(settings, may_mint=False))
        except ServiceError as e:
            say(f"WRONG {e}")
            return False
        checks += [
            await tried(say, "clocks", partial(servers.clocks, deps)),
            await tried(say, "workers", partial(running.workers, deps)),
            await tried(say, "lanes", partial(running.lanes, deps)),
            await tried(say, "schedules", partial(running.schedules, deps)),
        ]
        checks.append(await _shop(deps, say))
    return all(checks)


async def _shop(deps: Deps, say: Say) -> bool:
    try:
        found = await shop.pages(deps, say)
    except ServiceError as e:
        say(f"WRONG Pancake: {e}")
        return False
    checks = [await tried(say, f"page {page_id}", partial(shop.page, deps, page_id)) for page_id in found]
    checks.append(await tried(say, "webhooks", partial(shop.webhooks, deps)))
    checks.append(await tried(say, "alerts", partial(shop.alerts, deps)))
    for channel, is_well, sentence in await deps.channels.check():
        say(line("ok" if is_well else "WRONG", f"channel {channel}", sentence))
        checks.append(is_well)
    nameless = {"agents": await deps.agents.nameless(), "pages": await deps.pages.nameless()}
    for collection, count in nameless.items():
        if count:
            field = f"{collection.removesuffix('s')}Id"
            said = f"{count} documents have no {field} and are left out: give them one, or delete them"
            say(line("note", collection, said))
    if letters := await deps.dead_letters.count():
        say(f"note  {letters} dead letters wait to be read: `dead-letters list`")
    return all(checks)
