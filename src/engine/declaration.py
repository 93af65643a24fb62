"""What may be known of a job without being able to run it: its name, arguments, lane and limits.

Light on purpose: apps that only enqueue import it, so it knows nothing of what jobs use.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, ParamSpec

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import PydanticSerializationError

from ..errors import Misuse

P = ParamSpec("P")


@dataclass(frozen=True)
class Declaration(Generic[P]):
    """A job as its callers see it.

    `lane`: where it waits; `retry_lane`: where its later tries wait, None for the same. `timeout_s`: of one attempt,
    None for WORKER_DEFAULT_TIMEOUT_SECONDS. `max_tries`: attempts that may fail before the dead letter; between them
    full jitter over `retry_base_s` doubled each time, at most `retry_cap_s`, unless the failure names a time itself.
    `unique_key`: from the arguments, the thing of which only one may wait or run; None for no limit.
    `max_kills`: workers that may die while they run it before it is taken for the cause.
    `scheduled_arguments`: what its schedule calls it with. `history_days`: how long its runs are kept in `job_runs`,
    None for WORKER_HISTORY_DAYS. `ends_itself`: from the arguments, whether a run goes on for as long as its timeout
    lets it, and ends before: how long others took says nothing of it.
    """

    name: str
    signature: inspect.Signature
    lane: str
    retry_lane: str | None = None
    timeout_s: float | None = None
    max_tries: int = 5
    retry_base_s: float = 5.0
    retry_cap_s: float = 600.0
    max_kills: int = 3
    unique_key: Callable[P, str] | None = None
    scheduled_arguments: dict[str, Any] = field(default_factory=dict)
    history_days: float | None = None
    ends_itself: Callable[..., bool] | None = None

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """`<job>:<unique key>` for these arguments, or None."""
        return f"{self.name}:{self.unique_key(*args, **kwargs)}" if self.unique_key else None

    def is_to_end_itself(self, arguments: dict[str, Any]) -> bool:
        """Whether a run with these arguments `ends_itself`. Raises Misuse on wrong ones."""
        return self.ends_itself is not None and self.ends_itself(**self.checked(arguments))

    def arguments(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The arguments by name."""
        return dict(self.signature.bind(*args, **kwargs).arguments)

    def named(self, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name as any arq client may have sent them; what has no place gets a name `checked` refuses."""
        if not args:
            return kwargs
        names = [*self.signature.parameters, *(f"argument_{number}" for number in range(1, len(args) + 1))]
        by_place = {
            f"{name} (given twice)" if name in kwargs else name: arg for name, arg in zip(names, args, strict=False)
        }
        return by_place | kwargs

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """`arguments` as the job's types have it (`"7"` becomes 7). Raises Misuse, saying how to call it."""
        return dict(self._accepted(arguments).__dict__)

    def written(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """`arguments`, checked, as JSON can hold them. Raises Misuse on a wrong one, and on one JSON cannot hold."""
        try:
            return self._accepted(arguments).model_dump(mode="json", exclude_unset=True)
        except (PydanticSerializationError, ValueError) as e:
            raise Misuse(f"{self}: an argument cannot be written as JSON: {str(e).splitlines()[0]}") from e

    def __str__(self) -> str:
        return f"{self.name}{self.signature.replace(return_annotation=inspect.Signature.empty)}"

    def _accepted(self, arguments: dict[str, Any]) -> BaseModel:
        try:
            return self._model.model_validate(arguments)
        except ValidationError as e:
            faults = "; ".join(f"{fault['loc'][0]}: {fault['msg'].lower()}" for fault in e.errors(include_url=False))
            raise Misuse(f"{self}: {faults}") from e

    @cached_property
    def _model(self) -> type[BaseModel]:
        fields: dict[str, Any] = {
            name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
            for name, parameter in self.signature.parameters.items()
        }
        config = ConfigDict(extra="forbid", hide_input_in_errors=True, coerce_numbers_to_str=True)
        return create_model(self.name, __config__=config, **fields)


def declare(**limits: Any) -> Callable[[Callable[P, None]], Declaration[P]]:
    """Make a declaration of a stub: its name and parameters are the job's, `limits` are the fields of Declaration.

    The coroutine that does the work stands in `jobs/` and takes `deps` before the same parameters.
    """

    def of(stub: Callable[P, None]) -> Declaration[P]:
        return Declaration(stub.__name__, inspect.signature(stub), **limits)

    return of
