"""What we ask of Redis in one step: the Lua scripts of `lua/`, each with the key names and helpers it uses."""

from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from .keys import LUA

_FOLDER = files(__package__) / "lua"


#: Each script with the parts it is made of beside `common`.
_PARTS = {
    "enqueue": ("put",),
    "claim": (),
    "renew": (),
    "finish": ("let_go",),
    "hurry": (),
    "stats": (),
    "tick": ("let_go", "stop", "put"),
    "look": (),
    "cancel": ("let_go", "stop"),
}


def _text(name: str, parts: tuple[str, ...]) -> str:
    files_ = ("common", *parts, name)
    return "\n".join([LUA, *((_FOLDER / f"{part}.lua").read_text(encoding="utf-8") for part in files_)])


_TEXTS = {name: _text(name, parts) for name, parts in _PARTS.items()}


class Scripts:
    """The scripts bound to one connection pool; a Redis that lost them (restart, failover, flush) is given them again.

    All of them can be repeated: see the head of each file.
    """

    def __init__(self, redis: Redis) -> None:
        self._scripts = {name: redis.register_script(text) for name, text in _TEXTS.items()}

    async def __call__(self, name: str, args: list[Any]) -> Any:
        """Run script `name` with ARGV `args` (bytes, str, int or float) and return its reply."""
        return await self._scripts[name](args=args)
