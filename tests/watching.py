"""Eyes for streams that are made without a session, and patience."""

from __future__ import annotations

import asyncio
import time

from aioparticipants._observing import ListWatch


def watch(told=None, *, clock=time.monotonic, tracer=None):
    """Return a watch over a list that appends its events to `told`, if that is given."""
    tell = (lambda _: None) if told is None else told.append
    return ListWatch(tell, "CF", clock=clock, tracer=tracer)


async def until(condition):
    """Give the loop its turns until something is so."""
    while not condition():  # noqa: ASYNC110 - turns of the loop, not time
        await asyncio.sleep(0)
