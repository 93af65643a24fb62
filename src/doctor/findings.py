"""What a check found, as one line: `ok`, `note` where something is to be known and nothing is broken, `WRONG`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from redis.exceptions import RedisError

from ..clients import mongo
from ..errors import ServiceError

Say = Callable[[str], None]
Level = Literal["ok", "note", "WRONG"]


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence a person should read; the service does its work all the same."""

    text: str


async def tried(say: Say, what: str, check: Callable[[], Awaitable[str | Note]]) -> bool:
    """Say what `check` found; returns False where it raised one of our errors, or its server went away."""
    try:
        found = await check()
    except ServiceError as e:
        say(line("WRONG", what, str(e)))
        return False
    except (RedisError, OSError, *mongo.FAILURES) as e:
        say(line("WRONG", what, f"no answer any more ({type(e).__name__})"))
        return False
    say(line("note", what, found.text) if isinstance(found, Note) else line("ok", what, found))
    return True


def line(level: Level, what: str, text: str) -> str:
    """One finding as it is printed."""
    return f"{level: <5} {what}: {text}"
