"""The declaration of a job: its coroutine, and its limits beside it."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec

from pydantic import ConfigDict, ValidationError, create_model

from ..deps import Deps
from ..errors import Misuse

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
    """A job: `run(deps, ...)` with its limits.

    `timeout_s`: of one attempt, None for WORKER_DEFAULT_TIMEOUT_SECONDS. `max_tries`: attempts that may fail before
    the dead letter. `unique_key`: from the arguments, the thing of which only one may wait or run; None for no limit.
    `scheduled_arguments`: what its schedule calls it with.
    """

    run: Callable[Concatenate[Deps, P], Awaitable[str]]
    lane: str
    timeout_s: float | None = None
    max_tries: int = 5
    unique_key: Callable[P, str] | None = None
    scheduled_arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The coroutine's own name, under which the job is enqueued."""
        return self.run.__name__

    async def spawn(self, deps: Deps, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Hand a child job on; returns False where one with the same unique key already waits or runs."""
        return await deps.spawn(self.name, self.key(*args, **kwargs), self.arguments(*args, **kwargs))

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """`<job>:<unique key>` for these arguments, or None."""
        return f"{self.name}:{self.unique_key(*args, **kwargs)}" if self.unique_key else None

    def arguments(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The arguments by name."""
        return dict(self._signature.bind(*args, **kwargs).arguments)

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name as any arq client may have sent them; too many are given names that `checked` refuses."""
        names = [*self._signature.parameters, *(f"argument_{number}" for number in range(1, len(args) + 1))]
        return {**dict(zip(names, args, strict=False)), **kwargs}

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """`arguments` as the coroutine's types have it (`"7"` becomes 7). Raises Misuse, saying how to call it."""
        fields: dict[str, Any] = {
            name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
            for name, parameter in self._signature.parameters.items()
        }
        model = create_model(
            self.name,
            __config__=ConfigDict(extra="forbid", hide_input_in_errors=True, coerce_numbers_to_str=True),
            **fields,
        )
        try:
            accepted = model(**arguments)
        except ValidationError as e:
            faults = "; ".join(f"{fault['loc'][0]}: {fault['msg'].lower()}" for fault in e.errors(include_url=False))
            shown = self._signature.replace(return_annotation=inspect.Signature.empty)
            raise Misuse(f"{self.name}{shown}: {faults}") from e
        return {name: getattr(accepted, name) for name in fields}

    @property
    def _signature(self) -> inspect.Signature:
        signature = inspect.signature(self.run)
        return signature.replace(parameters=list(signature.parameters.values())[1:])
