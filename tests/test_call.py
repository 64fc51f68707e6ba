"""The way from a public verb to the socket."""

from __future__ import annotations

import asyncio

import aiohttp

from aioparticipants import InsightsSession

#: The most frames of the package between a verb and aiohttp, and of those the most from
#: `PagesAhead.next` on.
MOST_FRAMES, MOST_BELOW_THE_STREAM = 11, 6


def frames_of(task):
    """Return the functions of the package that a task is in, the outermost first."""
    found, awaited = [], task.get_coro()
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        found.append((frame.f_globals["__name__"], frame.f_code.co_qualname))
        awaited = awaited.cr_await
    return [name for module, name in found if module.startswith("aioparticipants.")]


async def test_frames_between_a_verb_and_aiohttp(fake):
    """From `anext` to aiohttp a reader goes through few functions, in two tasks."""
    sid, found = fake.add_conference(participants=1), []
    trace = aiohttp.TraceConfig()

    async def on_request_start(*_):
        found.append((frames_of(consumer), frames_of(asyncio.current_task())))

    async def consume(session):
        return await anext(session.participants(sid))

    trace.on_request_start.append(on_request_start)
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, trace_configs=[trace]
    ) as session:
        consumer = asyncio.create_task(consume(session))
        await consumer

    [(above, below)] = found
    assert (above[0], above[-1], below[0]) == (
        "RecordStream.__anext__", "PagesAhead.next", "Call.page",
    )  # fmt: skip
    assert len(above) + len(below) <= MOST_FRAMES
    assert 1 + len(below) <= MOST_BELOW_THE_STREAM
