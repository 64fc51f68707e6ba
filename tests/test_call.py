"""The way from a public verb to the socket."""

from __future__ import annotations

import asyncio
import sys

import aiohttp

from aioparticipants import InsightsSession

#: The most frames of the package between a verb and aiohttp, and of those the most from
#: `PagesAhead.next` on.
MOST_FRAMES, MOST_BELOW_THE_STREAM = 9, 6


def waiting_in(task):
    """Return the functions of the package that a waiting task is in, the outermost first."""
    frames, awaited = [], task.get_coro()
    while hasattr(awaited, "cr_frame"):
        frames.append(awaited.cr_frame)
        awaited = awaited.cr_await
    return ours(frames)


def running_in():
    """Return the functions of the package that the running task is in, the outermost first."""
    frames, frame = [], sys._getframe()
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return ours(reversed(frames))


def ours(frames):
    return [
        frame.f_code.co_qualname
        for frame in frames
        if frame.f_globals["__name__"].startswith("aioparticipants.")
    ]


async def test_frames_between_a_verb_and_aiohttp(fake):
    """From `anext` to aiohttp a reader goes through few functions, in two tasks."""
    sid, found = fake.add_conference(participants=1), []
    trace = aiohttp.TraceConfig()

    async def on_request_start(*_):
        found.append((waiting_in(consumer), running_in()))

    async def consume(session):
        return await anext(session.participants(sid))

    trace.on_request_start.append(on_request_start)
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, trace_configs=[trace]
    ) as session:
        consumer = asyncio.create_task(consume(session))
        await consumer

    [(above, below)] = found
    assert (above[0], above[-1]) == ("RecordStream.__anext__", "PagesAhead.next")
    assert (below[0], below[-1]) == ("Call.page", "Transport._exchange")
    assert len(above) + len(below) <= MOST_FRAMES
    assert 1 + len(below) <= MOST_BELOW_THE_STREAM
