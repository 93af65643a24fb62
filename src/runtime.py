"""How our processes run: the event loop, when Python looks for garbage, and what they say when they die of a bug."""

import asyncio
import gc
import sys
from types import TracebackType

import uvloop

from .log.lines import stack_of

YOUNG_OBJECTS = 10_000


def prepare_process() -> None:
    """Call once, when everything is imported and before the event loop starts.

    A page of 100 customers is some thousand containers, so Python's default of looking for cycles every 700 cost a
    third of a backfill's time; what was imported lives for ever and need not be looked at.
    """
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    sys.excepthook = last_words


def last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The traceback of what ends the process, as Python would print it, without the secrets."""
    sys.stderr.write(stack_of(error))
