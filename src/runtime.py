"""How our processes run: the event loop, and when Python looks for garbage."""

import asyncio
import gc

import uvloop

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
