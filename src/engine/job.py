"""A job that can be run: its declaration, and the coroutine that does it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec

from ..deps import Deps
from .declaration import Declaration

P = ParamSpec("P")


class Outcome(str):
    """The one word a job ends with (`synced`, `unchanged`, ...), and what there is to say beside it, JSON-able."""

    details: dict[str, Any]

    def __new__(cls, word: str, **details: Any) -> "Outcome":
        """`Outcome("synced", rows=12)` is the word `synced` with a detail."""
        self = super().__new__(cls, word)
        self.details = details
        return self


@dataclass(frozen=True)
class Job(Generic[P]):
    """`run(deps, ...)` does what `declaration` names."""

    declaration: Declaration[P]
    run: Callable[Concatenate[Deps, P], Awaitable[str]]

    @property
    def name(self) -> str:
        """The name under which the job is enqueued."""
        return self.declaration.name

    async def spawn(self, deps: Deps, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Hand a child job on; returns False where one with the same unique key already waits or runs."""
        return await deps.hands.spawn(self.name, self.declaration.arguments(*args, **kwargs))
